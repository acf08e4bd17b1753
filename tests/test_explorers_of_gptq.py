"""The explorers of notebook 08 against GPTQ written out, and what the notebook says about them."""

import re
import xml.etree.ElementTree as ET

import course
import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers import exercises
from quantlab_helpers.explorers import gptq_columns, gptq_settings

NOTEBOOK = "08_gptq"
RNG = np.random.default_rng(21)
MIXED = RNG.normal(size=(16, 16)) * RNG.uniform(0.2, 3, 16)
WEIGHT = RNG.normal(size=(5, 16)).astype(np.float32)
INPUTS = (RNG.normal(size=(60, 16)) @ MIXED).astype(np.float32)
HELDOUT = (RNG.normal(size=(30, 16)) @ MIXED).astype(np.float32)


def _relative(x, weight, restored):
    return np.linalg.norm(x @ (restored - weight).T) / np.linalg.norm(x @ weight.T)


def _states(num_bits, order):
    """The matrix after each column, in the order of rounding, by the loop of the exercises, in float64."""
    H = 2 * INPUTS.T.astype(np.float64) @ INPUTS
    order = np.argsort(-np.diag(H)) if order == "largest first" else np.arange(16)
    H = H[np.ix_(order, order)] + 0.01 * np.diag(H).mean() * np.eye(16)
    U = np.linalg.cholesky(np.linalg.inv(H)).T
    W = WEIGHT[:, order].astype(np.float64)
    qmax = 2**num_bits - 1
    low, high = np.minimum(W.min(axis=1), 0), np.maximum(W.max(axis=1), 0)
    scale = (high - low) / qmax
    zero_point = np.rint(-low / scale)
    states = [W.copy()]
    for j in range(16):
        codes, W[:, j + 1 :] = exercises.get("gptq_column").reference(W[:, j:], U[j, j:], scale, zero_point, qmax)
        W[:, j] = scale * (codes - zero_point)
        states.append(W.copy())
    return order, states


@pytest.mark.parametrize("order", ["left to right", "largest first"])
@pytest.mark.parametrize("num_bits", [3, 4])
def test_columns_are_where_gptq_has_them(num_bits, order):
    explorer = gptq_columns(WEIGHT, INPUTS, HELDOUT)
    columns, states = _states(num_bits, order)
    nearest = ql.quantize(WEIGHT, num_bits, symmetric=False, per="channel").dequantize()
    worst = np.linalg.norm(HELDOUT @ (nearest - WEIGHT).T, axis=0).argmax()
    for done, state in enumerate(states):
        result = explorer.compute(num_done=done, num_bits=num_bits, order=order)
        assert result.row == worst
        np.testing.assert_array_equal(result.original, WEIGHT[worst, columns])
        np.testing.assert_allclose(result.weights, state[worst], atol=1e-5)  # float32 scales
        error = _relative(HELDOUT[:, columns], WEIGHT[:, columns], state)
        assert result.gptq_errors[done] == pytest.approx(error, abs=1e-5)
        halfway = np.where(np.isin(np.arange(16), columns[:done]), nearest, WEIGHT)
        assert result.rtn_errors[done] == pytest.approx(_relative(HELDOUT, WEIGHT, halfway), abs=1e-5)
        on_levels = np.abs(result.weights[:done, None] - result.levels).min(axis=1, initial=np.inf)
        assert done == 0 or on_levels.max() < 1e-5
        assert result.reach[0] <= result.weights.min() and result.weights.max() <= result.reach[1]


def test_columns_end_at_the_whole_algorithm():
    result = gptq_columns(WEIGHT, INPUTS, HELDOUT).compute(num_done=16, num_bits=4, order="left to right")
    restored = ql.gptq(WEIGHT, INPUTS, 4).dequantize()
    np.testing.assert_allclose(result.weights, restored[result.row], atol=1e-6)
    assert result.gptq_errors[-1] == pytest.approx(_relative(HELDOUT, WEIGHT, restored), abs=1e-6)


def test_of_a_large_matrix_the_columns_with_large_inputs_are_taken():
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(3, 100)).astype(np.float32), rng.normal(size=(50, 100))
    x[:, 10:58] *= 5
    result = gptq_columns(weight, x, x).compute(num_done=0, num_bits=3, order="left to right")
    np.testing.assert_array_equal(result.original, weight[result.row, 10:58])


@pytest.mark.parametrize("scales", ["one per row", "groups of 8", "groups of 4"])
@pytest.mark.parametrize("num_tokens", [1, 7, 60])
def test_settings_are_those_of_gptq(num_tokens, scales):
    explorer = gptq_settings(WEIGHT, INPUTS, HELDOUT)
    assert explorer.controls[1].positions == (1, 7, 60)
    assert explorer.controls[2].positions == ("one per row", "groups of 8", "groups of 4", "groups of 2")
    size = None if scales == "one per row" else int(scales.split()[-1])
    result = explorer.compute(damping=0.1, scales=scales, num_tokens=num_tokens)
    for i, damping in enumerate(explorer.controls[0].positions):
        quantized = ql.gptq(WEIGHT, INPUTS[:num_tokens], 4, group_size=size, damping=damping)
        restored = quantized.dequantize()
        assert result.calibration_errors[i] == pytest.approx(_relative(INPUTS[:num_tokens], WEIGHT, restored), rel=1e-4)
        assert result.heldout_errors[i] == pytest.approx(_relative(HELDOUT, WEIGHT, restored), rel=1e-4)
    per = "group" if size else "channel"
    nearest = ql.quantize(WEIGHT, 4, symmetric=False, per=per, group_size=size)
    assert result.rtn_error == pytest.approx(_relative(HELDOUT, WEIGHT, nearest.dequantize()), rel=1e-4)
    assert result.bits_per_weight == nearest.bits_per_weight == quantized.bits_per_weight


def test_the_sentences_say_the_numbers():
    explorer = gptq_columns(WEIGHT, INPUTS, HELDOUT)
    result = explorer.compute(num_done=9, num_bits=4, order="largest first")
    sentence = explorer.sentence(num_done=9, num_bits=4, order="largest first")
    assert "4 bits, largest first, 9 of 16 columns done" in sentence
    assert f"GPTQ {100 * result.gptq_errors[9]:.1f} %, round to nearest {100 * result.rtn_errors[9]:.1f} %" in sentence
    explorer = gptq_settings(WEIGHT, INPUTS, HELDOUT)
    result = explorer.compute(damping=1.0, scales="groups of 4", num_tokens=7)
    sentence = explorer.sentence(damping=1.0, scales="groups of 4", num_tokens=7)
    assert "groups of 4" in sentence and "7 tokens" in sentence and "damping 1:" in sentence
    for error in (result.calibration_errors[4], result.heldout_errors[4], result.rtn_error):
        assert f"{100 * error:.1f} %" in sentence


@pytest.mark.parametrize("make", [gptq_columns, gptq_settings])
@pytest.mark.parametrize(
    ("weight", "x"),
    [
        ([[1.0]], [[2.0]]),
        (np.zeros((2, 4)), np.zeros((3, 4))),
        (np.ones((2, 3)), np.array([[0.0, 1.0, 0.0]])),  # inputs that are always 0
        (np.full((2, 2), 1e20), np.full((3, 2), -1e10)),
        (WEIGHT.astype(np.float16), np.asfortranarray(INPUTS)),
        (WEIGHT, INPUTS.reshape(2, 30, 16)),
    ],
    ids=["one number", "zeros", "dead inputs", "huge", "float16", "a batch"],
)
def test_layers_of_the_learners_own(make, weight, x):
    explorer = make(weight, x, x)
    for positions in explorer.positions():
        frame = explorer.frame(**positions)
        ET.fromstring(frame)
        assert "nan" not in frame and "inf" not in frame


@pytest.mark.parametrize("make", [gptq_columns, gptq_settings])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((WEIGHT, INPUTS[:, :5], HELDOUT), "must have 16 values"),
        ((WEIGHT, INPUTS, HELDOUT[:, :5]), "must have 16 values"),
        ((WEIGHT[0], INPUTS, HELDOUT), "weight must have 2 axes"),
        ((np.full((2, 16), np.nan), INPUTS, HELDOUT), "weight must"),
        ((WEIGHT, INPUTS, np.full((2, 16), np.inf)), "heldout must"),
    ],
)
def test_refuses_what_is_no_layer(make, arguments, named):
    with pytest.raises((ValueError, TypeError), match=named):
        make(*arguments)


@pytest.fixture(scope="module")
def shown():
    return course.explorers_in(NOTEBOOK)


def _noticed():
    prose = [cell.source for cell in course.read(NOTEBOOK).cells if cell.cell_type == "markdown"]
    return [source for source in prose if source.startswith("**What to notice.**")]


def test_what_the_notebook_says_to_notice_about_the_columns(shown):
    columns, noticed = shown[0], _noticed()[0]

    def errors(order):
        result = columns.compute(num_done=48, num_bits=3, order=order)
        return np.round(100 * result.gptq_errors, 1), np.round(100 * result.rtn_errors, 1)

    (gptq, nearest), (gptq_first, nearest_first) = errors("left to right"), errors("largest first")
    assert np.diff(nearest).argmax() == 24  # from 24 columns done to 25
    size = np.linalg.norm(ql.layer_inputs().calibration, axis=0)  # of each input
    assert np.sort(np.argsort(-size)[:48])[24] == size.argmax()
    assert f"at the 25th, round to nearest jumps from {nearest[24]} to {nearest[25]} %" in noticed
    assert f"GPTQ goes from {gptq[24]} to {gptq[25]} %" in noticed
    before, after = (columns.compute(num_done=done, num_bits=3, order="left to right") for done in (24, 25))
    levels = np.abs(after.weights - before.weights)[25:] / np.diff(before.levels)[0]
    assert np.sum(levels > 1) == 2
    assert f"{gptq_first[1]} % in place of {nearest_first[1]} %" in noticed
    assert f"in the end {gptq_first[-1]} % where left to right ends at {gptq[-1]} %" in noticed
    assert nearest[-1] == nearest_first[-1]


def test_what_the_notebook_says_to_notice_about_the_settings(shown):
    settings, noticed = shown[1], _noticed()[1]
    dampings = settings.controls[0].positions

    def at(num_tokens, scales="groups of 64"):
        return settings.compute(damping=0.01, scales=scales, num_tokens=num_tokens)

    few, many = at(32), at(1024)
    assert dampings[few.heldout_errors.argmin()] == 1
    assert dampings[many.heldout_errors.argmin()] == 0.1
    assert f"{100 * few.heldout_errors.min():.1f} %, against {100 * few.heldout_errors[2]:.1f} %" in noticed
    for result in (few, many):
        assert result.calibration_errors[:3].argmin() < 3  # the dashed curve: less damping
        assert (np.diff(result.calibration_errors[2:]) > 0).all()
        gaps = result.heldout_errors - result.calibration_errors
        assert (np.diff(gaps) < 0).all()
    coarse, fine = at(1024, "one per row"), at(1024, "groups of 16")
    assert f"{100 * coarse.heldout_errors[2]:.1f} %, at {coarse.bits_per_weight:.2f} bits" in noticed
    assert f"{100 * fine.rtn_error:.1f} % at {fine.bits_per_weight:.2f} bits" in noticed


def test_two_charts_in_one_picture(shown):
    frame = shown[0].frame(**shown[0].at_start())
    assert re.search(r'viewBox="0 0 680 440" role="img"', frame)
    assert frame.count("role=") == 1

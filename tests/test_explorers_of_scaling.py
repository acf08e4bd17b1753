"""The explorers of notebook 09 against arithmetic of their own, and what the notebook says about them."""

import course
import numpy as np
import pytest

from quantlab_helpers import explorers, lm
from quantlab_helpers.explorers.channels import decades_of, ranks

NOTEBOOK = "09_awq_and_smoothquant"
RNG = np.random.default_rng(21)
WEIGHT = RNG.normal(size=(10, 128)).astype(np.float32)
INPUTS, HELDOUT = (RNG.normal(size=(n, 128)) * np.where(np.arange(128) == 70, 30, 1) for n in (40, 20))


def _affine(weight, num_bits, run):
    """Affine codes with 0 in the range, written out: every `run` weights of a row share a step."""
    groups = weight.astype(np.float32).reshape(-1, run)
    low, high = np.minimum(groups.min(axis=1, keepdims=True), 0), np.maximum(groups.max(axis=1, keepdims=True), 0)
    step = (high - low) / (2**num_bits - 1)
    zero = np.rint(-low / step)
    return ((np.clip(np.rint(groups / step) + zero, 0, 2**num_bits - 1) - zero) * step).reshape(weight.shape)


def _relative(y, y_q):
    return np.linalg.norm(y_q - y) / np.linalg.norm(y)


@pytest.mark.parametrize(("scales", "run"), [("groups of 64", 64), ("one per row", 128)])
@pytest.mark.parametrize("num_bits", [3, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.95])
def test_awq_computes(scales, run, num_bits, alpha):
    result = explorers.awq(WEIGHT, INPUTS, HELDOUT).compute(num_bits=num_bits, scales=scales, alpha=alpha)
    s = np.abs(INPUTS).mean(axis=0) ** alpha
    s /= np.sqrt(s.max() * s.min())
    np.testing.assert_allclose(result.s, s, rtol=1e-5)
    restored = _affine(WEIGHT * s, num_bits, run) / s
    assert result.error == pytest.approx(_relative(HELDOUT @ WEIGHT.T, HELDOUT @ restored.T), rel=1e-3)
    assert result.calibration_error == pytest.approx(_relative(INPUTS @ WEIGHT.T, INPUTS @ restored.T), rel=1e-3)
    one = WEIGHT.copy()
    one[:, 70] = restored[:, 70]  # only this column is rounded
    assert result.column_errors[70] == pytest.approx(_relative(INPUTS @ WEIGHT.T, INPUTS @ one.T), rel=1e-3)


def test_awq_offers_the_largest_group_that_divides_a_row():
    assert explorers.awq(WEIGHT, INPUTS).controls[1].positions == ("groups of 64", "one per row")
    assert explorers.awq(WEIGHT[:, :24], INPUTS[:, :24]).controls[1].positions == ("groups of 8", "one per row")
    assert explorers.awq(WEIGHT[:, :7], INPUTS[:, :7]).controls[1].positions == ("one per row",)


def test_awq_marks_the_choice_that_calibration_makes():
    explorer = explorers.awq(WEIGHT, INPUTS, HELDOUT)
    alphas = explorer.controls[2].positions
    errors = [explorer.compute(3, "groups of 64", alpha).calibration_error for alpha in alphas]
    best = alphas[int(np.argmin(errors))]
    assert 0 < best < 0.95
    assert f"On the calibration inputs, alpha {best:.2f} is best" in explorer.sentence(num_bits=3)


def _int8(array):
    scale = np.abs(array).max(axis=-1, keepdims=True) / 127
    return np.rint(array / scale) * scale


@pytest.mark.parametrize("alpha", ["off", 0.0, 0.5, 1.0])
@pytest.mark.parametrize("scales", ["one per token", "one for all"])
def test_smoothquant_computes(alpha, scales):
    result = explorers.smoothquant(WEIGHT, INPUTS, HELDOUT).compute(scales=scales, alpha=alpha)
    largest, column = np.abs(INPUTS).max(axis=0), np.abs(WEIGHT).max(axis=0)
    s = 1 if alpha == "off" else largest**alpha / column ** (1 - alpha)
    np.testing.assert_allclose(result.activation_absmax, largest / s, rtol=1e-5)
    np.testing.assert_allclose(result.weight_absmax, column * s, rtol=1e-5)
    x = HELDOUT / s
    x = _int8(x) if scales == "one per token" else _int8(x.ravel()).reshape(x.shape)
    y = HELDOUT @ WEIGHT.T
    errors = np.linalg.norm(x @ _int8(WEIGHT * s).T - y, axis=1) / np.linalg.norm(y, axis=1)
    assert result.error == pytest.approx(np.median(errors), rel=0.02)  # in float32 some codes are rounded otherwise


def test_alpha_1_levels_the_activations_and_alpha_0_the_weights():
    explorer = explorers.smoothquant(WEIGHT, INPUTS)
    np.testing.assert_allclose(explorer.compute("one per token", 1.0).activation_absmax, 1, rtol=1e-5)
    np.testing.assert_allclose(explorer.compute("one per token", 0.0).weight_absmax, 1, rtol=1e-5)


@pytest.mark.parametrize("make", [explorers.awq, explorers.smoothquant])
def test_what_is_not_given_as_held_out_is_measured_on_the_same_inputs(make):
    positions = make(WEIGHT, INPUTS).at_start()
    assert make(WEIGHT, INPUTS).compute(**positions).error == make(WEIGHT, INPUTS, INPUTS).compute(**positions).error


@pytest.mark.parametrize("make", [explorers.awq, explorers.smoothquant])
def test_inputs_that_do_not_fit_are_refused(make):
    with pytest.raises(ValueError, match=r"128"):
        make(WEIGHT, INPUTS[:, :5])
    with pytest.raises(ValueError, match="must be finite"):
        make(WEIGHT, np.full((2, 128), np.nan))


def test_ranks_hold_the_first_channels_and_the_last():
    for count in (1, 2, 12, 13, 576, 5000):
        chosen = ranks(count)
        assert chosen[0] == 0 and chosen[-1] == count - 1 and (np.diff(chosen) > 0).all()
        assert len(chosen) <= 60
        np.testing.assert_array_equal(chosen[:12], np.arange(min(12, count)))


def test_decades_hold_all_numbers_above_0_within_reach():
    assert decades_of(np.array([0.0, 0.02, 3.0]), np.array([[40.0]])) == (0.01, 100.0)
    assert decades_of(np.array([1e-9, 1.0]))[0] == pytest.approx(1e-5)
    assert decades_of(np.zeros(3)) == (0.1, 10.0)


def _noticed(beginning):
    cells = course.read(NOTEBOOK).cells
    return next(c.source for c in cells if c.source.startswith("**What to notice.**") and beginning in c.source)


@pytest.fixture(scope="module")
def shown():
    return course.explorers_in(NOTEBOOK)


def test_what_the_notebook_says_to_notice_about_awq(shown):
    noticed, explorer = _noticed("groups of 64"), shown[0]
    curve = {alpha: explorer.compute(4, "groups of 64", alpha) for alpha in explorer.controls[2].positions}
    errors = {alpha: point.error for alpha, point in curve.items()}
    assert min(errors, key=errors.get) == 0.6 == min(curve, key=lambda alpha: curve[alpha].calibration_error)
    said = f"from {100 * errors[0]:.1f} % to {100 * errors[0.6]:.1f} % at alpha 0.60"
    assert said in noticed and f"to {100 * errors[0.95]:.1f} % at 0.95" in noticed
    adds = {alpha: (point.column_errors[247], np.median(point.column_errors)) for alpha, point in curve.items()}
    assert f"alone adds {100 * adds[0][0]:.0f} %, the typical channel {100 * adds[0][1]:.1f} %" in noticed
    assert f"at 0.60 it is {100 * adds[0.6][0]:.1f} %" in noticed
    assert adds[0.95][1] > adds[0.6][1] > adds[0][1]
    by_row = {alpha: explorer.compute(4, "one per row", alpha).error for alpha in curve}
    assert by_row[0.95] / min(by_row.values()) > 1.3 * errors[0.95] / errors[0.6]


def test_what_the_notebook_says_to_notice_about_smoothquant(shown):
    noticed, explorer = _noticed("scale per token"), shown[1]
    half = explorer.compute("one per token", 0.5)
    hills = [absmax.max() / np.median(absmax) for absmax in (half.activation_absmax, half.weight_absmax)]
    assert f"{hills[0]:.1f} times" in noticed and f"{hills[1]:.1f}" == f"{hills[0]:.1f}"
    curve = {alpha: explorer.compute("one per token", alpha).error for alpha in explorer.controls[1].positions[1:]}
    assert min(curve, key=curve.get) == 0.85
    assert f"near 0.85, {100 * curve[0.85]:.1f} %" in noticed
    assert max(curve[alpha] for alpha in (0.75, 0.8, 0.9, 0.95)) < 1.05 * curve[0.85]  # flat


def test_what_the_notebook_says_of_whole_models():
    """The ranking in its words, from the stored measurements, which may be taken anew."""
    noticed, rows = _noticed("4 and 3 bits"), lm.methods_measured("smollm2-135m")
    kl = {label: (row["divergence"], row["divergence_standard_error"]) for label, row in rows.items()}
    widths = ("4 bits", "4 bits in groups of 64", "3 bits in groups of 64")
    saved = [100 * (1 - kl[f"AWQ, {width}"][0] / kl[f"RTN, {width}"][0]) for width in widths]
    assert f"{min(saved):.0f} to {max(saved):.0f} %" in noticed
    ahead = [_standard_errors_apart(kl[f"GPTQ act-order, {width}"], kl[f"AWQ clip, {width}"]) for width in widths]
    assert 2.5 < ahead[0] < 3.5 < min(ahead[1:])
    for width in widths:
        assert kl[f"AWQ clip, {width}"][0] == min(kl[f"{m}, {width}"][0] for m in ("RTN", "GPTQ", "AWQ", "AWQ clip"))
    smooth, token = kl["SmoothQuant"][0], kl["W8A8 per token"][0]
    assert smooth / token == pytest.approx(0.5, abs=0.05)
    assert _standard_errors_apart(kl["LLM.int8()"], kl["SmoothQuant"]) > 3
    assert 1 - kl["W8A8 per token, down_proj in float"][0] / token == pytest.approx(0.25, abs=0.05)
    assert kl["SmoothQuant per tensor"][0] > 20 * smooth and kl["RTN, 8 bits"][0] < 0.15 * token


def _standard_errors_apart(worse, better):
    return (worse[0] - better[0]) / np.hypot(worse[1], better[1])

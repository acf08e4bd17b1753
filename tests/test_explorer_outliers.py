"""The outliers explorer: its steps, codes and errors are those of a layer computed by hand, in another arithmetic."""

import xml.etree.ElementTree as ET

import course
import numpy as np
import pytest
from explorer_cases import no_layers, own_layers

from quantlab_helpers.explorers import outliers

NOTEBOOK = "07_bitsandbytes"
RNG = np.random.default_rng(3)
WEIGHT = RNG.normal(size=(6, 32)).astype(np.float32)
X = RNG.uniform(-1, 1, size=(7, 32)).astype(np.float32)
OWN = own_layers(WEIGHT, X, huge=1e15)  # a column of the inputs is multiplied
X[:, 5] = [8, -10, 9, 7.5, -11, 12, 10.5]  # the middle one is 10, token 1


def _by_rows(x):
    """Symmetric 8-bit codes with a scale for each row, and the scales, in float64 from the definition."""
    scale = np.abs(x.astype(np.float64)).max(axis=1, keepdims=True) / 127
    return np.rint(x / scale), scale


def _median_error(x, weight, in_float):
    """The median relative error of the layer's output over tokens, computed the long way round."""
    codes, scale = _by_rows(np.where(in_float, 0, x))
    w_codes, w_scale = _by_rows(weight)
    restored = np.where(in_float, x, codes * scale)
    error = np.einsum("ti,oi->to", restored, w_codes * w_scale) - np.einsum("ti,oi->to", x, weight, dtype=np.float64)
    y = np.einsum("ti,oi->to", x, weight, dtype=np.float64)
    return np.median(np.sqrt((error**2).sum(axis=1) / (y**2).sum(axis=1)))


@pytest.mark.parametrize("factor", [1 / 8, 1, 16])
@pytest.mark.parametrize("threshold", ["none", 2, 6])
def test_steps_codes_and_errors(factor, threshold):
    result = outliers(WEIGHT, X).compute(factor=factor, threshold=threshold)
    x, weight = X.astype(np.float64), WEIGHT.astype(np.float64)
    x[:, 5] *= factor
    weight[:, 5] /= factor
    is_out = np.arange(32) == 5
    nothing = np.zeros(32, bool)
    # All others are below 1, and a column that reaches 6 or 2 with some tokens only would not be split so simply.
    in_float = is_out if threshold != "none" and np.abs(x[:, 5]).max() >= threshold else nothing
    assert (result.column, result.token, result.outlier) == (5, 1, 12 * factor)
    np.testing.assert_array_equal(result.in_float, in_float)
    np.testing.assert_array_equal(result.ordinary, X[1, ~is_out])
    sizes = [np.abs(x[1, ~taken_out]).max() for taken_out in (nothing, in_float)]
    np.testing.assert_allclose(result.steps, np.divide(sizes, 127), rtol=1e-6)
    largest = np.abs(X[1, ~is_out]).max()
    assert result.levels == tuple(2 * round(127 * float(largest) / size) + 1 for size in sizes)
    errors = [_median_error(x, weight, taken_out) for taken_out in (nothing, in_float)]
    np.testing.assert_allclose(result.errors, errors, rtol=1e-2)  # see below: 0.002 % beside errors from 0.4 % on


def test_the_float_output_stays_as_it_is():
    """So the float error of the layer with weights and inputs that int8 holds exactly is nothing at any factor."""
    weight, x = np.eye(3), np.array([[127.0, 0, 0], [127, 0, 0], [127, 0, 0]])
    explorer = outliers(weight, x)
    for positions in explorer.positions():
        # bitsandbytes' factor for 1/127**2 is too large by 0.002 %, and float32 rounds.
        assert max(explorer.compute(**positions).errors) < 5e-5


def test_the_sentence_has_the_numbers():
    explorer = outliers(WEIGHT, X)
    result = explorer.compute(factor=1, threshold=6)
    sentence = explorer.sentence(factor=1, threshold=6)
    assert "Column 5 reaches 12, threshold 6: 1 of 32 columns stay float" in sentence
    assert f"{result.levels[0]} codes for the ordinary values of token 1, with decomposition 255." in sentence
    assert f"off by {100 * result.errors[0]:.1f} %, with decomposition by {100 * result.errors[1]:.1f} %." in sentence
    assert "decomposition" not in explorer.sentence(factor=1, threshold="none")


@pytest.mark.parametrize(("weight", "x"), OWN.values(), ids=OWN)
def test_layers_of_the_learners_own(weight, x):
    explorer = outliers(weight, x)
    for positions in explorer.positions():
        frame = explorer.frame(**positions)
        ET.fromstring(frame)
        assert "nan" not in frame and "inf" not in frame


@pytest.mark.parametrize(("weight", "x", "named"), no_layers(WEIGHT, X))
def test_refuses_what_is_no_layer(weight, x, named):
    with pytest.raises((ValueError, TypeError), match=named):
        outliers(weight, x)


def test_what_the_notebook_says_to_notice():
    (explorer,) = course.explorers_in(NOTEBOOK)
    noticed = next(cell.source for cell in course.read(NOTEBOOK).cells if cell.source.startswith("**What to notice.**"))
    at = {(f, t): explorer.compute(factor=f, threshold=t) for f in (1 / 2, 1, 2, 16) for t in ("none", 6)}
    off = {where: [f"{100 * error:.1f} %" for error in result.errors] for where, result in at.items()}
    for factor in (1, 16):
        without, split = at[factor, "none"], off[factor, 6][1]
        assert f"At {without.outlier:.3g}" in noticed or f"at {without.outlier:.3g}" in noticed
        assert f"have {without.levels[0]} codes and" in noticed and f"off by {off[factor, 'none'][0]}" in noticed
        assert at[factor, 6].levels[1] == 255 and split in noticed
    below, above = at[1 / 2, 6], at[2, 6]
    assert below.outlier < 6 and not below.in_float.any() and below.errors[1] > above.errors[1]
    words = (
        f"An outlier of {below.outlier:.3g}, just *below* the threshold, costs more ({off[1 / 2, 6][1]}) than one of "
    )
    assert words + f"{above.outlier:.3g} above it ({off[2, 6][1]})" in noticed

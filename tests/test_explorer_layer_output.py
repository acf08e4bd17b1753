"""The layer_output explorer: its errors are those of the layer computed by hand, in another arithmetic."""

import sys
import xml.etree.ElementTree as ET

import course
import numpy as np
import pytest
from explorer_cases import no_layers, own_layers

import quantlab_helpers as ql
from quantlab_helpers import affine
from quantlab_helpers.explorers import layer_output

NOTEBOOK = "04_quantized_linear_layer"
RNG = np.random.default_rng(7)
WEIGHT = RNG.normal(size=(6, 32)).astype(np.float32)
X = RNG.normal(size=(5, 32)).astype(np.float32)
OWN = own_layers(WEIGHT, X)
# Float32 scales: each real value is scale * code to a relative 2**-24 or so, and errors of 1e-2 and more are measured.
CLOSE = 1e-4


def _rounded(x, num_bits, per_row):
    """Symmetric quantization and back, in float64 and straight from the definition."""
    x = x.astype(np.float64)
    qmax = 2 ** (num_bits - 1) - 1
    scale = np.abs(x).max(axis=1 if per_row else None, keepdims=True) / qmax
    return np.rint(x / scale) * scale


@pytest.mark.parametrize("scales", ["per tensor", "per row"])
@pytest.mark.parametrize("activation_bits", ["float", 8, 6, 4])
@pytest.mark.parametrize("num_bits", [2, 3, 4, 5, 6, 7, 8])
def test_errors_and_cosine(num_bits, activation_bits, scales):
    result = layer_output(WEIGHT, X).compute(num_bits=num_bits, activation_bits=activation_bits, scales=scales)
    per_row = scales == "per row"
    inputs = X if activation_bits == "float" else _rounded(X, activation_bits, per_row)
    y = np.einsum("ti,oi->to", X, WEIGHT, dtype=np.float64)
    y_q = np.einsum("ti,oi->to", inputs, _rounded(WEIGHT, num_bits, per_row), dtype=np.float64)
    error = y_q - y
    assert result.relative_error == pytest.approx(np.sqrt((error**2).sum() / (y**2).sum()), rel=CLOSE)
    assert result.cosine == pytest.approx((y * y_q).sum() / np.sqrt((y**2).sum() * (y_q**2).sum()), rel=CLOSE)
    by_token = np.sqrt((error**2).sum(axis=1) / (y**2).sum(axis=1))
    assert result.worst_token == by_token.argmax()
    assert result.worst_error == pytest.approx(by_token.max(), rel=CLOSE)


def test_quantized_activations_are_those_of_the_integer_layer():
    """Scales per row are W8A8 as `QuantizedLinear` computes it, in integers."""
    result = layer_output(WEIGHT, X).compute(num_bits=8, activation_bits=8, scales="per row")
    y = ql.QuantizedLinear.from_float(WEIGHT, activation_bits=8)(X)
    right = X.astype(np.float64) @ WEIGHT.T.astype(np.float64)
    error = np.linalg.norm(y - right) / np.linalg.norm(right)
    # y is float32, off by some 2**-23 of its size, which moves an error of about 1 % by a relative 1e-5.
    assert result.relative_error == pytest.approx(error, rel=CLOSE)


def test_values_on_the_grid_lose_nothing():
    weight, x = np.array([[3.0, -1.0], [2.0, 3.0]]), np.array([[3.0, 2.0]])  # 3 bits: codes -3 .. 3, scale 1
    explorer = layer_output(weight, x)
    result = explorer.compute(num_bits=3, activation_bits="float", scales="per row")
    assert (result.relative_error, result.cosine, result.worst_error) == (0, pytest.approx(1, abs=1e-12), 0)
    np.testing.assert_array_equal(*result.scattered)


def test_one_huge_token_hides_the_others_until_scales_are_per_row():
    x = np.concatenate([np.full((1, 32), 1e4), X])  # beside steps of 1e4 / 127 the others round to 0
    explorer = layer_output(WEIGHT, x)
    shared = explorer.compute(num_bits=8, activation_bits=8, scales="per tensor")
    own = explorer.compute(num_bits=8, activation_bits=8, scales="per row")
    assert shared.worst_error == 1 and shared.worst_token > 0
    assert shared.relative_error < 0.05
    assert own.worst_error < 0.1


def test_points_are_of_the_layer_and_of_its_worst_token():
    result = layer_output(WEIGHT, X).compute(num_bits=4, activation_bits="float", scales="per tensor")
    y = X.astype(np.float64) @ WEIGHT.T.astype(np.float64)
    np.testing.assert_allclose(np.sort(result.scattered[0]), np.sort(y.ravel()))  # few enough to draw them all
    np.testing.assert_allclose(result.of_worst[0], y[result.worst_token])


def test_a_large_layer_has_few_points():
    rng = np.random.default_rng(0)
    explorer = layer_output(rng.normal(size=(200, 8)), rng.normal(size=(50, 8)))
    results = [explorer.compute(**positions) for positions in explorer.positions()]
    assert {r.scattered.shape for r in results} == {(2, 180)}
    assert {r.of_worst.shape for r in results} == {(2, 50)}
    for result in results[1:]:  # the same outputs at each position, so that the dots move and do not jump
        np.testing.assert_array_equal(result.scattered[0], results[0].scattered[0])


def test_the_sentence_has_the_numbers():
    explorer = layer_output(WEIGHT, X)
    result = explorer.compute(num_bits=3, activation_bits=6, scales="per row")
    sentence = explorer.sentence(num_bits=3, activation_bits=6, scales="per row")
    assert "Weights 3 bits, activations 6 bits, scales per row" in sentence
    assert f"{100 * result.relative_error:.1f} %" in sentence
    assert f"cosine similarity {result.cosine:.4f}" in sentence
    assert f"token {result.worst_token}: relative error {100 * result.worst_error:.1f} %" in sentence


@pytest.mark.parametrize(("weight", "x"), OWN.values(), ids=OWN)
def test_layers_of_the_learners_own(weight, x):
    explorer = layer_output(weight, x)
    for positions in explorer.positions():
        frame = explorer.frame(**positions)
        ET.fromstring(frame)
        assert "nan" not in frame and "inf" not in frame


@pytest.mark.parametrize(("weight", "x", "named"), no_layers(WEIGHT, X))
def test_refuses_what_is_no_layer(weight, x, named):
    with pytest.raises((ValueError, TypeError), match=named):
        layer_output(weight, x)


def test_nothing_is_quantized_twice(monkeypatch):
    quantized = []

    def counted(x, num_bits, *, per):
        quantized.append((np.shape(x), num_bits, per))
        return affine.fake_quantize(x, num_bits, per=per)

    monkeypatch.setattr(sys.modules[layer_output.__module__], "fake_quantize", counted)
    explorer = layer_output(WEIGHT, X)
    for positions in explorer.positions():
        explorer.compute(**positions)
    assert len(quantized) == len(set(quantized)) == 7 * 2 + 3 * 2


def test_what_the_notebook_says_to_notice():
    (explorer,) = course.explorers_in(NOTEBOOK)
    noticed = next(cell.source for cell in course.read(NOTEBOOK).cells if cell.source.startswith("**What to notice.**"))
    shared = explorer.compute(num_bits=8, activation_bits=8, scales="per tensor")
    together = f"All tokens together: off by {100 * shared.relative_error:.1f} %, cosine {shared.cosine:.4f}."
    assert together in noticed
    assert np.mean(shared.scattered[1] == 0) > 0.9
    assert "nearly every output is *zero*" in noticed
    worst = {b: explorer.compute(num_bits=b, activation_bits=8, scales="per row").worst_error for b in range(2, 9)}
    assert min(bits for bits, error in worst.items() if error < 0.1) == 6
    assert "6 bits in the weights keep the worst token under 10 %, 5 bits do not" in noticed

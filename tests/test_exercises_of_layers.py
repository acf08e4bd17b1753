"""The exercises of notebook 04: right answers in other styles pass, and none rests on the one that we wrote."""

import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers import exercises


def _loops(x_codes, x_scale, w_codes, w_scale):
    y = np.zeros((len(x_codes), len(w_codes)))
    for t in range(len(x_codes)):
        for o in range(len(w_codes)):
            total = sum(int(a) * int(b) for a, b in zip(x_codes[t], w_codes[o], strict=True))
            y[t, o] = total * x_scale[t, 0] * w_scale[o, 0]
    return y


def _one_operand_cast(x_codes, x_scale, w_codes, w_scale):
    return (x_codes.astype("int32") @ w_codes.T) * (x_scale * w_scale.reshape(-1))


def _einsum_in_int64(x_codes, x_scale, w_codes, w_scale):
    sums = np.einsum("ti,oi->to", x_codes, w_codes, dtype=np.int64)
    return np.float32(sums) * np.float32(x_scale) * np.float32(w_scale).T


def _in_float64(x_codes, x_scale, w_codes, w_scale):
    return (x_codes.astype(float) @ w_codes.astype(float).T) * x_scale * w_scale.T  # exact to 2**53


def _outer_product_of_the_scales(x_codes, x_scale, w_codes, w_scale):
    return ql.int8_matmul(x_codes, w_codes) * np.outer(x_scale, w_scale)


@pytest.mark.parametrize(
    "another_style", [_loops, _one_operand_cast, _einsum_in_int64, _in_float64, _outer_product_of_the_scales]
)
def test_int8_linear_in_another_style_passes(another_style):
    assert exercises.get("int8_linear").check(another_style).state == "passed"


def test_int8_linear_tries_sums_beyond_float32_that_an_int32_accumulator_holds():
    *_, (x_codes, _, w_codes, _) = exercises.get("int8_linear").all_cases()
    reached = np.cumsum(x_codes.astype(np.int64) * w_codes, axis=1).max(axis=1)
    assert reached.min() > 2**24 and reached.max() < 2**31


def test_int8_linear_is_the_layer_of_the_package():
    rng = np.random.default_rng(3)
    weight, x = rng.normal(size=(5, 40)).astype(np.float32), rng.normal(size=(7, 40)).astype(np.float32)
    w, tokens = (ql.quantize(array, 8, per="channel") for array in (weight, x))
    y = exercises.get("int8_linear").reference(tokens.codes, tokens.scale, w.codes, w.scale)
    layer = ql.QuantizedLinear.from_float(weight, activation_bits=8)
    np.testing.assert_allclose(y, layer(x), rtol=4 * np.finfo(np.float32).eps)  # two float32 products


def _one_input_at_a_time(weight, quantized, x, target, rate):
    gradient = np.zeros(weight.shape)
    for inputs, wanted in zip(x, target, strict=True):
        gradient += np.outer(quantized @ inputs - wanted, inputs)
    return weight - rate * gradient / x.shape[0]


def _in_float32(weight, quantized, x, target, rate):
    weight, quantized, x, target = (np.float32(a) for a in (weight, quantized, x, target))
    return weight + np.float32(rate) * ((target - x @ quantized.T).T @ x) / np.float32(len(x))


@pytest.mark.parametrize("another_style", [_one_input_at_a_time, _in_float32])
def test_straight_through_in_another_style_passes(another_style):
    assert exercises.get("straight_through").check(another_style).state == "passed"


def test_straight_through_follows_the_slope_of_the_loss():
    """The step is `rate` times the slope of half the mean squared error, here by central differences."""
    rng = np.random.default_rng(5)
    quantized, x, target = rng.normal(size=(2, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    weight = quantized + 0.1

    def loss(w):
        return 0.5 * np.mean(np.sum((x @ w.T - target) ** 2, axis=1))

    slope = np.empty_like(quantized)
    for index in np.ndindex(quantized.shape):
        nudge = np.zeros_like(quantized)
        nudge[index] = 1e-4
        slope[index] = (loss(quantized + nudge) - loss(quantized - nudge)) / 2e-4
    moved = exercises.get("straight_through").reference(weight, quantized, x, target, 0.3)
    # The loss is a square, so central differences are exact but for rounding: some 1e-16 / 1e-4.
    np.testing.assert_allclose(moved, weight - 0.3 * slope, rtol=0, atol=1e-10)


def test_straight_through_leaves_its_arrays_alone():
    def in_place(weight, quantized, x, target, rate):
        weight -= rate * (x @ quantized.T - target).T @ x / len(x)
        return weight

    assert "changes the array" in exercises.get("straight_through").check(in_place).hint

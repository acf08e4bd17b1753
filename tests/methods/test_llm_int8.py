"""LLM.int8() against bitsandbytes, to the bit in float16 (tests/golden/README.md says how the results were made)."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab_helpers.lm.model import apply_linear
from quantlab_helpers.methods.llm_int8 import LlmInt8Linear, llm_int8_matmul, outlier_columns, quantize_rows

pytestmark = pytest.mark.filterwarnings("error")

HALF_ULP = 2.0**-24  # of float32, relative
SMALLER_THAN_6 = float(np.nextafter(np.float32(6), np.float32(0)))


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "golden" / "bnb_llm_int8.npz") as data:
        return dict(data)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def with_outliers(x, columns=(1, 4), size=30):
    x = x.copy()
    x[..., list(columns)] *= size
    return x


# --- against bitsandbytes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0, 6])
def test_activations(golden, threshold):
    codes, absmax = quantize_rows(golden["A"], threshold)
    np.testing.assert_array_equal(codes, golden[f"A_q_t{threshold}"])
    np.testing.assert_array_equal(absmax, golden[f"A_stats_t{threshold}"])
    assert codes.dtype == np.int8
    assert absmax.dtype == np.float32


@pytest.mark.parametrize("name", ["W", "tie_W"])
def test_weights(golden, name):
    """The second has a value in each row for which 127 / absmax would give the next code."""
    layer = LlmInt8Linear.from_float(golden[name])
    np.testing.assert_array_equal(layer.codes, golden[f"{name}_q"])
    np.testing.assert_array_equal(layer.absmax, golden[f"{name}_stats"])


def test_outlier_columns(golden):
    np.testing.assert_array_equal(np.flatnonzero(outlier_columns(golden["A"])), golden["outlier_cols_t6"])


@pytest.mark.parametrize(("threshold", "name"), [(0, "t0"), (6, "t6_nobias")])
def test_results_in_float16(golden, threshold, name):
    y = llm_int8_matmul(golden["A"], golden["W"], threshold)
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y, golden[f"out_{name}_f16"])


def test_results_with_bias(golden):
    layer = LlmInt8Linear.from_float(golden["W"], golden["bias"])
    np.testing.assert_array_equal(layer(golden["A"]), golden["out_t6_bias_f16"])


def test_results_in_float32(golden):
    """The activations are numbers of float16. Only the sum over the outlier columns may have another order."""
    y = llm_int8_matmul(golden["A"].astype(np.float32), golden["W"])
    assert y.dtype == np.float32
    outliers = golden["outlier_cols_t6"]
    terms = np.abs(golden["A"][:, outliers].astype(np.float64)) @ np.abs(golden["W"][:, outliers].astype(np.float64)).T
    # Two sums of n terms, each off by n half ulps of the sum of all magnitudes at most, and rounded once more at the
    # end. The weight's codes make the terms larger by a few percent at most: 2 is ample.
    bound = 2 * HALF_ULP * (len(outliers) * 2 * terms + np.abs(y))
    assert (np.abs(y.astype(np.float64) - golden["out_t6_nobias_f32"]) <= bound).all()


# --- what holds for any layer -----------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 40), st.integers(1, 5), st.sampled_from([0, 0.5, 2, 6]))
def test_only_the_inputs_without_outliers_are_rounded(seed, tokens, columns, outputs, threshold):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(tokens, columns)) * rng.choice([1, 8], columns, p=[0.8, 0.2])).astype(np.float32)
    weight = normal(outputs, columns, seed=seed + 1)
    layer = LlmInt8Linear.from_float(weight, threshold=threshold)
    y = layer(x).astype(np.float64)

    is_outlier = (np.abs(x) >= threshold) & (threshold > 0)
    stored = layer.codes * (layer.absmax.astype(np.float64)[:, None] / 127)
    exact = x.astype(np.float64) @ stored.T
    half_step = np.abs(np.where(is_outlier, 0, x)).max(axis=1, keepdims=True).astype(np.float64) / 127 / 2
    kept = ~is_outlier.any(axis=0)
    bound = half_step * np.abs(stored[:, kept]).sum(axis=1)
    # Besides: bitsandbytes' 1/127**2 is off by 1.8e-5, and float32 rounds some ten times on the way to each term, and
    # once for each column in the sum.
    terms = (np.abs(x) + 2 * half_step).astype(np.float64) @ np.abs(stored).T
    bound += (1.9e-5 + (10 + columns) * HALF_ULP) * terms
    assert (np.abs(y - exact) <= bound).all()


def test_outlier_columns_keep_their_precision():
    """With nothing but outliers, the result is the float product with what the weight's codes stand for."""
    x, weight = 10 + np.abs(normal(3, 6)), normal(4, 6, seed=1)
    layer = LlmInt8Linear.from_float(weight)
    stored = layer.codes.astype(np.float64) * layer.absmax[:, None] / 127
    np.testing.assert_allclose(layer(x), x.astype(np.float64) @ stored.T, rtol=0, atol=10 * HALF_ULP * 6 * 15 * 3)


def test_without_decomposition_an_outlier_ruins_its_token():
    x, weight = with_outliers(normal(20, 64), size=100), normal(8, 64, seed=1)
    layer = LlmInt8Linear.from_float(weight)
    stored = layer.codes.astype(np.float64) * layer.absmax[:, None] / 127  # to leave out the rounding of the weight
    error = {t: np.abs(llm_int8_matmul(x, weight, t) - x @ stored.T).mean() for t in (0, 6)}
    # Steps are as large as the largest that is rounded: at least 3 times as large with the outliers.
    assert error[6] < error[0] / 3


def test_the_threshold_itself_is_an_outlier():
    assert outlier_columns([[6, -6, SMALLER_THAN_6, -SMALLER_THAN_6]]).tolist() == [True, True, False, False]
    assert not outlier_columns([[1e30]], threshold=0).any()
    codes, absmax = quantize_rows([[SMALLER_THAN_6, 6, 3, -3]], threshold=6)
    assert codes.tolist() == [[127, 0, 64, -64]]
    assert absmax == np.float32(SMALLER_THAN_6)


def test_float16_has_a_threshold_of_float16():
    # The nearest number of float16 to 6.001 is 6, and counts as 6.001.
    x = np.float16([[6.001]])
    assert x == 6
    assert outlier_columns(x, 6.001).all()
    assert not outlier_columns(x.astype(np.float32), 6.001).any()


def test_one_token_with_an_outlier_takes_its_column_out_for_all():
    x, weight = normal(5, 16), normal(3, 16, seed=1)
    layer = LlmInt8Linear.from_float(weight)
    alone = layer(x[:4])
    x[4, 2] = 50
    together = layer(x)
    assert not np.array_equal(together[:4], alone)
    # Column 2 is now exact; the others have the scales that they had, because no outlier was the largest.
    codes, absmax = quantize_rows(x, 6.0)
    np.testing.assert_array_equal(absmax[:4], np.abs(x[:4]).max(axis=1))
    assert not codes[:, 2].any()


def test_values_below_the_threshold_in_an_outlier_column_count_for_the_scale():
    codes, absmax = quantize_rows([[1.0, 5.0], [2.0, 60.0]], threshold=6)
    assert absmax.tolist() == [5, 2]
    assert codes.tolist() == [[25, 0], [127, 0]]


def test_weights_have_no_outliers():
    layer = LlmInt8Linear.from_float(np.float32([[100, 50], [1, 2]]))
    assert layer.codes.tolist() == [[127, 64], [64, 127]]
    assert layer.absmax.tolist() == [100, 2]


@pytest.mark.parametrize("shape", [(16,), (1, 16), (3, 16), (2, 3, 16), (2, 1, 3, 16)])
def test_shapes(shape):
    x, layer = with_outliers(normal(*shape)), LlmInt8Linear.from_float(normal(5, 16, seed=1), normal(5, seed=2))
    y = layer(x)
    assert y.shape == (*shape[:-1], 5)
    np.testing.assert_array_equal(y.reshape(-1, 5), layer(x.reshape(-1, 16)))


def test_it_is_a_weight_of_a_language_model():
    weight, x = normal(24, 50), with_outliers(normal(2, 7, 50, seed=1))
    layer = LlmInt8Linear.from_float(weight)
    np.testing.assert_array_equal(apply_linear(layer, x), llm_int8_matmul(x, weight))
    assert layer.shape == (24, 50)
    assert layer.nbytes == 24 * 50 + 4 * 24
    assert LlmInt8Linear.from_float(weight, np.ones(24)).nbytes == layer.nbytes + 4 * 24
    assert not hasattr(layer, "dequantize")  # `LanguageModel.expanded` must not put a float matrix in its place


# --- edge cases -------------------------------------------------------------------------------------------


def test_zero_and_constant_rows():
    x = np.float32([[0] * 8, [0.3] * 8, [-2] * 8, [50] * 8, [0] * 8])
    weight = np.float32([[0] * 8, [0.25] * 8, [-1] * 8])
    for threshold in (0, 6):
        # 8 equal products, each within the step of both factors, and bitsandbytes' 1.8e-5.
        np.testing.assert_allclose(llm_int8_matmul(x, weight, threshold), x @ weight.T, rtol=2e-5)
    assert not llm_int8_matmul(np.zeros((2, 3)), np.zeros((4, 3))).any()


def test_one_column():
    x, weight = np.float32([[0.5], [-3], [40]]), np.float32([[2], [-0.1]])
    for threshold in (0, 6):
        np.testing.assert_allclose(llm_int8_matmul(x, weight, threshold), x * weight.T, rtol=2e-5)


@pytest.mark.parametrize("columns", [1, 7, 1023, 1025])
def test_any_number_of_columns(columns):
    x, weight = normal(3, columns), normal(4, columns, seed=1)
    codes, absmax = quantize_rows(x)
    weight_codes, weight_absmax = quantize_rows(weight)
    sums = codes.astype(np.int64) @ weight_codes.astype(np.int64).T
    exact = sums * np.outer(absmax.astype(np.float64), weight_absmax)
    # Rounded, by half an ulp each: the sum, the product of the scales, the products with it and with the unit.
    np.testing.assert_allclose(llm_int8_matmul(x, weight, 0), exact * 6.200124e-05, rtol=5 * HALF_ULP)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (np.float16, np.float16),
        (ml_dtypes.bfloat16, ml_dtypes.bfloat16),
        (np.float32, np.float32),
        (np.float64, np.float32),
        (int, np.float32),
    ],
)
def test_dtypes(dtype, result):
    x = with_outliers(normal(5, 16).round(1) * 8).astype(dtype)
    weight = normal(4, 16, seed=1)
    layer = LlmInt8Linear.from_float(weight)
    y = layer(x)
    assert y.dtype == result
    assert outlier_columns(x).any()
    in_float32 = layer(x.astype(np.float32))
    # In 16 bits the int8 half, the outlier weights and the sum are rounded, each by half an ulp.
    half_ulp = {np.float16: 2.0**-11, ml_dtypes.bfloat16: 2.0**-8}.get(result, 0)
    sizes = np.abs(x.astype(np.float32)) @ np.abs(weight).T + np.abs(in_float32)
    assert (np.abs(y.astype(np.float32) - in_float32) <= 3 * half_ulp * sizes).all()


def test_layout_does_not_matter():
    x, weight = with_outliers(normal(6, 16)), normal(4, 16, seed=1)
    plain = llm_int8_matmul(x, weight)
    for array in (x, weight):
        array.flags.writeable = False
    np.testing.assert_array_equal(llm_int8_matmul(np.asfortranarray(x), np.asfortranarray(weight)), plain)
    np.testing.assert_array_equal(llm_int8_matmul(x.tolist(), weight.tolist()), plain)


@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e-30, 1e18])
def test_huge_and_tiny_activations(size):
    x, weight = np.clip(normal(5, 16), -1, 1) * np.float32(size), normal(4, 16, seed=1)
    y = llm_int8_matmul(x, weight, 0)
    # No activation is farther off than from 0 to the largest.
    bound = np.abs(x).max().astype(np.float64) * np.abs(weight).sum(axis=1) * 1.01
    assert (np.abs(y - x.astype(np.float64) @ weight.T) <= bound).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: llm_int8_matmul([[np.nan]], [[1.0]]), ValueError, "inputs must be finite, but 1 of 1"),
        (lambda: llm_int8_matmul(np.float16([[np.inf]]), [[1.0]]), ValueError, "inputs must be finite"),
        (lambda: llm_int8_matmul([[1e300]], [[1.0]]), ValueError, "inputs must be within float32's range"),
        (lambda: llm_int8_matmul([[1.0]], [[np.nan]]), ValueError, "weight must be finite"),
        (lambda: llm_int8_matmul([[1.0]], [1.0]), ValueError, r"weight must have 2 axes, \(out, in\), .* \(1,\)"),
        (lambda: llm_int8_matmul([[1.0, 2.0]], [[1.0]]), ValueError, "inputs must have 1 values along its last axis"),
        (lambda: llm_int8_matmul(1.0, [[1.0]]), ValueError, "inputs must have 1 values along its last axis"),
        (lambda: llm_int8_matmul([[1.0]], [[1.0]], -1), ValueError, "threshold must be finite, and 0 or more, not -1"),
        (lambda: llm_int8_matmul([[1.0]], [[1.0]], np.nan), ValueError, "threshold must be finite, and 0 or more"),
        (lambda: llm_int8_matmul([[1.0]], [[1.0]], None), TypeError, "threshold must be a number, 0 or more, not None"),
        (lambda: llm_int8_matmul([[1.0]], [[1.0]], True), TypeError, "threshold must be a number, 0 or more, not True"),
        (lambda: LlmInt8Linear.from_float([[1.0]], [1.0, 2.0]), ValueError, r"bias must have shape \(1,\)"),
        (lambda: LlmInt8Linear.from_float([[1.0]], [np.nan]), ValueError, "bias must be finite"),
        (lambda: LlmInt8Linear.from_float(np.ones((2, 0))), ValueError, "weight must hold at least one value"),
        (lambda: outlier_columns([["a"]]), TypeError, "inputs must hold real numbers"),
        (lambda: outlier_columns(7.0), ValueError, "inputs must have at least 1 axis"),
        (lambda: outlier_columns([7.0], "6"), TypeError, "threshold must be a number"),
        (lambda: quantize_rows([1.0]), ValueError, r"x must have 2 axes, \(rows, in\), but its shape is \(1,\)"),
        (lambda: quantize_rows([[np.nan]]), ValueError, "x must be finite"),
        (lambda: quantize_rows([[1.0]], -6), ValueError, "threshold must be finite"),
    ],
)
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()

"""SmoothQuant against mit-han-lab's code (tests/golden/README.md says how the results were made)."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantlab_helpers as ql
from quantlab_helpers.lm.model import apply_linear
from quantlab_helpers.methods.smoothquant import W8A8Linear, smooth, smoothquant_scales

pytestmark = pytest.mark.filterwarnings("error")

ALPHAS = (0.25, 0.5, 0.75, 0.8)
HALF_ULP = 2.0**-24  # of float32, relative
LARGEST = float(np.finfo(np.float32).max)
KINDS = {
    "token": {},
    "tensor": {"activations_per": "tensor"},
    "static": {"activations_per": "tensor", "activation_absmax": 3.0},
}


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "golden" / "smoothquant.npz") as data:
        return dict(data)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# --- scales -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
def test_scales(golden, alpha):
    """Column 3 of the activations is 0, and column 5 of the weights. torch's powers differ in the last bits."""
    absmax = np.abs(golden["X_f16"]).max(axis=0)
    np.testing.assert_array_equal(absmax, golden["act_absmax"])
    for weights in (golden["W_f16"], list(golden["W_f16"])):
        scales = smoothquant_scales(absmax, weights, alpha)
        assert scales.dtype == np.float32
        np.testing.assert_allclose(scales, golden[f"a{alpha}_scales"], rtol=1e-6)


def test_alpha_is_one_half():
    x_max, weight = np.abs(normal(8)), normal(5, 8, seed=1)
    np.testing.assert_array_equal(smoothquant_scales(x_max, weight), smoothquant_scales(x_max, weight, alpha=0.5))


@given(st.integers(0, 2**32), st.floats(0, 1), st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_activations_and_weights_share_the_difficulty(seed, alpha, rows):
    x_max = np.random.default_rng(seed).uniform(0.1, 50, 8)
    weights = [normal(count, 8, seed=seed + i) for i, count in enumerate(rows)]
    w_max = np.maximum(np.abs(np.concatenate(weights)).max(axis=0).astype(np.float64), 1e-5)
    scales = smoothquant_scales(x_max, weights, alpha)
    # float32's powers are off by a few half ulps, and its exponent 1 - alpha by half an ulp, times the logarithm.
    np.testing.assert_allclose(x_max / scales, (x_max * w_max) ** (1 - alpha), rtol=32 * HALF_ULP)
    np.testing.assert_allclose(w_max * scales, (x_max * w_max) ** alpha, rtol=32 * HALF_ULP)


def test_a_column_of_zeros_gets_a_scale_above_zero():
    weight = np.float32([[1, 0], [-2, 0]])
    np.testing.assert_allclose(smoothquant_scales([0, 4], weight), [1e-5, np.sqrt(4 / 1e-5)], rtol=8 * HALF_ULP)
    assert smoothquant_scales([0, 0], np.zeros((3, 2)), alpha=0).tolist() == [1e5, 1e5]  # 0**0 is 1


def test_one_column_and_one_row():
    np.testing.assert_allclose(smoothquant_scales([9.0], np.array([[-4.0]])), [1.5], rtol=4 * HALF_ULP)


# --- smoothing --------------------------------------------------------------------------------------------


def test_folding_into_a_norm(golden):
    smoothed = smooth(golden["a0.5_scales"], golden["ln_w"], golden["W_f16"], golden["ln_b"])
    np.testing.assert_array_equal(smoothed.norm_weight, golden["a0.5_ln_w"])
    np.testing.assert_array_equal(smoothed.norm_bias, golden["a0.5_ln_b"])
    assert len(smoothed.weights) == 3
    np.testing.assert_array_equal(smoothed.weights[0][:8], golden["a0.5_W0_rows0_8"])


@pytest.mark.parametrize("has_bias", [False, True])
def test_the_output_stays(has_bias):
    x, weights = normal(6, 32), [normal(5, 32, seed=1), normal(9, 32, seed=2)]
    norm_weight = np.abs(normal(32, seed=3))
    norm_weight[[3, 17]] *= 50
    norm_bias = normal(32, seed=4) if has_bias else None

    def activations(weight, bias):
        normed = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True) * weight
        return normed if bias is None else normed + bias

    before = activations(norm_weight, norm_bias)
    smoothed = smooth(smoothquant_scales(np.abs(before).max(axis=0), weights), norm_weight, weights, norm_bias)
    after = activations(smoothed.norm_weight, smoothed.norm_bias)
    assert (smoothed.norm_bias is None) == (norm_bias is None)
    # Smoother: the largest column is less far from the smallest.
    assert np.ptp(np.log(np.abs(after).max(axis=0))) < np.ptp(np.log(np.abs(before).max(axis=0)))
    for old, new in zip(weights, smoothed.weights, strict=True):
        # Five roundings on each side, and 32 terms.
        bound = (10 + 2 * 32) * HALF_ULP * (np.abs(before).astype(np.float64) @ np.abs(old).T)
        parts = 0 if norm_bias is None else 4 * HALF_ULP * (np.abs(norm_bias) @ np.abs(old).T)
        assert (np.abs(after.astype(np.float64) @ new.T - before.astype(np.float64) @ old.T) <= bound + parts).all()


def test_what_is_smoothed_stays_as_it_was():
    norm_weight, weight, scales = np.ones(4, np.float32), normal(3, 4), np.float32([1, 2, 3, 4])
    for array in (norm_weight, weight, scales):
        array.flags.writeable = False
    smoothed = smooth(scales, norm_weight, weight)
    smoothed.norm_weight[:] = 0
    smoothed.weights[0][:] = 0
    again = smooth(np.ones(4), norm_weight, weight)
    again.norm_weight[:] = 0
    again.weights[0][:] = 0
    assert norm_weight.all()
    assert weight.all()


# --- the layer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activations_per", ["token", "tensor"])
@pytest.mark.parametrize("per", ["channel", "tensor"])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_error_of_the_layer_before_and_after(golden, activations_per, per, alpha):
    x, weight, scales = (golden[k].astype(np.float32) for k in ("X_f16", "W_f16", f"a{alpha}_scales"))
    weight = weight[0]
    exact = x.astype(np.float64) @ weight.astype(np.float64).T
    errors = []
    for inputs, matrix in ((x, weight), (x / scales, weight * scales)):
        layer = W8A8Linear.from_float(matrix, per=per, activations_per=activations_per)
        errors.append(((layer(inputs) - exact) ** 2).sum() / (exact**2).sum())
    # Theirs multiplies rounded floats in float32, ours integers. Neither is off by more than 130 half ulps of the
    # outputs' size, against a hundredth of it by quantization: so the squares differ by 2 * 130 * 6e-8 / 0.01.
    expected = golden[f"a{alpha}_per_{activations_per}_per_{per}_relerr_before_after"]
    np.testing.assert_allclose(errors, expected, rtol=2e-3)


def test_rounded_activations_and_weights(golden):
    x, weight = golden["X_f16"][:32], golden["W_f16"][0]
    np.testing.assert_array_equal(ql.fake_quantize(x, per="channel")[:8], golden["fq_act_per_token_rows0_8"])
    np.testing.assert_array_equal(ql.fake_quantize(x)[:8], golden["fq_act_per_tensor_rows0_8"])
    np.testing.assert_array_equal(ql.fake_quantize(weight, per="channel")[:8], golden["fq_w_per_channel_rows0_8"])


def test_per_token_is_the_layer_of_the_earlier_lesson():
    x, weight, bias = normal(2, 7, 300), normal(6, 300, seed=1), normal(6, seed=2)
    for per in ("channel", "tensor"):
        other = ql.QuantizedLinear.from_float(weight, bias, per=per, activation_bits=8)
        np.testing.assert_array_equal(W8A8Linear.from_float(weight, bias, per=per)(x), other(x))


@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_per_tensor_is_the_product_of_what_the_codes_stand_for(per):
    x, weight, bias = normal(2, 7, 300), normal(6, 300, seed=1), normal(6, seed=2)
    x[0, 3] *= 20
    y = W8A8Linear.from_float(weight, bias, per=per, activations_per="tensor")(x)
    rounded = ql.fake_quantize(x).astype(np.float64)
    stored = ql.fake_quantize(weight, per=per).astype(np.float64)
    exact, terms = rounded @ stored.T, np.abs(rounded) @ np.abs(stored).T
    assert y.shape == (2, 7, 6)
    assert y.dtype == np.float32
    # Rounded, by half an ulp each: the sum, its products with the two scales, the sum with the bias; and in `exact`
    # both factors of each term.
    assert (np.abs(y - (exact + bias)) <= HALF_ULP * (4 * np.abs(exact) + np.abs(bias) + 2 * terms)).all()


def test_a_static_scale_is_the_dynamic_one_of_the_data_that_it_is_from():
    x, weight = normal(5, 32), normal(6, 32, seed=1)
    dynamic = W8A8Linear.from_float(weight, activations_per="tensor")
    static = W8A8Linear.from_float(weight, activations_per="tensor", activation_absmax=np.abs(x).max())
    np.testing.assert_array_equal(static(x), dynamic(x))
    # ... and stays when the data are others.
    assert not np.array_equal(static(x[:1] / 2), dynamic(x[:1] / 2))
    np.testing.assert_array_equal(static(x)[:2], static(x[:2]))


def test_beyond_a_static_scale_activations_saturate():
    layer = W8A8Linear.from_float(np.eye(3), activations_per="tensor", activation_absmax=1.27)
    np.testing.assert_allclose(layer([5, -1e38, 0.504]), [1.27, -1.27, 0.5], rtol=4 * HALF_ULP)
    tiny = W8A8Linear(ql.quantize(np.eye(3), per="channel"), None, "tensor", 2e-38)
    np.testing.assert_allclose(tiny([1e38, -1e38, 0]), [127 * 2e-38, -127 * 2e-38, 0], rtol=4 * HALF_ULP)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(16,), (1, 16), (3, 16), (2, 3, 16)])
def test_shapes(kind, shape):
    x, layer = normal(*shape), W8A8Linear.from_float(normal(5, 16, seed=1), normal(5, seed=2), **KINDS[kind])
    y = layer(x)
    assert y.shape == (*shape[:-1], 5)
    np.testing.assert_array_equal(y.reshape(-1, 5), layer(x.reshape(-1, 16)))
    np.testing.assert_array_equal(apply_linear(layer, x), y)


def test_bytes():
    weight = normal(6, 32)
    assert W8A8Linear.from_float(weight).shape == (6, 32)
    assert W8A8Linear.from_float(weight).nbytes == 6 * 32 + 4 * 6
    assert W8A8Linear.from_float(weight, per="tensor").nbytes == 6 * 32 + 4
    assert W8A8Linear.from_float(weight, normal(6)).nbytes == 6 * 32 + 4 * 6 + 4 * 6
    assert W8A8Linear.from_float(weight, **KINDS["static"]).nbytes == 6 * 32 + 4 * 6 + 4
    assert not hasattr(W8A8Linear.from_float(weight), "dequantize")  # see `LanguageModel.expanded`


@pytest.mark.parametrize("kind", KINDS)
def test_zero_and_constant_rows(kind):
    x = np.float32([[0] * 8, [0.3] * 8, [-2] * 8])
    weight = np.float32([[0] * 8, [0.25] * 8, [-1] * 8])
    layer = W8A8Linear.from_float(weight, **KINDS[kind])
    exact = x @ weight.T
    # Constant rows of the weight are exact, and so is a token with its own scale; else half a step of 2/127 or 3/127.
    atol = {"token": 1e-6, "tensor": 8 * 1 / 127, "static": 8 * 1.5 / 127}[kind]
    np.testing.assert_allclose(layer(x), exact, rtol=1e-6, atol=atol)
    assert not layer(np.zeros((2, 8))).any()
    assert not W8A8Linear.from_float(np.zeros((3, 8)), **KINDS[kind])(x).any()


@pytest.mark.parametrize("kind", KINDS)
def test_dtype_does_not_matter(kind):
    x = normal(4, 16).astype(np.float16)
    layer = W8A8Linear.from_float(normal(5, 16, seed=1).astype(np.float16), **KINDS[kind])
    assert layer(x).dtype == np.float32
    np.testing.assert_array_equal(layer(x), layer(x.astype(np.float64)))
    np.testing.assert_array_equal(layer(np.asfortranarray(x)), layer(x.tolist()))
    assert smoothquant_scales(x[0] ** 2, x).dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_smoothing_pays_where_columns_differ(kind):
    """The paper's point, on activations that have two large columns."""
    x, weight = normal(200, 64), normal(32, 64, seed=1)
    x[:, [5, 40]] *= 60
    scales = smoothquant_scales(np.abs(x).max(axis=0), weight)
    exact = x.astype(np.float64) @ weight.T

    def mean_error(inputs, matrix):
        options = dict(KINDS[kind])
        if kind == "static":
            options["activation_absmax"] = np.abs(inputs).max()
        return np.abs(W8A8Linear.from_float(matrix, **options)(inputs) - exact).mean()

    assert mean_error(x / scales, weight * scales) < mean_error(x, weight) / 3


# --- refusals ---------------------------------------------------------------------------------------------

ONE = np.ones((1, 2))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: smoothquant_scales([1, np.nan], ONE), ValueError, "activation_absmax must be finite"),
        (lambda: smoothquant_scales([1, -1], ONE), ValueError, "activation_absmax must be 0 or more, not -1"),
        (lambda: smoothquant_scales([[1, 1]], ONE), ValueError, r"activation_absmax must have 1 axis, .* \(1, 2\)"),
        (
            lambda: smoothquant_scales([1, 1, 1], ONE),
            ValueError,
            r"weights must have shape \(out, 3\), as activation_absmax has \(3,\), not \(1, 2\)",
        ),
        (lambda: smoothquant_scales([1, 1], [ONE, [[1, np.inf]]]), ValueError, "weights must be finite"),
        (lambda: smoothquant_scales([1, 1], []), ValueError, "weights must be .* not an empty list"),
        (lambda: smoothquant_scales([1, 1], [[1, 1]]), ValueError, r"weights must have shape \(out, 2\)"),
        (lambda: smoothquant_scales([1, 1], ONE, 1.5), ValueError, "alpha must be from 0 to 1, not 1.5"),
        (lambda: smoothquant_scales([1, 1], ONE, -0.1), ValueError, "alpha must be from 0 to 1, not -0.1"),
        (lambda: smoothquant_scales([1, 1], ONE, np.nan), ValueError, "alpha must be from 0 to 1, not nan"),
        (lambda: smoothquant_scales([1, 1], ONE, "0.5"), TypeError, "alpha must be a number from 0 to 1, not '0.5'"),
        (lambda: smoothquant_scales([1, 1], ONE, True), TypeError, "alpha must be a number from 0 to 1, not True"),
        (lambda: smooth([1, 0], [1, 1], ONE), ValueError, "scales must be above 0, not 0"),
        (lambda: smooth([1, np.nan], [1, 1], ONE), ValueError, "scales must be finite"),
        (lambda: smooth([1, 1], [1], ONE), ValueError, r"norm_weight must have shape \(2,\), .*, not \(1,\)"),
        (lambda: smooth([1, 1], [[1, 1]], ONE), ValueError, r"norm_weight must have shape \(2,\), .*, not \(1, 2\)"),
        (lambda: smooth([1, 1], [1, 1], ONE, [1, 2, 3]), ValueError, r"norm_bias must have shape \(2,\), .* \(3,\)"),
        (lambda: smooth([1, 1], [1, np.nan], ONE), ValueError, "norm_weight must be finite"),
        (lambda: smooth([1, 1], [1, 1], np.ones((1, 3))), ValueError, r"weights must have shape \(out, 2\), as scales"),
        (
            lambda: W8A8Linear.from_float(ONE, activations_per="row"),
            ValueError,
            "activations_per must be one of 'token', 'tensor', not 'row'",
        ),
        (
            lambda: W8A8Linear.from_float(ONE, activation_absmax=1),
            ValueError,
            'activation_scale goes with activations_per="tensor"',
        ),
        *(
            (
                lambda absmax=absmax: W8A8Linear.from_float(ONE, activations_per="tensor", activation_absmax=absmax),
                ValueError,
                "activation_absmax must be finite and above 0",
            )
            for absmax in (0, -1, np.nan, np.inf)
        ),
        *(
            (
                lambda scale=scale: W8A8Linear(ql.quantize(ONE, per="channel"), None, "tensor", scale),
                ValueError,
                "activation_scale must be from 1.1754944e-38 to 3.4028235e",
            )
            for scale in (1e-39, 1e39)
        ),
        (
            lambda: W8A8Linear(ql.quantize(ONE, per="group", group_size=1)),
            ValueError,
            "activation_bits needs a symmetric weight of at most 8 bits, per tensor or per channel",
        ),
        (lambda: W8A8Linear(ONE), TypeError, "weight must be a QuantizedTensor"),
        (lambda: W8A8Linear.from_float(ONE, per="group"), ValueError, "group_size"),
        (lambda: W8A8Linear.from_float(ONE, [1, 2]), ValueError, r"bias must have shape \(1,\)"),
        (lambda: W8A8Linear.from_float([[np.nan]]), ValueError, "must be finite"),
        (lambda: W8A8Linear.from_float(ONE)([1, 2, 3]), ValueError, "x must have 2 values along its last axis"),
        (lambda: W8A8Linear.from_float(ONE)(1.0), ValueError, "x must have 2 values along its last axis"),
        (lambda: W8A8Linear.from_float(ONE)([1, np.nan]), ValueError, "x must be finite"),
    ],
)
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()

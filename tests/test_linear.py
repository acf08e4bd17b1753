"""Linear layers: exact integer sums, the error that theory allows, shapes, refusals."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantlab_helpers as ql
from quantlab_helpers import linear


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# --- linear_forward ---------------------------------------------------------------------------------------


def test_linear_forward_is_the_plain_formula():
    x, weight, bias = normal(5, 8), normal(3, 8, seed=1), normal(3, seed=2)
    np.testing.assert_array_equal(ql.linear_forward(x, weight), x @ weight.T)
    np.testing.assert_array_equal(ql.linear_forward(x, weight, bias), x @ weight.T + bias)
    assert ql.linear_forward(x, weight, bias).dtype == np.float32
    assert ql.linear_forward(x[0], weight).shape == (3,)
    assert ql.linear_forward(x.reshape(5, 1, 8), weight, bias).shape == (5, 1, 3)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_linear_forward_computes_half_precision_in_float32(dtype):
    x, weight, bias = (array.astype(dtype) for array in (normal(5, 8), normal(3, 8), normal(3)))
    expected = x.astype(np.float32) @ weight.astype(np.float32).T + bias.astype(np.float32)
    np.testing.assert_array_equal(ql.linear_forward(x, weight, bias), expected)


@pytest.mark.parametrize(
    ("x", "weight", "bias", "message"),
    [
        (
            np.ones((2, 3)),
            np.ones((4, 5)),
            None,
            r"x must have 5 values along its last axis, as weight of shape \(4, 5\)",
        ),
        (1.0, np.ones((4, 5)), None, r"x must have 5 values along its last axis.*its shape is \(\)"),
        (np.ones(5), np.ones(5), None, r"weight must have 2 axes, \(out, in\), but its shape is \(5,\)"),
        (np.ones(5), np.ones((1, 4, 5)), None, "weight must have 2 axes"),
        (
            np.ones(5),
            np.ones((4, 5)),
            np.ones(5),
            r"bias must have shape \(4,\), one value for each output, not \(5,\)",
        ),
        (np.ones(5), np.ones((4, 5)), 1.0, r"bias must have shape \(4,\)"),
        (np.full(5, np.nan), np.ones((4, 5)), None, "x must be finite"),
        (np.ones(5), np.full((4, 5), np.inf), None, "weight must be finite"),
        (np.ones(5), np.ones((4, 5)), np.full(4, np.inf), "bias must be finite"),
    ],
)
def test_linear_forward_refuses(x, weight, bias, message):
    with pytest.raises(ValueError, match=message):
        ql.linear_forward(x, weight, bias)


# --- int8_matmul ------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(0, 3), st.integers(1, 3), st.integers(1, 2500))
def test_int8_matmul_is_exact(seed, rows, columns, terms):
    rng = np.random.default_rng(seed)
    a = rng.integers(-128, 128, (rows, terms), dtype=np.int8)
    b = rng.integers(-128, 128, (columns, terms), dtype=np.int8)
    result = ql.int8_matmul(a, b)
    np.testing.assert_array_equal(result, a.astype(np.int64) @ b.astype(np.int64).T)
    assert result.dtype == np.int32


@pytest.mark.parametrize(
    "terms", [linear.EXACT_TERMS - 1, linear.EXACT_TERMS, linear.EXACT_TERMS + 1, linear.MAX_TERMS]
)
@pytest.mark.parametrize(("left", "right"), [(-128, -128), (-128, 127), (127, 127)])
def test_int8_matmul_never_wraps(terms, left, right):
    a, b = np.full((2, terms), left, np.int8), np.full((1, terms), right, np.int8)
    a[1, :-1] -= np.sign(left) * (np.arange(terms - 1) % 2).astype(np.int8)  # odd sums need all the bits
    expected = a.astype(np.int64) @ b.astype(np.int64).T
    np.testing.assert_array_equal(ql.int8_matmul(a, b), expected)


def test_int8_matmul_shapes():
    b = np.ones((3, 4), np.int8)
    assert ql.int8_matmul(np.ones(4, np.int8), b).shape == (3,)
    assert ql.int8_matmul(np.ones((2, 5, 4), np.int8), b).shape == (2, 5, 3)
    assert ql.int8_matmul(np.ones((4, 2), np.int8).T, b).tolist() == [[4, 4, 4], [4, 4, 4]]


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        (np.ones(4), np.ones((3, 4), np.int8), TypeError, "a must hold int8 codes, not float64"),
        (np.ones(4, np.int8), np.ones((3, 4), np.uint8), TypeError, "b must hold int8 codes, not uint8"),
        (np.ones(5, np.int8), np.ones((3, 4), np.int8), ValueError, "a must have 4 values along its last axis, as b"),
        (np.ones(4, np.int8), np.ones(4, np.int8), ValueError, "b must have 2 axes"),
        (np.ones(2**17, np.int8), np.ones((1, 2**17), np.int8), ValueError, "at most 131071 columns.* not 131072"),
    ],
)
def test_int8_matmul_refuses(a, b, error, message):
    with pytest.raises(error, match=message):
        ql.int8_matmul(a, b)


# --- QuantizedLinear --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"per": "tensor"}, {"num_bits": 4}, {"num_bits": 4, "per": "group", "group_size": 16}, {"num_bits": 12}],
)
def test_weight_only_is_a_product_with_the_dequantized_weight(options):
    x, weight, bias = normal(4, 32), normal(6, 32, seed=1), normal(6, seed=2)
    layer = ql.QuantizedLinear.from_float(weight, bias, **options)
    restored = ql.fake_quantize(weight, **{"num_bits": 8, "per": "channel", **options})
    np.testing.assert_array_equal(layer(x), x @ restored.T + bias)
    assert layer.nbytes == layer.weight.nbytes + 4 * 6
    assert ql.QuantizedLinear.from_float(weight, **options).nbytes == layer.weight.nbytes


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize(("num_bits", "activation_bits"), [(8, 8), (4, 8), (8, 5)])
def test_integer_product_is_the_product_of_what_the_codes_stand_for(per, num_bits, activation_bits):
    x, weight, bias = normal(2, 7, 300), normal(6, 300, seed=1), normal(6, seed=2)
    x[0, 3] *= 1000  # a token of another size has its own scale
    layer = ql.QuantizedLinear.from_float(weight, bias, num_bits=num_bits, per=per, activation_bits=activation_bits)
    y = layer(x)

    tokens = np.stack([[ql.fake_quantize(token, activation_bits) for token in row] for row in x]).astype(np.float64)
    restored = ql.fake_quantize(weight, num_bits, per=per).astype(np.float64)
    exact = tokens @ restored.T
    assert y.shape == (2, 7, 6)
    assert y.dtype == np.float32
    # The sum of integers is exact. Rounded, by half an ulp each, are: the sum to float32, its products with the two
    # scales, the sum with the bias; and in `exact` both factors of each term.
    terms = np.abs(tokens) @ np.abs(restored).T
    assert (np.abs(y - (exact + bias)) <= 2.0**-24 * (4 * np.abs(exact) + np.abs(bias) + 2 * terms)).all()


def test_w8a8_error_is_within_half_a_step_of_each_factor():
    x, weight = normal(5, 64), normal(6, 64, seed=1)
    layer = ql.QuantizedLinear.from_float(weight, activation_bits=8)
    x_step = np.abs(x).max(axis=1, keepdims=True).astype(np.float64) / 127
    w_step = np.abs(weight).max(axis=1, keepdims=True).astype(np.float64) / 127
    # |xw - (x+dx)(w+dw)| <= |x||dw| + |w||dx| + |dx||dw| with |dx|, |dw| at most half a step
    bound = np.abs(x).sum(1, keepdims=True) * w_step.T / 2 + x_step / 2 * np.abs(weight).sum(1) + 16 * x_step * w_step.T
    assert (np.abs(layer(x) - x.astype(np.float64) @ weight.T) <= bound * (1 + 1e-5)).all()


def test_one_token():
    layer = ql.QuantizedLinear.from_float(normal(6, 32), normal(6), activation_bits=8)
    x = normal(3, 32)
    np.testing.assert_array_equal(layer(x[1]), layer(x)[1])
    np.testing.assert_array_equal(layer(x.astype(np.float64)), layer(x))
    np.testing.assert_array_equal(layer(np.zeros(32)), normal(6))


def test_an_affine_weight_is_weight_only():
    weight = ql.quantize(normal(6, 32), 4, symmetric=False, per="group", group_size=8)
    x = normal(2, 32)
    np.testing.assert_array_equal(ql.QuantizedLinear(weight)(x), x @ weight.dequantize().T)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: ql.QuantizedLinear.from_float(normal(4, 8), per="group", group_size=4, activation_bits=8),
            ValueError,
            "activation_bits needs a symmetric weight .* per tensor or per channel, not .*per group of 4",
        ),
        (
            lambda: ql.QuantizedLinear(ql.quantize(normal(4, 8), symmetric=False), activation_bits=8),
            ValueError,
            "activation_bits needs a symmetric weight",
        ),
        (
            lambda: ql.QuantizedLinear.from_float(normal(4, 8), num_bits=12, activation_bits=8),
            ValueError,
            "activation_bits needs a symmetric weight of at most 8 bits",
        ),
        (
            lambda: ql.QuantizedLinear.from_float(normal(4, 8), activation_bits=9),
            ValueError,
            "activation_bits must be from 2 to 8, not 9",
        ),
        (lambda: ql.QuantizedLinear.from_float(normal(8), per="tensor"), ValueError, "weight must have 2 axes"),
        (lambda: ql.QuantizedLinear.from_float(normal(4, 8), normal(8)), ValueError, r"bias must have shape \(4,\)"),
        (
            lambda: ql.QuantizedLinear(normal(4, 8)),
            TypeError,
            r"weight must be a QuantizedTensor \(see from_float\), not ndarray",
        ),
        *(
            (
                lambda bias=bias: ql.QuantizedLinear(ql.quantize(normal(4, 8)), bias),
                TypeError,
                rf"bias must be a float32 array \(see from_float\), not {given}",
            )
            for bias, given in [
                (np.ones(4), "float64"),
                (np.ones(4, np.float16), "float16"),
                (np.ones(4, int), "int64"),
                ([1.0] * 4, "list"),
            ]
        ),
        (
            lambda: ql.QuantizedLinear(ql.quantize(normal(4, 8)), np.float32([1, 2, 3, np.nan])),
            ValueError,
            "bias must be finite",
        ),
        (lambda: ql.QuantizedLinear.from_float(normal(4, 8), normal(4), 8), TypeError, "positional arguments"),
        (
            lambda: ql.QuantizedLinear.from_float(normal(4, 8), np.full(4, 1e39)),
            ValueError,
            r"bias must be within float32's range, \+-3\.4028235e\+38, but it reaches 1e\+39",
        ),
        *(
            (
                lambda bits=bits: ql.QuantizedLinear.from_float(normal(4, 8), activation_bits=bits)([1e300] * 8),
                ValueError,
                r"x must be within float32's range, .* reaches 1e\+300",
            )
            for bits in (None, 8)
        ),
        (lambda: ql.QuantizedLinear.from_float(normal(4, 8))(normal(2, 4)), ValueError, "x must have 8 values"),
        (
            lambda: ql.QuantizedLinear.from_float(normal(4, 8), activation_bits=8)(normal(2, 4)),
            ValueError,
            "x must have 8 values",
        ),
        (
            lambda: ql.QuantizedLinear.from_float(normal(4, 8), activation_bits=8)([np.nan] * 8),
            ValueError,
            "x must be finite",
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_quantized_linear_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()

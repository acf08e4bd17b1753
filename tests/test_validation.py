"""The shared checks: what passes comes back unchanged, what does not gets an error that names the fix."""

import ml_dtypes
import numpy as np
import pytest

from quantlab_helpers import validation

# --- whole_number -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2, 8, 16, np.int64(8), np.uint8(16)])
def test_whole_number_in_range(value):
    result = validation.whole_number(value, "num_bits", 2, 16)
    assert result == value
    assert type(result) is int


@pytest.mark.parametrize("value", [1, 17, 33, 0, -8, np.int8(1)])
def test_whole_number_out_of_range(value):
    with pytest.raises(ValueError, match=rf"^num_bits must be from 2 to 16, not {value}$"):
        validation.whole_number(value, "num_bits", 2, 16)


@pytest.mark.parametrize("value", [8.0, np.float32(8), "8", None, True, np.True_, [8], np.array([8])])
def test_whole_number_of_another_type(value):
    with pytest.raises(TypeError) as error:
        validation.whole_number(value, "num_bits", 2, 16)
    assert str(error.value) == f"num_bits must be a whole number from 2 to 16, not {value!r}"


# --- real_array and finite_array --------------------------------------------------------------------------

REAL_AND_FINITE = [validation.real_array, validation.finite_array]


@pytest.mark.parametrize("check", REAL_AND_FINITE)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_float_arrays_come_back_as_they_are(check, dtype):
    x = np.array([[1.5, -2.0], [0.0, 3.0]]).astype(dtype)
    assert check(x, "x") is x


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int64])
def test_integers_and_booleans_become_float32_where_they_must_be_finite(dtype):
    x = np.array([0, 1, 1]).astype(dtype)
    assert validation.real_array(x, "x") is x
    result = validation.finite_array(x, "x")
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.float32([0, 1, 1]))


@pytest.mark.parametrize("check", REAL_AND_FINITE)
@pytest.mark.parametrize("x", [3.5, np.float32(3.5), [3.5], [[1.0, 2.0], [3.0, 4.0]], (1.0, 2.0)])
def test_numbers_and_lists_become_arrays(check, x):
    result = check(x, "x")
    assert isinstance(result, np.ndarray)
    assert result.shape == np.shape(x)
    np.testing.assert_array_equal(result, x)


@pytest.mark.parametrize("check", REAL_AND_FINITE)
@pytest.mark.parametrize(
    ("x", "given"),
    [
        ("1.5", "<U3 (got str)"),
        (["a", "b"], "<U1 (got list)"),
        (None, "object (got NoneType)"),
        ([1.0, None], "object (got list)"),
        ({"w": 1.0}, "object (got dict)"),
        (1j, "complex128 (got complex)"),
        (np.array(["2026-01-01"], "datetime64[D]"), "datetime64[D] (got ndarray)"),
    ],
)
def test_what_is_not_a_real_number_is_refused(check, x, given):
    with pytest.raises(TypeError) as error:
        check(x, "weight")
    assert str(error.value) == f"weight must hold real numbers, not {given}"


@pytest.mark.parametrize("check", [*REAL_AND_FINITE, validation.integer_array])
def test_rows_of_different_lengths_are_refused(check):
    message = "^weight must be an array, or nested lists whose rows have equal lengths$"
    with pytest.raises(ValueError, match=message):
        check([[1, 2], [3]], "weight")


@pytest.mark.parametrize("check", REAL_AND_FINITE)
@pytest.mark.parametrize("x", [[], np.empty((0, 3)), np.empty((4, 0), np.int8)])
def test_empty_arrays_are_refused_with_their_shape(check, x):
    with pytest.raises(ValueError) as error:
        check(x, "weight")
    assert str(error.value) == f"weight must hold at least one value, but its shape is {np.shape(x)}"


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [-np.inf], [np.nan, np.inf, -np.inf]])
def test_finite_array_counts_nan_and_infinity(dtype, bad):
    x = np.array([1.0, *bad, -2.0]).astype(dtype)
    message = f"^weight must be finite, but {len(bad)} of {len(x)} values are NaN or infinite$"
    with pytest.raises(ValueError, match=message):
        validation.finite_array(x, "weight")


def test_finite_array_refuses_a_single_nan():
    with pytest.raises(ValueError, match=r"^x must be finite, but 1 of 1 values are NaN or infinite$"):
        validation.finite_array(float("nan"), "x")


def test_real_array_lets_nan_and_infinity_through():
    x = np.array([np.nan, np.inf])
    assert validation.real_array(x, "x") is x


def test_finite_array_takes_the_largest_and_the_smallest_numbers():
    x = np.array([np.finfo(np.float32).max, -np.finfo(np.float32).max, 1e-45, -0.0], np.float32)
    assert validation.finite_array(x, "x") is x


# --- float32_array ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_float32_array_is_a_copy(dtype):
    x = np.array([[0, 1], [1, 0]]).astype(dtype)
    result = validation.float32_array(x, "x")
    assert result.dtype == np.float32
    assert not np.shares_memory(result, x)
    np.testing.assert_array_equal(result, x.astype(np.float32))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("x", "reached"), [([1, -1e39], "1e+39"), (1e300, "1e+300"), ([3.4028236e38], "3.4028236e+38")]
)
def test_float32_array_refuses_what_is_beyond_float32(x, reached):
    with pytest.raises(ValueError) as error:
        validation.float32_array(x, "bias")
    assert str(error.value) == f"bias must be within float32's range, +-3.4028235e+38, but it reaches {reached}"


@pytest.mark.parametrize("x", [np.inf, [1, np.nan]])
def test_float32_array_refuses_nan_and_infinity(x):
    with pytest.raises(ValueError, match=r"^bias must be finite, but 1 of"):
        validation.float32_array(x, "bias")


# --- integer_array ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64, np.uint64])
def test_integer_array_keeps_integers(dtype):
    codes = np.array([[0, 1], [2, 3]], dtype)
    assert validation.integer_array(codes, "codes") is codes


def test_integer_array_takes_lists():
    np.testing.assert_array_equal(validation.integer_array([1, 2], "codes"), [1, 2])


@pytest.mark.parametrize(
    ("x", "given"),
    [
        ([1.0, 2.0], "float64 (got list)"),
        (np.float32([1]), "float32 (got ndarray)"),
        (True, "bool (got bool)"),
        ("12", "<U2 (got str)"),
        (None, "object (got NoneType)"),
    ],
)
def test_integer_array_refuses_the_rest(x, given):
    with pytest.raises(TypeError) as error:
        validation.integer_array(x, "codes")
    assert str(error.value) == f"codes must hold integers, not {given}"


# --- one_of -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["tensor", "channel", "group"])
def test_one_of_returns_an_allowed_value(value):
    assert validation.one_of(value, "per", ("tensor", "channel", "group")) == value


@pytest.mark.parametrize("value", ["row", "Tensor", "", None, 1, ["tensor"], np.array(["tensor", "row"])])
def test_one_of_lists_what_is_allowed(value):
    with pytest.raises(ValueError) as error:
        validation.one_of(value, "per", ("tensor", "channel", "group"))
    assert str(error.value) == f"per must be one of 'tensor', 'channel', 'group', not {value!r}"


# --- boolean ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
def test_boolean(value):
    assert validation.boolean(value, "symmetric") is bool(value)


@pytest.mark.parametrize("value", ["False", 0, 1, None, 1.0, np.array([True])])
def test_boolean_refuses_what_only_looks_true_or_false(value):
    with pytest.raises(TypeError) as error:
        validation.boolean(value, "symmetric")
    assert str(error.value) == f"symmetric must be True or False, not {value!r}"


# --- positive_number --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 0.01, 5e-324, np.float32(0.5), np.int64(3)])
def test_positive_number(value):
    result = validation.positive_number(value, "scale")
    assert result == value
    assert type(result) is float


@pytest.mark.parametrize("value", [0, 0.0, -1, -1e-9, np.inf, -np.inf, np.nan])
def test_positive_number_out_of_range(value):
    with pytest.raises(ValueError) as error:
        validation.positive_number(value, "scale")
    assert str(error.value) == f"scale must be finite and above 0, not {value}"


@pytest.mark.parametrize("value", ["1", None, True, np.True_, 1j, [1.0], np.array([1.0])])
def test_positive_number_of_another_type(value):
    with pytest.raises(TypeError) as error:
        validation.positive_number(value, "scale")
    assert str(error.value) == f"scale must be a number above 0, not {value!r}"

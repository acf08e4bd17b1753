"""Which values the number formats hold, and what casting to them does."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantlab_helpers as ql
from quantlab_helpers.number_formats import NumberFormat

# name: bits, exponent bits, mantissa bits, max, smallest step, number of values, from the specifications
SPECIFIED = {
    "FP32": (32, 8, 23, (2 - 2**-23) * 2.0**127, 2.0**-149, 2**32 - 2**24 - 1),
    "FP16": (16, 5, 10, 65504, 2.0**-24, 2**16 - 2**11 - 1),
    "BF16": (16, 8, 7, (2 - 2**-7) * 2.0**127, 2.0**-133, 2**16 - 2**8 - 1),
    "FP8_E4M3": (8, 4, 3, 448, 2.0**-9, 256 - 2 - 1),
    "FP8_E5M2": (8, 5, 2, 57344, 2.0**-16, 256 - 8 - 1),
    "FP6_E2M3": (6, 2, 3, 7.5, 2.0**-3, 63),
    "FP6_E3M2": (6, 3, 2, 28, 2.0**-4, 63),
    "FP4_E2M1": (4, 2, 1, 6, 0.5, 15),
    **{f"INT{b}": (b, None, None, 2 ** (b - 1) - 1, 1, 2**b - 1) for b in range(8, 1, -1)},
    "NF4": (4, None, None, 1, 0.07958029955625534, 16),
}
FLOATS = ["FP16", "BF16", "FP8_E4M3", "FP8_E5M2", "FP6_E2M3", "FP6_E3M2", "FP4_E2M1"]
INTEGERS = [f"INT{bits}" for bits in range(2, 9)]
LISTABLE = [*FLOATS, *INTEGERS, "NF4"]
SMALL = [name for name in LISTABLE if SPECIFIED[name][0] <= 8]


@st.composite
def arrays_for(draw, names, width):
    """A format and up to 30 floats: in or near its range, on its values, half-way between, any at all."""
    name = draw(st.sampled_from(names))
    grid = ql.representable_values(name).astype(np.float64)
    middles = (grid[:-1] + grid[1:]) / 2
    reach = float(np.float32(1.5 * min(ql.FORMATS[name].max, 2e38)))
    anything = st.floats(allow_nan=False, allow_infinity=False, width=width)
    near = st.floats(-reach, reach, width=width)
    special = st.sampled_from([*grid[:: -(-len(grid) // 300)], *middles[:: -(-len(middles) // 300)]])
    values = draw(st.lists(st.one_of(near, special, anything), min_size=1, max_size=30))
    return name, np.array(values, dtype=f"f{width // 8}")


# --- what a format holds --------------------------------------------------------------------------------


def test_formats_are_as_specified():
    facts = {
        f.name: (f.bits, f.exponent_bits, f.mantissa_bits, f.max, f.smallest_step, f.num_values)
        for f in ql.FORMATS.values()
    }
    assert facts == SPECIFIED
    assert list(ql.FORMATS) == [f.name for f in ql.FORMATS.values()]


@pytest.mark.parametrize("name", LISTABLE)
def test_representable_values_agree_with_the_facts(name):
    values = ql.representable_values(name)
    gaps = np.diff(values.astype(np.float64))
    assert values.dtype == np.float32
    assert len(values) == ql.FORMATS[name].num_values
    assert (gaps > 0).all()
    assert gaps.min() == ql.FORMATS[name].smallest_step
    assert values[0] == -ql.FORMATS[name].max
    assert values[-1] == ql.FORMATS[name].max
    assert not np.signbit(values[values == 0]).any()


def test_representable_values_are_a_fresh_array():
    ql.representable_values("NF4")[:] = 0
    assert ql.representable_values("NF4")[0] == -1


def test_fp32_is_too_large_to_list():
    with pytest.raises(ValueError, match=r"at most 16 bits: FP32 has 4,278,190,079 .* 4 billion"):
        ql.representable_values("FP32")


# --- names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *((name, name) for name in SPECIFIED),
        *((name.lower().replace("_", "-"), name) for name in SPECIFIED),
        *((name.replace("_", " "), name) for name in SPECIFIED),
        *((name.split("_")[1].lower(), name) for name in SPECIFIED if "_" in name),
        *((ql.FORMATS[name].dtype.name, name) for name in ["FP32", *FLOATS]),
        ("e4m3fn", "FP8_E4M3"),
        ("fp8_e4m3fn", "FP8_E4M3"),
        ("float8_e4m3fn", "FP8_E4M3"),
        ("float32", "FP32"),
        ("float16", "FP16"),
        ("bfloat16", "BF16"),
        ("int 8", "INT8"),
    ],
)
def test_spellings(written, meant):
    x = np.float32([-3.3, 0.26, 0.8])
    np.testing.assert_array_equal(ql.cast(x, written), ql.cast(x, ql.FORMATS[meant]))
    if meant != "FP32":
        assert len(ql.representable_values(written)) == SPECIFIED[meant][-1]


@pytest.mark.parametrize("name", ["", "FP8", "FP4", "INT1", "INT16", "uint8", "float8_e4m3fnuz", "int"])
@pytest.mark.parametrize("function", [lambda name: ql.cast([1.0], name), ql.representable_values])
def test_unknown_name_lists_the_known_ones(function, name):
    with pytest.raises(ValueError, match="format must be one of") as error:
        function(name)
    assert repr(name) in str(error.value)
    assert all(known in str(error.value) for known in SPECIFIED)


@pytest.mark.parametrize("format", [8, None, np.float16, ["FP16"]])
def test_a_format_is_a_name_or_a_number_format(format):
    with pytest.raises(TypeError, match="format must be the name of a format or a NumberFormat"):
        ql.cast([1.0], format)


def test_a_number_format_of_your_own():
    thirds = NumberFormat("THIRDS", 2, None, None, 1.0, 0.5, 4, levels=(-1.0, -0.5, 0.5, 1.0))
    np.testing.assert_array_equal(ql.cast([-9, -0.8, 0.1, 0.7], thirds), np.float32([-1, -1, 0.5, 0.5]))


# --- rounding -------------------------------------------------------------------------------------------


@given(arrays_for(SMALL, width=64))
def test_no_value_is_nearer(example):
    name, x = example
    distance = np.abs(ql.cast(x, name).astype(np.float64) - x)
    nearest = np.abs(ql.representable_values(name).astype(np.float64)[:, None] - x).min(axis=0)
    # NF4's midpoints are rounded to float32, so are off by up to a quarter of its epsilon, which counts twice
    allowed = np.finfo(np.float32).eps / 2 if name == "NF4" else 0
    assert (distance <= nearest + allowed).all()


@pytest.mark.parametrize("name", ["FP16", "BF16"])
def test_no_value_is_nearer_in_16_bits(name):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=10), rng.normal(size=10) * 1e-5, rng.normal(size=10) * 6e4])
    x = np.concatenate([x, [1e-45, 3e-8, 65519.99, 65520.0, 3.4e38, -3.4e38]])
    distance = np.abs(ql.cast(x, name).astype(np.float64) - x)
    nearest = np.abs(ql.representable_values(name).astype(np.float64)[:, None] - x).min(axis=0)
    assert (distance <= nearest).all()


@pytest.mark.parametrize("name", FLOATS)
def test_ties_go_to_the_even_mantissa(name):
    values = ql.representable_values(name).astype(np.float64)
    result = ql.cast((values[:-1] + values[1:]) / 2, name)
    dtype = ql.FORMATS[name].dtype
    codes = result.astype(dtype).view(f"u{dtype.itemsize}")
    assert (codes % 2 == 0).all()
    assert ((result == values[:-1]) | (result == values[1:])).all()


@pytest.mark.parametrize("name", INTEGERS)
def test_ties_go_to_the_even_integer(name):
    values = ql.representable_values(name)
    result = ql.cast((values[:-1] + values[1:]) / 2, name)
    assert (result % 2 == 0).all()


def test_ties_of_fp32_go_to_the_even_mantissa():
    np.testing.assert_array_equal(ql.cast([1 + 2**-24, 1 + 3 * 2**-24], "FP32"), np.float32([1, 1 + 2**-22]))


def test_ties_of_nf4_go_to_the_lower_level():
    levels = ql.representable_values("NF4")
    midpoints = (levels[:-1] + levels[1:]) / np.float32(2)
    np.testing.assert_array_equal(ql.cast(midpoints, "NF4"), levels[:-1])
    just_above = np.nextafter(midpoints, np.float32(2))
    np.testing.assert_array_equal(ql.cast(just_above, "NF4"), levels[1:])


@pytest.mark.parametrize("name", [*FLOATS, *INTEGERS])
def test_float64_beside_a_tie_is_rounded_once(name):
    """By way of float32 these would fall on the tie itself, and half of them would go the wrong way."""
    values = ql.representable_values(name).astype(np.float64)
    ties = (values[:-1] + values[1:]) / 2
    np.testing.assert_array_equal(ql.cast(np.nextafter(ties, -np.inf), name), values[:-1])
    np.testing.assert_array_equal(ql.cast(np.nextafter(ties, np.inf), name), values[1:])


@given(arrays_for(LISTABLE, width=32))
def test_result_is_representable_and_casting_again_changes_nothing(example):
    name, x = example
    result = ql.cast(x, name)
    assert np.isin(result, ql.representable_values(name)).all()
    np.testing.assert_array_equal(ql.cast(result, name), result)


@pytest.mark.parametrize("name", LISTABLE)
def test_representable_values_are_kept(name):
    values = ql.representable_values(name)
    np.testing.assert_array_equal(ql.cast(values, name), values)


@given(arrays_for(LISTABLE, width=64))
def test_monotone(example):
    name, x = example
    assert (np.diff(ql.cast(np.sort(x), name)) >= 0).all()


@given(arrays_for([name for name in LISTABLE if name != "NF4"], width=64))
def test_odd_symmetry(example):
    name, x = example
    np.testing.assert_array_equal(ql.cast(-x, name), -ql.cast(x, name))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_fp32_keeps_float32(values):
    x = np.array(values, np.float32)
    np.testing.assert_array_equal(ql.cast(x, "FP32").view(np.uint32), x.view(np.uint32))


def test_negative_zero_exists_in_floats_only():
    assert np.signbit(ql.cast(-0.1, "FP4_E2M1"))
    assert not np.signbit(ql.cast([-0.1, -0.0], "INT8")).any()
    assert not np.signbit(ql.cast([-0.01, -0.0], "NF4")).any()


# --- saturation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECIFIED)
def test_saturates(name):
    largest = ql.FORMATS[name].max
    beyond = np.array([np.nextafter(largest, np.inf), largest * 1.001, largest * 1.04, largest * 2, 1e300])
    np.testing.assert_array_equal(ql.cast(beyond, name), np.full(5, largest, np.float32))
    np.testing.assert_array_equal(ql.cast(-beyond, name), np.full(5, -largest, np.float32))
    assert ql.cast(np.finfo(np.float32).max, name) == np.float32(largest)


# --- shapes and dtypes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECIFIED)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4), (2, 3, 4)])
def test_shape_is_kept(name, shape):
    x = np.random.default_rng(1).normal(size=shape)
    result = ql.cast(x, name)
    assert isinstance(result, np.ndarray)
    assert result.shape == shape
    assert result.dtype == np.float32


@pytest.mark.parametrize("name", SPECIFIED)
def test_any_memory_layout(name):
    x = np.random.default_rng(2).normal(size=(6, 8)) * 3
    expected = ql.cast(x, name)
    np.testing.assert_array_equal(ql.cast(np.asfortranarray(x), name), expected)
    np.testing.assert_array_equal(ql.cast(x[::-2, 1::3], name), expected[::-2, 1::3])
    np.testing.assert_array_equal(ql.cast(np.broadcast_to(x[0], (4, 8)), name)[3], expected[0])
    np.testing.assert_array_equal(ql.cast(x.astype(">f8"), name), expected)


@pytest.mark.parametrize("name", SPECIFIED)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.int8, np.int64, bool])
def test_any_real_dtype(name, dtype):
    x = np.array([-100.0, -2.5, -1, 0, 0.3, 1, 2.5, 100]).astype(dtype)
    np.testing.assert_array_equal(ql.cast(x, name), ql.cast(x.astype(np.float64), name))


def test_python_numbers_and_lists():
    assert ql.cast(2.6, "INT4") == 3
    np.testing.assert_array_equal(ql.cast([[1, 9], [0.4, -9]], "INT4"), np.float32([[1, 7], [0, -7]]))


@pytest.mark.parametrize("name", SPECIFIED)
def test_input_is_left_alone(name):
    x = np.float32([1e30, -0.3, 0.7])
    before = x.copy()
    result = ql.cast(x, name)
    result[:] = 5
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", SPECIFIED)
def test_nan_and_infinity_are_refused(name, bad):
    with pytest.raises(ValueError, match="x must be finite, but 1 of 3 values"):
        ql.cast([1.0, bad, 2.0], name)


def test_empty_and_other_types_are_refused():
    with pytest.raises(ValueError, match=r"x must hold at least one value, but its shape is \(0, 3\)"):
        ql.cast(np.empty((0, 3)), "INT8")
    for x in ["12", [1j], None]:
        with pytest.raises(TypeError, match="x must hold real numbers"):
            ql.cast(x, "INT8")


# --- scaled cast --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LISTABLE)
def test_scaled_cast_does_not_see_the_unit(name):
    x = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    for unit in (2.0**-100, 2.0**100):  # powers of 2, so that nothing but the unit changes
        np.testing.assert_allclose(ql.scaled_cast(unit * x, name), unit * ql.scaled_cast(x, name), rtol=2.0**-23)


@pytest.mark.parametrize("name", LISTABLE)
def test_scaled_cast_goes_to_the_nearest_value_of_the_scaled_format(name):
    x = np.random.default_rng(1).normal(size=300)
    grid = ql.representable_values(name).astype(np.float64) * (np.abs(x).max() / ql.FORMATS[name].max)
    nearest = np.array([np.abs(grid - value).min() for value in x])
    np.testing.assert_allclose(np.abs(ql.scaled_cast(x, name) - x), nearest, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bits", range(2, 9))
def test_scaled_cast_to_an_integer_format_is_symmetric_quantization(bits):
    x = np.random.default_rng(2).normal(size=300).astype(np.float32)
    np.testing.assert_allclose(ql.scaled_cast(x, f"INT{bits}"), ql.fake_quantize(x, bits), rtol=1e-6)


def test_scaled_cast_of_zeros_and_of_extremes():
    largest, smallest = np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal
    for name in LISTABLE:
        assert not ql.scaled_cast(np.zeros(3), name).any()
        x = np.array([largest, -smallest, 0.0], dtype=np.float32)
        assert ql.scaled_cast(x, name)[0] == largest
        assert ql.scaled_cast(x[1:], name)[0] == -smallest
    assert ql.scaled_cast(np.float16([1, 2]), "INT8").dtype == np.float32
    with pytest.raises(ValueError, match="x must be finite"):
        ql.scaled_cast([1.0, np.nan], "INT8")


# --- the table ------------------------------------------------------------------------------------------


def test_format_table_has_a_row_for_each_format():
    table = ql.format_table()
    assert [row[0] for row in table.rows] == list(SPECIFIED)
    assert all(len(row) == len(table.headers) for row in table.rows)
    assert ["FP8_E4M3", "8", "4", "3", "448", "0.001953125", "253"] in table.rows
    assert ["INT4", "4", "-", "-", "7", "1", "15"] in table.rows
    for row, name in zip(table.rows, SPECIFIED, strict=True):
        assert float(row[4]) == pytest.approx(SPECIFIED[name][3], rel=1e-6)
        assert float(row[5]) == pytest.approx(SPECIFIED[name][4], rel=1e-6)
        assert int(row[6].replace(",", "")) == SPECIFIED[name][5]

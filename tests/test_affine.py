"""Scale and zero point: the numbers of the course, the theory's bounds for any input, the edges, the files."""

import json
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import quantlab_helpers as ql
from quantlab_helpers import affine, storage

LARGEST = np.finfo(np.float32).max
PER = [{"per": "tensor"}, {"per": "channel"}, {"per": "group", "group_size": 4}]

num_bits_range = st.integers(2, 16)
any_float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def tensors_and_options(draw):
    """Any finite float32 array (denormal and huge numbers too) with options that fit its shape."""
    per = draw(st.sampled_from(["tensor", "channel", "group"]))
    options = {"num_bits": draw(num_bits_range), "symmetric": draw(st.booleans()), "per": per}
    shape = draw(hnp.array_shapes(min_dims=2 if per == "channel" else 1, max_dims=3, max_side=6))
    if per == "group":
        options["group_size"] = draw(st.integers(1, 4))
        shape = (*shape[:-1], shape[-1] * options["group_size"])
    return draw(hnp.arrays(np.float32, shape, elements=any_float32)), options


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def three_lines(x, num_bits):
    """The three lines that one writes first."""
    qmax = 2 ** (num_bits - 1) - 1
    scale = np.max(np.abs(x)) / qmax
    return np.clip(np.round(x / scale), -qmax - 1, qmax).astype(np.int8 if num_bits <= 8 else np.int16), scale


def plain_quantize(x, num_bits=8, *, symmetric=True, per="tensor", group_size=None):
    """The definition, without blocks: codes, scales and zero points, one row for each scale."""
    x = np.asarray(x).astype(np.float32)
    row = {"tensor": x.size, "channel": x[:1].size if x.ndim else 1, "group": group_size}[per]
    rows = x.reshape(-1, row)
    lowest, highest = rows.min(axis=1, keepdims=True, initial=0), rows.max(axis=1, keepdims=True, initial=0)
    if symmetric:
        qmax = 2 ** (num_bits - 1) - 1
        scale = np.maximum(-lowest, highest) / np.float32(qmax)
        return np.rint(rows / scale).reshape(x.shape), scale, np.zeros_like(scale)
    qmax = 2**num_bits - 1
    scale = (highest - lowest) / np.float32(qmax)
    zero_point = np.clip(np.rint(-lowest / scale), 0, qmax)
    return np.clip(np.rint(rows / scale) + zero_point, 0, qmax).reshape(x.shape), scale, zero_point


def per_value(factor, quantized):
    """The scale or zero point of each value, in the shape of the values."""
    row = quantized.codes.size // factor.size
    return np.repeat(factor.reshape(-1), row).reshape(quantized.shape)


def assert_same(actual, expected):
    np.testing.assert_array_equal(actual.codes, expected.codes)
    np.testing.assert_array_equal(actual.scale, expected.scale)
    np.testing.assert_array_equal(actual.zero_point, expected.zero_point)
    for name in ("codes", "scale", "zero_point"):
        assert getattr(actual, name).dtype == getattr(expected, name).dtype
    assert (actual.num_bits, actual.symmetric, actual.per, actual.group_size) == (
        expected.num_bits,
        expected.symmetric,
        expected.per,
        expected.group_size,
    )


# --- the numbers of the course ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def course_weights():
    return np.random.default_rng(seed=4).normal(loc=0, scale=0.8, size=1000).astype(np.float32)


def test_the_course_prints_these_numbers(course_weights):
    codes, scale = ql.quantize_per_tensor(course_weights)
    error = np.abs(course_weights - ql.dequantize(codes, scale))
    assert f"{scale:.5f}" == "0.02058"
    assert (str(error.mean()), str(error.max())) == ("0.0051890863", "0.010284424")
    assert codes.dtype == np.int8
    assert type(scale) is np.float32


@pytest.mark.parametrize(("num_bits", "mean", "largest"), [(8, "0.0052", "0.0103"), (4, "0.0936", "0.1864")])
def test_the_course_table(course_weights, num_bits, mean, largest):
    error = np.abs(course_weights - ql.fake_quantize(course_weights, num_bits))
    assert (f"{error.mean():.4f}", f"{error.max():.4f}") == (mean, largest)


@pytest.mark.parametrize("size", [1, 1000, affine.BLOCK - 1, affine.BLOCK, affine.BLOCK + 1, 3 * affine.BLOCK + 7])
@pytest.mark.parametrize("num_bits", [2, 4, 8, 16])
def test_the_three_lines_that_one_writes_first_give_the_same_codes(size, num_bits):
    x = normal(size)
    expected, expected_scale = three_lines(x, num_bits)
    codes, scale = ql.quantize_per_tensor(x, num_bits)
    np.testing.assert_array_equal(codes, expected)
    assert codes.dtype == expected.dtype
    assert scale == expected_scale
    np.testing.assert_array_equal(ql.quantize(x, num_bits).codes, expected)


@pytest.mark.parametrize("num_bits", range(2, 17))
def test_dequantize_is_the_plain_formula(num_bits):
    codes, scale = ql.quantize_per_tensor(normal(50), num_bits)
    np.testing.assert_array_equal(ql.dequantize(codes, scale), codes.astype(np.float32) * scale)
    np.testing.assert_array_equal(
        ql.dequantize(codes, scale, 3), (codes.astype(np.int32) - 3).astype(np.float32) * scale
    )


# --- the definition, for every mapping, shape, dtype and memory layout ------------------------------------


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 16 values, so that small arrays have many rows or pieces of a row in a block, short ones and others."""
    monkeypatch.setattr(affine, "BLOCK", 16)
    monkeypatch.setattr(affine, "SHORT_ROW", 4)


DEFINED = [
    *((shape, PER[0]) for shape in [(), (1,), (100,), (5, 4), (3, 2, 8)]),
    *((shape, PER[1]) for shape in [(5, 4), (7, 6), (3, 20), (40, 3), (2, 3, 5, 4)]),
    *((shape, PER[2]) for shape in [(12,), (3, 20), (2, 5, 8)]),
]


@pytest.mark.parametrize(("shape", "options"), DEFINED)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("num_bits", [2, 5, 8, 9, 16])
def test_quantize_is_the_definition(small_blocks, shape, options, symmetric, num_bits):
    x = normal(*shape) + np.float32(0.3)
    quantized = ql.quantize(x, num_bits, symmetric=symmetric, **options)
    codes, scale, zero_point = plain_quantize(x, num_bits, symmetric=symmetric, **options)

    np.testing.assert_array_equal(quantized.codes, codes)
    np.testing.assert_array_equal(quantized.scale.reshape(-1, 1), scale)
    np.testing.assert_array_equal(quantized.zero_point.reshape(-1, 1), zero_point)
    assert quantized.codes.dtype == f"{'' if symmetric else 'u'}int{8 if num_bits <= 8 else 16}"
    assert (quantized.scale.dtype, quantized.zero_point.dtype) == (np.float32, np.int32)
    expected = (codes - per_value(zero_point, quantized)) * per_value(scale, quantized)
    np.testing.assert_array_equal(quantized.dequantize(), expected.astype(np.float32))
    assert quantized.dequantize().dtype == np.float32
    fake = ql.fake_quantize(x, num_bits, symmetric=symmetric, **options)
    np.testing.assert_array_equal(fake, quantized.dequantize())


def test_shapes_of_scales():
    x = normal(6, 2, 8)
    assert ql.choose_qparams(x, 8)[0].shape == ()
    assert ql.choose_qparams(x, 8, per="channel")[0].shape == (6, 1, 1)
    assert ql.choose_qparams(x, 8, per="group", group_size=4)[0].shape == (6, 2, 2)
    assert ql.choose_qparams(x[0, 0], 8, per="group", group_size=4, symmetric=False)[1].shape == (2,)


def test_a_channel_is_what_it_is_on_its_own():
    x = normal(5, 30) * np.array([[1e-3], [1], [50], [0], [7]], np.float32)
    quantized = ql.quantize(x, 6, symmetric=False, per="channel")
    for i, row in enumerate(x):
        alone = ql.quantize(row, 6, symmetric=False)
        np.testing.assert_array_equal(quantized.codes[i], alone.codes)
        assert (quantized.scale[i, 0], quantized.zero_point[i, 0]) == (alone.scale, alone.zero_point)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, ">f4", np.int16, bool])
@pytest.mark.parametrize("options", PER, ids=lambda options: options["per"])
@pytest.mark.parametrize(
    "layout",
    [
        np.ascontiguousarray,
        np.asfortranarray,
        lambda x: x[::-1, ::2],
        lambda x: x.transpose(1, 2, 0)[:, :, :4],
        lambda x: np.broadcast_to(x[:1], (3, *x.shape[1:])),
    ],
    ids=["contiguous", "fortran", "strided", "transposed", "broadcast"],
)
def test_dtype_and_layout_do_not_matter(small_blocks, dtype, options, layout):
    x = layout((normal(5, 6, 8) * 3).astype(dtype))
    x.flags.writeable = False
    before = x.copy()
    expected = ql.quantize(np.ascontiguousarray(x.astype(np.float32)), 8, symmetric=False, **options)
    assert_same(ql.quantize(x, 8, symmetric=False, **options), expected)
    np.testing.assert_array_equal(x, before)


def test_ties_go_to_the_even_code():
    x = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 127]  # scale 1
    assert ql.quantize(x).codes.tolist() == [0, 2, 2, 0, -2, -2, 127]
    assert ql.quantize([*x, -128], symmetric=False).codes.tolist() == [128, 130, 130, 128, 126, 126, 255, 0]


def test_a_list_and_a_number_will_do():
    assert ql.quantize(3.0).dequantize() == 3
    assert ql.quantize([1, -4]).codes.tolist() == [32, -127]


@pytest.mark.parametrize("options", [*PER[:2], {"per": "group", "group_size": 32}], ids=lambda options: options["per"])
@pytest.mark.parametrize("dtype", [np.int8, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_peak_memory_is_the_result_and_a_few_blocks(options, dtype, order):
    x = (normal(2048, 4096) * 20).astype(dtype, order=order)
    tracemalloc.start()
    try:
        quantized = ql.quantize(x, 8, symmetric=False, **options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    result = quantized.codes.nbytes + quantized.scale.nbytes + quantized.zero_point.nbytes
    # As float32, in blocks: the values and the steps, those of the block before, and 2 for a block of float64. The
    # scales and zero points of a block, and Python's own objects, are less than another half.
    assert peak <= result + 6.5 * 4 * affine.BLOCK


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("options", PER[:2], ids=lambda options: options["per"])
def test_peak_memory_of_a_large_array_is_at_most_1_3_times_its_codes(options, symmetric, order):
    x = normal(4096, 4096).astype(np.float32, order=order)
    tracemalloc.start()
    try:
        quantized = ql.quantize(x, 8, symmetric=symmetric, **options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 1.3 * quantized.codes.nbytes


# --- what theory says, for any input ----------------------------------------------------------------------


def rounding_slack(num_bits):
    """In steps: a few float32 roundings, of half an ulp (2**-24) each, of numbers of up to 2**num_bits steps."""
    return 8 * 2.0 ** (num_bits - 24)


@given(tensors_and_options())
def test_error_is_at_most_half_a_step_and_codes_are_in_range(case):
    x, options = case
    quantized = ql.quantize(x, **options)
    qmin, qmax = affine.code_range(options["num_bits"], options["symmetric"])
    assert quantized.codes.min() >= qmin
    assert quantized.codes.max() <= qmax
    assert quantized.zero_point.min() >= max(qmin, 0)
    assert quantized.zero_point.max() <= qmax
    steps = (quantized.dequantize().astype(np.float64) - x) / per_value(quantized.scale, quantized)
    assert np.abs(steps).max() <= 0.5 + rounding_slack(options["num_bits"])


@given(tensors_and_options())
def test_zero_stays_zero(case):
    x, options = case
    x = np.where(np.arange(x.size).reshape(x.shape) % 2 == 0, np.float32(0), x)
    assert not ql.fake_quantize(x, **options)[x == 0].any()


@given(tensors_and_options(), st.data())
def test_clip_saturates_and_refines(case, data):
    x, options = case
    clip = data.draw(st.floats(1e-30, 1e30))
    quantized = ql.quantize(x, **options, clip=clip)
    clipped = np.clip(x, -np.float32(clip), np.float32(clip))
    of_clipped = ql.quantize(clipped, **options)
    np.testing.assert_array_equal(quantized.scale, of_clipped.scale)
    np.testing.assert_array_equal(quantized.zero_point, of_clipped.zero_point)
    # Beyond the threshold a value may get the code after the threshold's own: rounding the zero point moves the
    # codes by up to half a step, so that the last one can lie beyond the threshold.
    further = np.sign(x) * (quantized.codes.astype(np.int32) - of_clipped.codes)
    assert (further[x == clipped] == 0).all()
    assert ((further == 0) | (further == 1)).all()


@given(tensors_and_options(), st.none() | st.floats(1e-30, 1e30))
def test_a_second_time_changes_nothing_if_symmetric(case, clip):
    x, options = case
    options = {**options, "symmetric": True, "clip": clip}
    once = ql.fake_quantize(x, **options)
    np.testing.assert_array_equal(ql.fake_quantize(once, **options), once)


def test_a_second_time_may_move_the_scale_if_affine():
    once = ql.quantize([-0.5, 254.5], symmetric=False)  # scale 1. Both are ties: -0.5 and 254.5 go to 0 and 254
    assert once.dequantize().tolist() == [0, 254]
    assert ql.quantize(once.dequantize(), symmetric=False).scale == np.float32(254 / 255)


@given(st.data(), num_bits_range, st.booleans())
def test_values_on_the_grid_come_back_as_the_same_codes(data, num_bits, symmetric):
    qmin, qmax = affine.code_range(num_bits, symmetric)
    codes = data.draw(hnp.arrays(np.int32, st.integers(2, 20), elements=st.integers(qmin, qmax)))
    codes[:2] = qmin, qmax
    scale = np.float32(data.draw(st.floats(2.0**-100, 2.0**100, width=32)))
    zero_point = 0 if symmetric else data.draw(st.integers(qmin, qmax))
    quantized = ql.quantize(ql.dequantize(codes, scale, zero_point), num_bits, symmetric=symmetric)
    np.testing.assert_array_equal(quantized.codes, codes)
    assert quantized.zero_point == zero_point
    # the extremes were rounded to float32, and their difference and the quotient again: half an ulp each
    np.testing.assert_allclose(quantized.scale, scale, rtol=4 * 2.0**-24, atol=0)


@given(tensors_and_options())
def test_a_change_of_sign_changes_the_sign_of_symmetric_codes(case):
    x, options = case
    options["symmetric"] = True
    plus, minus = ql.quantize(x, **options), ql.quantize(-x, **options)
    np.testing.assert_array_equal(minus.codes, -plus.codes)
    np.testing.assert_array_equal(minus.scale, plus.scale)


@given(tensors_and_options(), st.randoms(use_true_random=False))
def test_a_permutation_of_values_permutes_the_codes(case, random):
    x, options = case
    if options["per"] == "tensor":
        x = x.reshape(-1)
    order = random.sample(range(len(x)), len(x))  # of values per tensor, of rows otherwise (1-d groups: as they are)
    if options["per"] == "group" and x.ndim == 1:
        order = list(range(len(x)))
    np.testing.assert_array_equal(ql.quantize(x[order], **options).codes, ql.quantize(x, **options).codes[order])


@given(tensors_and_options(), st.integers(-20, 20))
def test_a_power_of_two_changes_the_scale_only(case, exponent):
    x, options = case
    x = np.clip(x, -(2.0**60), 2.0**60)
    x[np.abs(x) < 2.0**-60] = 0
    factor = np.float32(2.0**exponent)
    plain, scaled = ql.quantize(x, **options), ql.quantize(x * factor, **options)
    np.testing.assert_array_equal(scaled.codes, plain.codes)
    np.testing.assert_array_equal(scaled.zero_point, plain.zero_point)


# --- edges ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("options", PER, ids=lambda options: options["per"])
def test_all_zero(symmetric, options):
    quantized = ql.quantize(np.zeros((3, 8)), 4, symmetric=symmetric, **options)
    assert (quantized.scale == 1).all()
    assert not quantized.codes.any()
    assert not quantized.zero_point.any()
    assert not quantized.dequantize().any()


@pytest.mark.parametrize("num_bits", [2, 8, 16])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "values",
    [
        [-LARGEST, LARGEST, 1],
        [LARGEST, LARGEST],
        [-LARGEST, 1e-45],
        [1e-45, 0],
        [1e-40, -3e-41],
        [5e-38, -1.2e-38],
        [1000] + [0.001] * 7,
    ],
)
def test_extremes(num_bits, symmetric, values):
    x = np.array(values, np.float32)
    quantized = ql.quantize(x, num_bits, symmetric=symmetric)
    restored = quantized.dequantize()
    assert np.isfinite(restored).all()
    assert quantized.scale >= np.finfo(np.float32).smallest_normal
    steps = (restored.astype(np.float64) - x) / float(quantized.scale)
    assert np.abs(steps).max() <= 0.5 + rounding_slack(num_bits)


def test_one_huge_outlier_takes_all_the_codes():
    x = normal(100)
    x[17] = 1e6
    quantized = ql.quantize(x, 8)
    assert np.count_nonzero(quantized.codes) == 1
    assert ql.quantize(x, 8, clip=3).scale == np.float32(3) / np.float32(127)


def test_all_positive_and_all_negative_values_are_affine_with_zero_in_range():
    positive = ql.quantize([4.0, 10.0], 8, symmetric=False)
    assert (positive.codes.tolist(), positive.zero_point.item()) == ([102, 255], 0)
    negative = ql.quantize([-4.0, -10.0], 8, symmetric=False)
    assert (negative.codes.tolist(), negative.zero_point.item()) == ([153, 0], 255)


def test_clip_beyond_float32():
    x = normal(50)
    assert_same(ql.quantize(x, clip=1e300), ql.quantize(x))
    assert ql.quantize(x, clip=1e-300).codes.tolist() == (127 * np.sign(x)).tolist()
    huge = np.array([LARGEST, -1.0], np.float32)
    assert ql.quantize(huge, 8, clip=1e-20).codes.tolist() == [127, -127]


# --- bad input --------------------------------------------------------------------------------------------

MATRIX = np.ones((4, 6))


@pytest.mark.parametrize("function", [ql.quantize, ql.choose_qparams, ql.fake_quantize])
@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        ([1, np.nan], {}, ValueError, "x must be finite, but 1 of 2"),
        ([np.inf, -np.inf, 0], {}, ValueError, "x must be finite, but 2 of 3"),
        ([1e39], {}, ValueError, r"x must be within float32's range, \+-3\.4028235e\+38, but it reaches 1e\+39"),
        ([3.4028236e38], {}, ValueError, r"range, \+-3\.4028235e\+38, but it reaches 3\.4028236e\+38"),
        ([], {}, ValueError, r"x must hold at least one value, but its shape is \(0,\)"),
        (np.ones((0, 4)), {"per": "channel"}, ValueError, "x must hold at least one value"),
        ("weights", {}, TypeError, "x must hold real numbers, not <U7"),
        (None, {}, TypeError, "x must hold real numbers"),
        ([1j], {}, TypeError, "x must hold real numbers, not complex128"),
        ([[1, 2], [3]], {}, ValueError, "x must be an array"),
        (MATRIX, {"num_bits": 1}, ValueError, "num_bits must be from 2 to 16, not 1"),
        (MATRIX, {"num_bits": 33}, ValueError, "num_bits must be from 2 to 16, not 33"),
        (MATRIX, {"num_bits": 8.0}, TypeError, "num_bits must be a whole number"),
        (MATRIX, {"num_bits": "8"}, TypeError, "num_bits must be a whole number"),
        (MATRIX, {"symmetric": "affine"}, TypeError, "symmetric must be True or False, not 'affine'"),
        (MATRIX, {"per": "row"}, ValueError, "per must be one of 'tensor', 'channel', 'group', not 'row'"),
        (MATRIX, {"per": np.array(["group", "row"])}, ValueError, "per must be one of 'tensor', 'channel', 'group'"),
        (MATRIX, {"per": "group"}, ValueError, "needs a group_size: a divisor of the last axis, 6"),
        (MATRIX, {"per": "group", "group_size": 4}, ValueError, "group_size must divide the last axis, 6, but it is 4"),
        (MATRIX, {"per": "group", "group_size": 0}, ValueError, "group_size must be from 1 to 6, not 0"),
        (MATRIX, {"per": "group", "group_size": 12}, ValueError, "group_size must be from 1 to 6, not 12"),
        (MATRIX, {"per": "group", "group_size": 2.0}, TypeError, "group_size must be a whole number"),
        (MATRIX, {"group_size": 2}, ValueError, "group_size goes with per=\"group\" only, but per is 'tensor'"),
        (MATRIX, {"per": "channel", "group_size": 2}, ValueError, 'group_size goes with per="group" only'),
        (np.ones(4), {"per": "channel"}, ValueError, r"needs 2 axes or more, \(out, in\), but the shape is \(4,\)"),
        (1.0, {"per": "group", "group_size": 1}, ValueError, r"needs 1 axis or more, but the shape is \(\)"),
        (MATRIX, {"clip": 0}, ValueError, "clip must be finite and above 0, not 0"),
        (MATRIX, {"clip": -1.5}, ValueError, "clip must be finite and above 0"),
        (MATRIX, {"clip": np.nan}, ValueError, "clip must be finite and above 0"),
        (MATRIX, {"clip": "3"}, TypeError, "clip must be a number above 0, not '3'"),
    ],
)
def test_bad_input(function, x, options, error, message):
    with pytest.raises(error, match=message):
        function(x, **{"num_bits": 8, **options})


@pytest.mark.parametrize("position", [0, 20, 31])
@pytest.mark.parametrize("options", PER, ids=lambda options: options["per"])
def test_nan_is_found_wherever_it_is(small_blocks, position, options):
    x = normal(4, 8)
    x.flat[position] = np.nan
    with pytest.raises(ValueError, match="x must be finite, but 1 of 32"):
        ql.quantize(x, **options)


@pytest.mark.parametrize(
    ("codes", "scale", "zero_point", "error", "message"),
    [
        ([1.5], 1, 0, TypeError, "codes must hold integers, not float64"),
        ([1, 2], [1, 2, 3], 0, ValueError, r"scale must broadcast to the codes' shape \(2,\), but its shape is \(3,\)"),
        ([1, 2], [[1], [2]], 0, ValueError, "scale must broadcast"),
        ([1, 2], 1, [1, 2, 3], ValueError, "zero_point must broadcast"),
        ([1, 2], np.nan, 0, ValueError, "scale must be finite"),
        ([1, 2], 1e39, 0, ValueError, r"scale must be within float32's range, .* reaches 1e\+39"),
        ([1, 2], 1, -1e300, ValueError, r"zero_point must be within float32's range, .* reaches 1e\+300"),
        ([1, 2], "1", 0, TypeError, "scale must hold real numbers"),
    ],
)
def test_dequantize_refuses(codes, scale, zero_point, error, message):
    with pytest.raises(error, match=message):
        ql.dequantize(codes, scale, zero_point)


def test_dequantize_does_not_wrap_around():
    codes = np.array([0, 255], np.uint8)
    assert ql.dequantize(codes, 1, np.uint8(128)).tolist() == [-128, 127]
    assert ql.dequantize(np.array([[-128], [127]], np.int8), [[1], [2]], -1).tolist() == [[-127], [256]]


# --- QuantizedTensor: bytes held, bytes on disk -----------------------------------------------------------

STORED = [
    (num_bits, symmetric, options)
    for num_bits in (2, 3, 4, 8, 11, 16)
    for symmetric in (True, False)
    for options in PER
]


@pytest.mark.parametrize(("num_bits", "symmetric", "options"), STORED)
def test_nbytes_is_what_is_held_and_what_is_on_disk(tmp_path, num_bits, symmetric, options):
    quantized = ql.quantize(normal(5, 12), num_bits, symmetric=symmetric, **options)
    num_scales = {"tensor": 1, "channel": 5, "group": 15}[options["per"]]
    codes = -(-60 * num_bits // 8) if num_bits <= 8 else 120
    zero_points = 0 if symmetric else num_scales * (1 if num_bits <= 8 else 2)

    assert quantized.packed().nbytes == codes
    assert quantized.packed().dtype == np.uint8
    assert quantized.nbytes == codes + 4 * num_scales + zero_points
    assert quantized.bits_per_weight == 8 * quantized.nbytes / 60

    path = tmp_path / "weight.ql"
    quantized.save(path)
    assert path.stat().st_size == storage.HEADER_BYTES + quantized.nbytes
    assert_same(ql.QuantizedTensor.load(path), quantized)
    np.testing.assert_array_equal(ql.QuantizedTensor.load(str(path)).dequantize(), quantized.dequantize())


@pytest.mark.parametrize("integer", [np.int8, np.uint8, np.int64])
def test_numpy_integers_count_as_pythons(tmp_path, integer):
    x = normal(64, 32)
    quantized = ql.quantize(x, integer(4), symmetric=np.True_, per="group", group_size=integer(16))
    assert_same(quantized, ql.quantize(x, 4, per="group", group_size=16))
    assert (type(quantized.num_bits), type(quantized.symmetric), type(quantized.group_size)) == (int, bool, int)
    assert (quantized.nbytes, type(quantized.nbytes)) == (64 * 16 + 4 * 128, int)
    assert quantized.packed().size == 64 * 16
    assert "4 bits, symmetric, per group of 16, 1536 bytes" in repr(quantized)
    quantized.save(tmp_path / "x")
    assert_same(ql.QuantizedTensor.load(tmp_path / "x"), quantized)


@pytest.mark.parametrize("options", PER, ids=lambda options: options["per"])
def test_zero_points_of_0_take_no_memory(tmp_path, options):
    quantized = ql.quantize(normal(3, 8), **options)
    quantized.save(tmp_path / "x")
    for tensor in (quantized, ql.QuantizedTensor.load(tmp_path / "x")):
        assert not tensor.zero_point.flags.writeable
        assert not any(tensor.zero_point.strides)


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4)])
def test_any_shape_is_saved(tmp_path, shape):
    quantized = ql.quantize(normal(*shape), np.int64(3), symmetric=np.bool_(False))
    quantized.save(tmp_path / "x")
    assert_same(ql.QuantizedTensor.load(tmp_path / "x"), quantized)


def test_the_header_is_a_line_of_json(tmp_path):
    ql.quantize(normal(2, 8), 4, per="group", group_size=np.int64(4)).save(tmp_path / "x")
    header = json.loads((tmp_path / "x").read_bytes()[: storage.HEADER_BYTES])
    del header["crc32"]
    assert header == {
        "format": "quantlab-1",
        "shape": [2, 8],
        "num_bits": 4,
        "symmetric": True,
        "per": "group",
        "group_size": 4,
        "nbytes": 24,
    }


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "is not a saved tensor: it should begin with 256 bytes of JSON of format 'quantlab-1'"),
        (lambda data: data[:100], "is not a saved tensor"),
        (lambda data: b"\x93NUMPY" + data[6:], "is not a saved tensor"),
        (lambda data: b"[]" + b" " * 300, "is not a saved tensor"),
        (lambda data: data.replace(b"quantlab-1", b"quantlab-9"), "is not a saved tensor"),
        (lambda data: data[:-1], "should be 290 bytes by its header, not 289"),
        (lambda data: data[:250], "should be 290 bytes by its header, not 250"),
        (lambda data: data + b"\0", "should be 290 bytes by its header, not 291"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "is damaged: its contents should have the checksum"),
        (lambda data: data.replace(b'"num_bits": 4', b'"num_bits": 3'), "is damaged"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path, damage, message):
    path = tmp_path / "weight.ql"
    ql.quantize(normal(5, 12), 4).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        ql.QuantizedTensor.load(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": None}, "not iterable"),
        ({"shape": [5, 0]}, "4 bytes of data, not 34"),
        ({"shape": [5, 11]}, "32 bytes of data, not 34"),
        ({"shape": [-5, -12]}, "shape must be whole numbers"),
        ({"shape": [2.5, 24]}, "must be integers"),
        ({"num_bits": 0}, "num_bits must be from 2 to 16"),
        ({"num_bits": "4"}, "num_bits must be a whole number"),
        ({"symmetric": 1}, "symmetric must be True or False"),
        ({"per": ["tensor"]}, "per must be one of"),
        ({"per": "group", "group_size": 0}, "group_size must be from 1 to 12"),
        ({"group_size": 4}, "group_size goes with"),
    ],
)
def test_a_file_with_odd_fields_is_refused(tmp_path, change, message):
    path = tmp_path / "weight.ql"
    fields = {"shape": [5, 12], "num_bits": 4, "symmetric": True, "per": "tensor", "group_size": None}
    data = bytes(30) + np.float32(1).tobytes()
    storage.write_file(path, fields, data)
    assert ql.QuantizedTensor.load(path).shape == (5, 12)
    storage.write_file(path, {**fields, **change}, data)
    with pytest.raises(ValueError, match=f"does not describe a quantized tensor: .*{message}") as error:
        ql.QuantizedTensor.load(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("missing", ["shape", "num_bits", "symmetric", "per", "group_size"])
def test_a_file_with_a_field_missing_is_refused(tmp_path, missing):
    fields = {"shape": [2], "num_bits": 4, "symmetric": True, "per": "tensor", "group_size": None}
    del fields[missing]
    storage.write_file(tmp_path / "x", fields, bytes(5))
    with pytest.raises(ValueError, match=f"x does not describe a quantized tensor: .*'{missing}'"):
        ql.QuantizedTensor.load(tmp_path / "x")


def test_save_replaces_an_existing_file(tmp_path):
    path = tmp_path / "weight.ql"
    ql.quantize(normal(100)).save(path)
    ql.quantize(normal(3)).save(path)
    assert ql.QuantizedTensor.load(path).shape == (3,)


def test_repr():
    quantized = ql.quantize(normal(64, 64), 4, symmetric=False, per="group", group_size=32)
    assert repr(quantized) == (
        "QuantizedTensor(shape=(64, 64), 4 bits, affine, per group of 32, 2688 bytes, 5.25 bits per weight)"
    )


def test_quantized_tensors_do_not_change():
    quantized = ql.quantize(normal(4))
    with pytest.raises(AttributeError):
        quantized.num_bits = 4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"codes": np.zeros((2, 4), np.int64)}, ValueError, "codes must be uint8 of shape"),
        ({"codes": [[0, 1], [2, 3]]}, TypeError, "codes must be a NumPy array, not list"),
        ({"codes": np.zeros((2, 0), np.uint8)}, ValueError, r"codes must hold at least one value, but its shape is"),
        ({"codes": np.full((2, 4), 16, np.uint8)}, ValueError, "codes must be from 0 to 15, not 16 to 16"),
        ({"scale": 1.0}, TypeError, "scale must be a NumPy array, not float"),
        *(
            ({"scale": np.float32([[1], [bad]])}, ValueError, "scale must be finite and above 0, not")
            for bad in (0, -1, np.nan, np.inf)
        ),
        ({"scale": np.ones((2, 1))}, ValueError, "scale must be float32 of shape"),
        ({"scale": np.ones((2, 2), np.float32)}, ValueError, r"scale must be float32 of shape \(2, 1\)"),
        ({"zero_point": np.zeros((1, 2), np.int32)}, ValueError, "zero_point must be int32 of shape"),
        ({"zero_point": np.full((2, 1), 16, np.int32)}, ValueError, "zero_point must be from 0 to 15"),
        ({"zero_point": np.full((2, 1), -1, np.int32)}, ValueError, "zero_point must be from 0 to 15"),
        ({"num_bits": 1}, ValueError, "num_bits must be from 2 to 16"),
        ({"group_size": 3}, ValueError, "group_size must divide the last axis"),
    ],
)
def test_a_tensor_put_together_by_hand_is_checked(change, error, message):
    parts = {
        "codes": np.zeros((2, 4), np.uint8),
        "scale": np.ones((2, 1), np.float32),
        "zero_point": np.full((2, 1), 15, np.int32),
        "num_bits": 4,
        "symmetric": False,
    }
    assert ql.QuantizedTensor(**parts).per == "channel"
    with pytest.raises(error, match=message):
        ql.QuantizedTensor(**{**parts, **change})


@pytest.mark.parametrize(("num_bits", "bad"), [(8, -128), (4, -8), (4, 8), (16, -(2**15)), (11, 1024)])
def test_signed_codes_put_together_by_hand_are_checked(num_bits, bad):
    qmin, qmax = affine.code_range(num_bits)
    dtype = np.int8 if num_bits <= 8 else np.int16
    scale, zero_point = np.array(1, np.float32), np.array(0, np.int32)
    ql.QuantizedTensor(np.array([qmin, qmax], dtype), scale, zero_point, num_bits)
    with pytest.raises(ValueError, match=f"codes must be from {qmin} to {qmax}, not {min(bad, 0)} to {max(bad, 0)}"):
        ql.QuantizedTensor(np.array([0, bad], dtype), scale, zero_point, num_bits)

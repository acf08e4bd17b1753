"""Matrices in packed codes: what they stand for, to the bit, and the bytes that they hold."""

import dataclasses
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers import packed
from quantlab_helpers.packed import MX_FORMATS, PACKED_FORMATS, pack_format, pack_integers

CASTS = ("FP16", "BF16")
SCALED = tuple(name for name in PACKED_FORMATS if name not in (*CASTS, *MX_FORMATS))
LARGEST = np.finfo(np.float32).max

pytestmark = pytest.mark.filterwarnings("error")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def granularities(group_size):
    return ({"per": "tensor"}, {"per": "channel"}, {"per": "group", "group_size": group_size})


def expected(weight, format, per="tensor", group_size=None):
    """The definition: the largest magnitude lands on the format's, and each value on the nearest."""
    rows = weight.reshape({"tensor": 1, "channel": len(weight), "group": weight.size // (group_size or 1)}[per], -1)
    absmax = np.abs(rows).max(axis=1, keepdims=True)
    scale = np.where(absmax == 0, np.float32(1), absmax) / np.float32(ql.FORMATS[format].max)
    return (ql.cast(rows / scale, format) * scale).reshape(weight.shape)


def bytes_of_arrays(matrix):
    fields = (getattr(matrix, field.name) for field in dataclasses.fields(matrix))
    return sum(value.nbytes for value in fields if isinstance(value, np.ndarray))


# --- integers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_bits", range(2, 17))
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("shape", "group_size"), [((5, 24), 8), ((4, 9), 3), ((3, 13), 13), ((1, 6), 2), ((7, 1), 1)])
def test_packed_integers_stand_for_the_same_numbers(num_bits, symmetric, shape, group_size):
    for options in granularities(group_size):
        quantized = ql.quantize(normal(*shape) + 0.5, num_bits, symmetric=symmetric, **options)
        matrix = pack_integers(quantized)
        restored = matrix.dequantize()
        assert restored.dtype == np.float32
        np.testing.assert_array_equal(restored, quantized.dequantize())
        assert matrix.shape == shape
        assert matrix.format == f"{'INT' if symmetric else 'UINT'}{num_bits}"


@pytest.mark.parametrize("num_bits", range(2, 17))
@pytest.mark.parametrize("symmetric", [True, False])
def test_rows_that_fill_whole_bytes_take_what_the_stream_takes(num_bits, symmetric):
    for options in granularities(8):
        quantized = ql.quantize(normal(5, 24), num_bits, symmetric=symmetric, **options)
        matrix = pack_integers(quantized)
        assert matrix.nbytes == bytes_of_arrays(matrix) == quantized.nbytes
        assert matrix.bits_per_weight == 8 * matrix.nbytes / 120


def test_other_rows_are_filled_up_to_whole_bytes():
    matrix = pack_integers(ql.quantize(normal(6, 3), 4, per="channel"))
    assert matrix.nbytes == bytes_of_arrays(matrix) == 6 * (2 + 4)


def test_nothing_but_codes_and_scales_is_held():
    quantized = ql.quantize(normal(256, 512), 4, per="group", group_size=32)
    tracemalloc.start()
    try:
        matrix = pack_integers(quantized)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The scales are the quantized tensor's own. 4 kB: the objects themselves, and what Python keeps for itself.
    assert matrix.data.nbytes <= held <= matrix.data.nbytes + 4096


def test_later_changes_to_the_codes_do_not_reach_the_packed_ones():
    for num_bits in (8, 16):
        quantized = ql.quantize(normal(3, 8), num_bits)
        matrix = pack_integers(quantized)
        before = matrix.dequantize()
        quantized.codes[:] = 0
        np.testing.assert_array_equal(matrix.dequantize(), before)


@pytest.mark.parametrize("num_bits", [4, 8, 12])
def test_codes_in_another_layout(num_bits):
    q = ql.quantize(normal(4, 6), num_bits, per="channel")
    for layout in (np.asfortranarray(q.codes), q.codes[::-1, ::-1].copy()[::-1, ::-1]):
        strange = ql.QuantizedTensor(layout, q.scale, q.zero_point, num_bits, True)
        np.testing.assert_array_equal(pack_integers(strange).dequantize(), q.dequantize())


def test_only_a_matrix_of_integers_is_packed():
    for shape in [(4,), (2, 3, 4)]:
        with pytest.raises(ValueError, match=r"quantized must be a matrix, \(out, in\), but its shape is \("):
            pack_integers(ql.quantize(normal(*shape)))


# --- rows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", granularities(4))
@pytest.mark.parametrize(
    "which",
    [
        *(0, np.int64(3), -1, slice(1, 4), slice(None, None, -2), slice(3, 3), [2, 0, 2], [-1, -5], []),
        *(np.array([[0, 4], [1, -2], [1, 1]]), np.array([True, False, False, True, True])),
    ],
    ids=str,
)
def test_rows_are_indexed_as_numpy_does(options, which):
    for matrix in (
        pack_integers(ql.quantize(normal(5, 12) + 1, 3, symmetric=False, **options)),
        pack_format(normal(5, 12), "FP8_E4M3", **options),
        pack_format(normal(5, 12), "BF16"),
    ):
        rows = matrix.rows(which)
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, matrix.dequantize()[which])


def test_there_are_no_rows_beyond_the_last():
    matrix = pack_format(normal(5, 12), "NF4")
    for which in (5, -6, [0, 5]):
        with pytest.raises(IndexError, match="out of bounds"):
            matrix.rows(which)


def test_blocks_change_nothing(monkeypatch):
    matrices = [pack_integers(ql.quantize(normal(7, 8), 4, **options)) for options in granularities(4)]
    whole = [matrix.rows([[6, 0], [2, 3], [-1, 5]]) for matrix in matrices]
    for block in (1, 16, 24):  # one row at a time, two, three
        monkeypatch.setattr(packed, "BLOCK", block)
        for matrix, rows in zip(matrices, whole, strict=True):
            np.testing.assert_array_equal(matrix.rows([[6, 0], [2, 3], [-1, 5]]), rows)


def test_a_few_rows_do_not_restore_the_rest():
    matrix = pack_integers(ql.quantize(normal(2048, 512), 4, per="channel"))
    tracemalloc.start()
    try:
        matrix.rows([3, 1000])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2048 * 512 / 10  # bytes: the whole would take 4 for each weight; row numbers take 16 kB of these


def test_the_caller_may_write_to_what_is_restored():
    matrix = pack_format(normal(3, 8), "FP16")
    before = matrix.dequantize()
    matrix.dequantize()[:] = 0
    np.testing.assert_array_equal(matrix.dequantize(), before)


# --- other number formats ---------------------------------------------------------------------------------


@pytest.mark.parametrize("format", CASTS)
def test_16_bit_formats_are_plain_casts(format):
    weight = normal(5, 7) * np.float32(10) ** np.arange(-8, 6, 2, np.float32)  # FP16 holds some as subnormals, some not
    matrix = pack_format(weight, format)
    np.testing.assert_array_equal(matrix.dequantize(), ql.cast(weight, format))
    assert matrix.nbytes == bytes_of_arrays(matrix) == 2 * 35


@pytest.mark.parametrize("format", SCALED)
@pytest.mark.parametrize(("shape", "group_size"), [((6, 32), 8), ((5, 9), 3), ((3, 13), 13), ((1, 6), 2), ((7, 1), 1)])
def test_scaled_formats_round_to_the_nearest_value(format, shape, group_size):
    weight = normal(*shape)
    weight[0] = 0
    for options in granularities(group_size):
        matrix = pack_format(weight, format, **options)
        np.testing.assert_array_equal(matrix.dequantize(), expected(weight, format, **options))
        assert matrix.nbytes == bytes_of_arrays(matrix)
        assert matrix.format == format
        assert matrix.num_bits == ql.FORMATS[format].bits


@pytest.mark.parametrize("format", SCALED)
def test_every_value_of_a_format_comes_back(format):
    values = ql.representable_values(format)
    values = values[np.abs(values) >= np.finfo(np.float32).smallest_normal]
    np.testing.assert_array_equal(pack_format(values[None], format).dequantize(), values[None])


@pytest.mark.parametrize("format", PACKED_FORMATS)
def test_zeros_stay_zeros(format):
    weight = normal(3, 64)
    weight[1] = 0
    for options in granularities(32):
        restored = pack_format(weight, format, **options).dequantize()
        assert not restored[1].any()
        assert restored[[0, 2]].any(axis=1).all()
    assert not pack_format(np.zeros((2, 32)), format).dequantize().any()


@pytest.mark.parametrize(
    ("format", "bits"),
    [
        ("FP16", 16),
        ("FP8_E4M3", 8.5),
        ("FP6_E2M3", 6.5),
        ("FP4_E2M1", 4.5),
        ("NF4", 4.5),
        ("MXFP8_E5M2", 8.25),
        ("MXFP4", 4.25),
    ],
)
def test_bits_per_weight(format, bits):
    assert pack_format(normal(8, 128), format, per="group", group_size=64).bits_per_weight == bits


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "golden" / "torchao_mx.npz") as data:
        return dict(data)


@pytest.mark.parametrize("format", MX_FORMATS)
def test_mx_is_torchaos(golden, format):
    matrix = pack_format(golden["X"], format)
    expected = golden[f"{format}_scale_e8m0"]
    # Where all values are 0 any scale will do: ours is that of 1, torchao's the smallest that there is. Otherwise it
    # never divides by less than 2**-126, as we do, but may write 2**-127 down, and then reads back half of each value.
    all_zero = golden["X"].reshape(-1, 4, 32).any(axis=2) == 0
    halved = ~all_zero & (expected == 0)
    np.testing.assert_array_equal(matrix.scale.view(np.uint8)[~all_zero], np.maximum(expected, 1)[~all_zero])
    values = golden[f"{format}_dequantized"].reshape(-1, 4, 32) * np.where(halved, 2, 1)[..., None]
    np.testing.assert_array_equal(matrix.dequantize(), values.reshape(-1, 128).astype(np.float32))
    assert all_zero.sum() == 4 and halved.sum() == format.startswith("MXFP8")


def test_mxfp4_packs_as_torchao_does(golden):
    np.testing.assert_array_equal(pack_format(golden["X"], "MXFP4").data, golden["MXFP4_data"])


def test_mxfp4_has_no_scale_below_the_smallest_normal_float32():
    steps = np.float32([[3, 2, 1.5, 1, 0.5, 0, -0.5, -3] * 4])  # of 2**-126, times values of FP4
    matrix = pack_format(np.ldexp(steps, -126), "MXFP4")
    assert matrix.scale.astype(np.float32) == np.float32(2.0**-126)
    np.testing.assert_array_equal(matrix.dequantize(), np.ldexp(steps, -126))


def test_mxfp4_has_its_own_groups():
    weight = normal(3, 64)
    matrix = pack_format(weight, "MXFP4", per="tensor")
    assert matrix.scale.shape == (3, 2)
    np.testing.assert_array_equal(
        matrix.dequantize(), pack_format(weight, "MXFP4", per="group", group_size=64).dequantize()
    )


# --- what comes in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", PACKED_FORMATS)
def test_dtype_and_layout_do_not_matter(format):
    weight = normal(4, 64)
    weight.flags.writeable = False
    plain = pack_format(weight, format).dequantize()
    strided = np.repeat(weight, 2, axis=1)[:, ::2]
    for same in (np.asfortranarray(weight), strided, weight.astype(np.float64), weight.tolist()):
        np.testing.assert_array_equal(pack_format(same, format).dequantize(), plain)
    half = weight.astype(np.float16)
    np.testing.assert_array_equal(
        pack_format(half, format).dequantize(), pack_format(half.astype(np.float32), format).dequantize()
    )


@pytest.mark.parametrize("format", PACKED_FORMATS)
def test_float64_is_taken_as_float32(format):
    # In float32 the first is halfway between two values of FP16, 1 and 1 + 2**-10; in float64 it is a little above.
    weight = np.random.default_rng(1).normal(size=(4, 64))
    weight[0, 0] = 1 + 2**-11 + 2**-40
    np.testing.assert_array_equal(
        pack_format(weight, format).dequantize(), pack_format(weight.astype(np.float32), format).dequantize()
    )


@pytest.mark.parametrize("format", [*SCALED, *MX_FORMATS])
@pytest.mark.parametrize("power", [-80, 100])
def test_a_power_of_two_changes_the_scale_only(format, power):
    weight = normal(4, 64)
    one, other = pack_format(weight, format), pack_format(np.ldexp(weight, power), format)
    np.testing.assert_array_equal(one.data, other.data)
    np.testing.assert_array_equal(np.ldexp(one.dequantize(), power), other.dequantize())


@pytest.mark.parametrize("format", PACKED_FORMATS)
@pytest.mark.parametrize("size", [LARGEST, 1e-38, 1e-42, 1e-45])
def test_huge_and_tiny_weights_stay_finite(format, size):
    weight = np.clip(normal(4, 64), -1, 1) * np.float32(size)
    restored = pack_format(weight, format).dequantize()
    assert np.isfinite(restored).all()
    # A scale may be a denormal number with few bits left, and FP16, without a scale, ends far below: still no
    # weight is farther off than from 0 to the largest.
    assert np.abs(restored.astype(np.float64) - weight).max() <= np.abs(weight).max()


@pytest.mark.parametrize("symmetric", [True, False])
def test_integers_saturate_at_the_largest_float32(symmetric):
    weight = np.float32([[LARGEST, 1, -LARGEST, LARGEST / 3]])
    for num_bits in range(2, 17):
        quantized = ql.quantize(weight, num_bits, symmetric=symmetric)
        np.testing.assert_array_equal(pack_integers(quantized).dequantize(), quantized.dequantize())


@pytest.mark.parametrize(
    ("weight", "options", "error", "message"),
    [
        ([[1, np.nan]], {}, ValueError, "weight must be finite, but 1 of 2 values are NaN or infinite"),
        ([[1, np.inf]], {}, ValueError, "weight must be finite"),
        ([[1e39]], {}, ValueError, "weight must be within float32's range"),
        (np.ones((0, 3)), {}, ValueError, "weight must hold at least one value"),
        ([1.0, 2.0], {}, ValueError, r"weight must have 2 axes, \(out, in\), but its shape is \(2,\)"),
        (np.ones((1, 2, 3)), {}, ValueError, "weight must have 2 axes"),
        ([["a"]], {}, TypeError, "weight must hold real numbers"),
        ([[1.0]], {"format": "FP5"}, ValueError, "format must be one of 'FP16', 'BF16', .*'MXFP4', not 'FP5'"),
        ([[1.0]], {"format": "INT4"}, ValueError, "format must be one of"),
        ([[1.0]], {"format": None}, ValueError, "format must be one of"),
        ([[1.0]], {"per": "row"}, ValueError, "per must be one of 'tensor', 'channel', 'group', not 'row'"),
        ([[1.0] * 6], {"per": "group", "group_size": 4}, ValueError, "group_size must divide the last axis, 6"),
        ([[1.0] * 6], {"per": "group"}, ValueError, "needs a group_size"),
        ([[1.0] * 6], {"group_size": 3}, ValueError, 'group_size goes with per="group" only'),
        ([[1.0] * 48], {"format": "MXFP4"}, ValueError, "group_size must divide the last axis, 48, but it is 32"),
    ],
)
def test_refuses(weight, options, error, message):
    with pytest.raises(error, match=message):
        pack_format(weight, **{"format": "NF4", **options})


def test_what_it_says_of_itself():
    matrix = pack_format(normal(4, 64), "NF4", per="group", group_size=64)
    assert repr(matrix) == "PackedTensor(shape=(4, 64), NF4, 4 scales, 144 bytes, 4.5 bits per weight)"
    assert "0 scales, 512 bytes, 16 bits per weight" in repr(pack_format(normal(4, 64), "BF16"))

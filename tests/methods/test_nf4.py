"""NF4, FP4 and double quantization against bitsandbytes, to the bit (see tests/golden/README.md)."""

import gc
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantlab_helpers as ql
from quantlab_helpers.lm.model import apply_linear
from quantlab_helpers.methods import nf4
from quantlab_helpers.methods.nf4 import LEVELS, DoubleQuantized, Nf4Tensor, dynamic_map, nf4_quantize
from quantlab_helpers.packed import pack_format

pytestmark = pytest.mark.filterwarnings("error")

GOLDEN = Path(__file__).parents[1] / "golden"
LARGEST = np.finfo(np.float32).max
HALF_ULP = 2.0**-24  # of float32, relative
ODD_SHAPES = [(3, 50), (5, 33), (1, 1), (7, 1), (65,), (2, 3, 70), ()]


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "bnb_4bit.npz") as data:
        return dict(data)


@pytest.fixture(scope="module")
def double():
    with np.load(GOLDEN / "bnb_double_quant.npz") as data:
        return dict(data)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_same_bits(actual, expected):
    """Not only equal: 0 and -0 differ."""
    assert actual.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(actual.view(np.uint32), expected.view(np.uint32))


# --- against bitsandbytes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("table", LEVELS)
def test_levels(golden, table):
    assert_same_bits(LEVELS[table], golden[f"{table}_code"])


@pytest.mark.parametrize("block_size", [64, 128])
@pytest.mark.parametrize("table", LEVELS)
def test_codes_and_absmax(golden, table, block_size):
    quantized = nf4_quantize(golden["W"], block_size, table=table)
    np.testing.assert_array_equal(quantized.packed, golden[f"{table}_b{block_size}_packed"])
    assert_same_bits(quantized.absmax, golden[f"{table}_b{block_size}_absmax"])


@pytest.mark.parametrize("table", LEVELS)
def test_values(golden, table):
    assert_same_bits(nf4_quantize(golden["W"], table=table).dequantize(), golden[f"{table}_b64_deq"])


@pytest.mark.parametrize(("name", "dtype"), [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
@pytest.mark.parametrize("table", LEVELS)
def test_16_bit_weights(golden, table, name, dtype):
    quantized = nf4_quantize(golden["W"].astype(dtype), table=table)
    np.testing.assert_array_equal(quantized.packed, golden[f"{table}_b64_{name}_packed"])
    assert_same_bits(quantized.absmax, golden[f"{table}_b64_{name}_absmax"])
    # bitsandbytes rounds what comes out to the dtype of what went in; ours stays float32.
    rounded = quantized.dequantize().astype(dtype).astype(np.float32)
    assert_same_bits(rounded, golden[f"{table}_b64_{name}_deq_as_f32"])


@pytest.mark.parametrize(
    ("weight", "table"),
    [
        ("short_nf4", "nf4"),
        ("short_fp4", "fp4"),
        *((f"short_{x}", table) for x in ("zero", "tiny") for table in LEVELS),
    ],
)
def test_a_short_last_block(golden, weight, table):
    """With values for which x / absmax and x * (1 / absmax) have different nearest levels; zeros; denormal numbers."""
    key = weight if weight.endswith(table) else f"{weight}_{table}"
    quantized = nf4_quantize(golden[f"{weight}_W"], table=table)
    np.testing.assert_array_equal(quantized.packed, golden[f"{key}_packed"])
    assert_same_bits(quantized.absmax, golden[f"{key}_absmax"])
    assert_same_bits(quantized.dequantize(), golden[f"{key}_deq"])


def test_dynamic_map(double):
    assert_same_bits(dynamic_map(), double["dyn8_code"])
    assert not dynamic_map().flags.writeable  # it is made once, and everybody gets the same


@pytest.mark.parametrize("block_size", [256, 4096])
def test_8_bit_blocks(double, block_size):
    x = double["dyn8_x"]
    codes, absmax = nf4._quantize_blocks(x, block_size, dynamic_map())
    np.testing.assert_array_equal(codes[: x.size], double[f"default_dyn8_b{block_size}_q"])
    assert_same_bits(absmax, double[f"dyn8_b{block_size}_absmax"])


def test_double_quantization(double):
    scales = DoubleQuantized.from_float(double["absmax_f32"])
    np.testing.assert_array_equal(scales.codes, double["default_absmax_q8"])
    assert_same_bits(scales.scales, double["state2_absmax"])
    assert scales.offset == double["offset"]
    assert_same_bits(scales.dequantize(), double["default_absmax_dq"])


def test_values_after_double_quantization(double):
    """The first rows of a weight, whose blocks share the mean of all blocks' absmaxes with those that are not here."""
    weight = double["W_f16_rows0_8"]
    single = nf4_quantize(weight)
    np.testing.assert_array_equal(single.packed, double["packed_rows0_8"])
    blocks = single.absmax.size
    assert_same_bits(single.absmax, double["absmax_f32"][:blocks])
    of_all = DoubleQuantized.from_float(double["absmax_f32"])
    scales = DoubleQuantized(of_all.codes[:blocks], of_all.scales[:1], of_all.offset)
    both = Nf4Tensor(single.packed, scales, weight.shape, 64, "nf4")
    assert_same_bits(both.dequantize(), double["default_W_deq_rows0_8"])


# --- what holds for any weight ----------------------------------------------------------------------------


@given(
    st.integers(0, 2**32),
    st.sampled_from(sorted(LEVELS)),
    st.integers(1, 40).map(lambda half: 2 * half),
    st.sampled_from([*ODD_SHAPES, (4, 64), (9, 128)]),
)
def test_every_weight_gets_its_nearest_level(seed, table, block_size, shape):
    weight = normal(*shape, seed=seed)
    restored = nf4_quantize(weight, block_size, table=table).dequantize()
    assert restored.shape == weight.shape
    weight, restored = weight.reshape(-1).astype(np.float64), restored.reshape(-1).astype(np.float64)
    for start in range(0, weight.size, block_size):
        block = weight[start : start + block_size]
        absmax = np.abs(block).max()
        nearest = np.abs(block[:, None] - absmax * LEVELS[table].astype(np.float64)).min(axis=1)
        off = np.abs(restored[start : start + block_size] - block)
        # In units of absmax, rounded by half an ulp of at most 1 each: the reciprocal, the product with it and the
        # midpoint, and each may count twice, as it makes one level nearer and the other farther; and the value itself.
        assert (off <= nearest + 7 * HALF_ULP * absmax).all()


@pytest.mark.parametrize("table", LEVELS)
@pytest.mark.parametrize("shape", [(3, 50), (4, 64), (1, 257)])
def test_blocks_know_nothing_of_each_other_and_run_across_rows(table, shape):
    weight = normal(*shape)
    whole = nf4_quantize(weight, 32, table=table)
    flat = weight.reshape(-1)
    parts = [nf4_quantize(flat[start : start + 32], 32, table=table) for start in range(0, flat.size, 32)]
    np.testing.assert_array_equal(whole.absmax, np.concatenate([part.absmax for part in parts]))
    np.testing.assert_array_equal(whole.dequantize().reshape(-1), np.concatenate([p.dequantize() for p in parts]))


@pytest.mark.parametrize("table", LEVELS)
def test_every_level_comes_back(table):
    levels = np.repeat(LEVELS[table], 4)  # blocks of 16 with 1 or -1 in some only
    for weight in (levels, levels[::-1] * np.float32(2)):
        np.testing.assert_array_equal(nf4_quantize(weight, 64, table=table).dequantize(), weight)


@pytest.mark.parametrize("double_quant", [False, True])
@pytest.mark.parametrize("table", LEVELS)
def test_zeros_stay_zeros(table, double_quant):
    weight = normal(4, 64)
    weight[[0, 2]] = 0
    restored = nf4_quantize(weight, 64, double_quant, table=table).dequantize()
    assert not restored[[0, 2]].any()
    assert restored[[1, 3]].any(axis=1).all()
    assert not nf4_quantize(np.zeros((3, 50)), 64, double_quant, table=table).dequantize().any()


@pytest.mark.parametrize("table", LEVELS)
def test_constant_rows_are_exact(table):
    weight = np.repeat(np.float32([[0.3], [-1e-30], [7e30], [-1]]), 64, axis=1)
    # The largest magnitude is the level 1 or -1 times itself.
    np.testing.assert_array_equal(nf4_quantize(weight, table=table).dequantize(), weight)


def test_one_column():
    weight = normal(200, 1)
    np.testing.assert_array_equal(
        nf4_quantize(weight).dequantize(), nf4_quantize(weight.reshape(1, 200)).dequantize().T
    )


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 255, 256, 257, 1000]))
def test_double_quantized_absmaxes_are_off_by_half_a_gap_of_the_map(seed, blocks):
    absmax = np.random.default_rng(seed).uniform(0.01, 2, blocks).astype(np.float32)
    scales = DoubleQuantized.from_float(absmax)
    restored = scales.dequantize()
    assert restored.shape == absmax.shape
    assert scales.scales.shape == (-(-blocks // 256),)
    half_gap = np.diff(dynamic_map().astype(np.float64)).max() / 2  # -1, which is not in the map, is as far from -0.993
    of_block = np.repeat(scales.scales, 256)[:blocks].astype(np.float64)
    # Rounded, in units of the scale: the reciprocal, the product with it and the midpoint. By half an ulp of a number
    # below 4, most of them below 2: the difference from the offset, the product and the sum.
    assert (np.abs(restored - absmax.astype(np.float64)) <= (half_gap + 3 * HALF_ULP) * of_block + 6 * HALF_ULP).all()


def test_double_quantization_is_off_by_little_more():
    weight = normal(256, 576)
    single, both = nf4_quantize(weight), nf4_quantize(weight, double_quant=True)
    np.testing.assert_array_equal(single.packed, both.packed)
    assert not np.array_equal(single.absmax, both.absmax)
    np.testing.assert_array_equal(both.absmax, DoubleQuantized.from_float(single.absmax).dequantize())
    # A level of magnitude 1 at most times what the absmax is off.
    off = np.abs(both.absmax.astype(np.float64) - single.absmax).max()
    change = np.abs(both.dequantize().astype(np.float64) - single.dequantize())
    assert change.max() <= off + 2 * HALF_ULP * np.abs(weight).max()


def test_nf4_groups_of_the_package_are_the_same_numbers():
    weight = normal(48, 128)
    groups = pack_format(weight, "NF4", per="group", group_size=64)
    # It divides by the absmax, which may differ at a tie only; there is none in this weight.
    np.testing.assert_array_equal(nf4_quantize(weight).dequantize(), groups.dequantize())


# --- bytes ------------------------------------------------------------------------------------------------


def test_bits_per_weight():
    weight = normal(256, 1024)  # 4096 blocks of 64, whose scales share 16 scales
    assert nf4_quantize(weight).bits_per_weight == 4.5
    assert nf4_quantize(weight, 128).bits_per_weight == 4.25
    assert nf4_quantize(weight, table="fp4").bits_per_weight == 4.5
    exactly = 4 + 8 / 64 + 32 / (64 * 256) + 32 / weight.size  # codes, scales, their scales, the offset
    assert nf4_quantize(weight, double_quant=True).bits_per_weight == exactly
    assert exactly == pytest.approx(4.127, abs=1e-3)  # as in the paper


@pytest.mark.parametrize("shape", ODD_SHAPES)
def test_bytes_of_odd_sizes(shape):
    size = int(np.prod(shape))
    quantized, both = nf4_quantize(normal(*shape)), nf4_quantize(normal(*shape), double_quant=True)
    assert quantized.packed.dtype == np.uint8
    assert quantized.packed.shape == (-(-size // 2),)
    blocks = -(-size // 64)
    assert quantized.absmax.shape == both.absmax.shape == (blocks,)
    assert quantized.nbytes == -(-size // 2) + 4 * blocks
    assert both.nbytes == -(-size // 2) + blocks + 4 + 4


@pytest.mark.parametrize("double_quant", [False, True])
def test_nothing_else_is_held(double_quant):
    weight = normal(512, 576)
    nf4_quantize(weight, double_quant=double_quant)  # makes the tables that all weights share
    gc.collect()
    tracemalloc.start()
    try:
        quantized = nf4_quantize(weight, double_quant=double_quant)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 4 kB: the objects themselves, and what Python keeps for itself.
    assert quantized.nbytes <= held <= quantized.nbytes + 4096


# --- what comes in ----------------------------------------------------------------------------------------


def test_dtype_and_layout_do_not_matter():
    weight = normal(6, 50)
    weight.flags.writeable = False
    plain = nf4_quantize(weight)
    strided = np.repeat(weight, 2, axis=1)[:, ::2]
    for same in (np.asfortranarray(weight), strided, weight.astype(np.float64), weight.tolist()):
        other = nf4_quantize(same)
        np.testing.assert_array_equal(other.packed, plain.packed)
        np.testing.assert_array_equal(other.dequantize(), plain.dequantize())


def test_later_changes_do_not_reach_it():
    weight = normal(4, 64)
    quantized = nf4_quantize(weight)
    before = quantized.dequantize()
    weight[:] = 0
    quantized.dequantize()[:] = 0
    np.testing.assert_array_equal(quantized.dequantize(), before)


@pytest.mark.parametrize("double_quant", [False, True])
@pytest.mark.parametrize("size", [LARGEST, 1e-38, 1e-42, 1e-45])
def test_huge_and_tiny_weights_stay_finite(size, double_quant):
    weight = np.clip(normal(40, 50), -1, 1) * np.float32(size)
    restored = nf4_quantize(weight, 64, double_quant).dequantize()
    assert np.isfinite(restored).all()
    # A denormal absmax has no reciprocal, and few bits: still no weight is farther off than from 0 to the largest.
    assert np.abs(restored.astype(np.float64) - weight).max() <= np.abs(weight).max()


@pytest.mark.parametrize(
    ("weight", "options", "error", "message"),
    [
        ([[1, np.nan]], {}, ValueError, "weight must be finite, but 1 of 2 values are NaN or infinite"),
        ([[1, -np.inf]], {}, ValueError, "weight must be finite"),
        ([[1e39]], {}, ValueError, "weight must be within float32's range"),
        (np.ones((0, 3)), {}, ValueError, "weight must hold at least one value"),
        ([["a"]], {}, TypeError, "weight must hold real numbers"),
        ([1.0], {"block_size": 63}, ValueError, "block_size must be even, .* not 63"),
        ([1.0], {"block_size": 0}, ValueError, "block_size must be from 2 to 4096, not 0"),
        ([1.0], {"block_size": 8192}, ValueError, "block_size must be from 2 to 4096, not 8192"),
        ([1.0], {"block_size": 64.0}, TypeError, "block_size must be a whole number"),
        ([1.0], {"table": "nf3"}, ValueError, "table must be one of 'nf4', 'fp4', not 'nf3'"),
        ([1.0], {"double_quant": "yes"}, TypeError, "double_quant must be True or False, not 'yes'"),
    ],
)
def test_refuses(weight, options, error, message):
    with pytest.raises(error, match=message):
        nf4_quantize(weight, **options)


def test_what_it_says_of_itself():
    weight = normal(4, 64)
    assert repr(nf4_quantize(weight)) == "Nf4Tensor(shape=(4, 64), nf4, blocks of 64, 144 bytes, 4.5 bits per weight)"
    assert "fp4, blocks of 32, double quantization, 144 bytes" in repr(nf4_quantize(weight, 32, True, table="fp4"))


@pytest.mark.parametrize("double_quant", [False, True])
def test_it_is_a_weight_of_a_language_model(double_quant):
    weight, x = normal(24, 50), normal(2, 7, 50, seed=1)
    quantized = nf4_quantize(weight, double_quant=double_quant)
    np.testing.assert_array_equal(apply_linear(quantized, x), apply_linear(quantized.dequantize(), x))
    assert quantized.shape == (24, 50)


def test_fp4_has_the_magnitudes_of_e2m1_but_for_one():
    """What the comment on the table says."""
    ours = set((np.abs(LEVELS["fp4"]) * 12).round(4).tolist())
    ocp = set(np.abs(ql.representable_values("FP4_E2M1") * 2).tolist())
    assert ours - ocp == {np.float32(1 / 16)}
    assert ocp - ours == {1}

"""`cast` against the codes that other libraries give (tests/golden/README.md says how they were made)."""

from pathlib import Path

import numpy as np
import pytest

import quantlab_helpers as ql

GOLDEN = Path(__file__).parent / "golden"
SMALL_FLOATS = {
    "FP8_E4M3": "e4m3fn",
    "FP8_E5M2": "e5m2",
    "FP6_E2M3": "e2m3",
    "FP6_E3M2": "e3m2",
    "FP4_E2M1": "e2m1",
}
LIBRARIES = [
    *((name, library) for name in SMALL_FLOATS for library in ("mldtypes", "gfloat_sat")),
    *((name, "torch") for name in ("FP8_E4M3", "FP8_E5M2")),
    *((name, "torchao") for name in ("FP6_E2M3", "FP6_E3M2", "FP4_E2M1")),
]


@pytest.fixture(scope="module")
def casts():
    with np.load(GOLDEN / "casts.npz") as data:
        return dict(data)


def finite_inputs(x_bits):
    x = x_bits.view(np.float32)
    return x, np.isfinite(x)


def assert_same_bits(actual, expected):
    """Equal, and -0 is not 0."""
    np.testing.assert_array_equal(actual.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(("name", "library"), LIBRARIES)
def test_small_floats_equal_each_library_in_range(casts, name, library):
    key = SMALL_FLOATS[name]
    x, chosen = finite_inputs(casts[f"{key}_x_bits"])
    chosen &= np.abs(x) <= ql.FORMATS[name].max
    values = ql.representable_values(name)
    assert np.isin(values, x[chosen]).all()  # the inputs cover every value and every midpoint
    assert np.isin((values[:-1] + values[1:]) / 2, x[chosen]).all()
    expected = casts[f"{key}_table"][casts[f"{key}_{library}"]]
    assert_same_bits(ql.cast(x[chosen], name), expected[chosen])


@pytest.mark.parametrize("name", SMALL_FLOATS)
def test_small_floats_saturate_as_gfloat_does(casts, name):
    key = SMALL_FLOATS[name]
    x, finite = finite_inputs(casts[f"{key}_x_bits"])
    beyond = finite & (np.abs(x) > ql.FORMATS[name].max)
    assert beyond.any()
    result = ql.cast(x[beyond], name)
    assert_same_bits(result, np.copysign(np.float32(ql.FORMATS[name].max), x[beyond]))
    assert_same_bits(result, casts[f"{key}_table"][casts[f"{key}_gfloat_sat"]][beyond])


@pytest.mark.parametrize(("name", "key"), SMALL_FLOATS.items())
def test_representable_values_are_the_finite_decoded_codes(casts, name, key):
    table = casts[f"{key}_table"]
    np.testing.assert_array_equal(ql.representable_values(name), np.unique(table[np.isfinite(table)]))


def decode_16_bits(name, codes):
    if name == "FP16":
        return codes.view(np.float16).astype(np.float32)
    return (codes.astype(np.uint32) << 16).view(np.float32)  # bfloat16 is the upper half of a float32


@pytest.mark.parametrize(
    ("name", "key"),
    [("FP16", "fp16_numpy"), ("FP16", "fp16_torch"), ("BF16", "bf16_mldtypes"), ("BF16", "bf16_torch")],
)
def test_16_bit_floats(casts, name, key):
    x, finite = finite_inputs(casts["h_x_bits"])
    in_range = finite & (np.abs(x) <= ql.FORMATS[name].max)
    assert in_range.any()
    assert_same_bits(ql.cast(x[in_range], name), decode_16_bits(name, casts[key])[in_range])
    beyond = finite & ~in_range
    assert beyond.any()
    assert_same_bits(ql.cast(x[beyond], name), np.copysign(np.float32(ql.FORMATS[name].max), x[beyond]))


def test_int4_rounds_and_saturates_where_ml_dtypes_truncates_and_wraps(casts):
    x, codes = casts["int4_x"], casts["int4_mldtypes"]
    whole_and_in_range = (x == np.rint(x)) & (np.abs(x) <= 7)
    assert whole_and_in_range.any()
    np.testing.assert_array_equal(ql.cast(x, "INT4")[whole_and_in_range], codes[whole_and_in_range])
    by_hand = {-9: -7, -8: -7, 7: 7, 7.5: 7, 8: 7, 100: 7, -0.5: 0, 0.5: 0, 1.5: 2, 2.5: 2, -1.9: -2}
    np.testing.assert_array_equal(ql.cast(x, "INT4"), [by_hand[round(float(v), 1)] for v in x])


def test_nf4_levels_and_codes_of_bitsandbytes():
    """Blocks of zeros, constants, spikes, and every level and midpoint with its float32 neighbours."""
    with np.load(GOLDEN / "bnb_nf4_edge_blocks.npz") as data:
        blocks, table, codes = data["W"].reshape(-1, 64), data["nf4_code"], data["nf4_b64_codes"]
    np.testing.assert_array_equal(ql.representable_values("NF4"), table)
    absmax = np.abs(blocks).max(axis=1, keepdims=True)
    # bitsandbytes multiplies by the float32 reciprocal of the block's absolute maximum
    normalized = blocks * (np.float32(1) / np.maximum(absmax, np.float32(1e-38)))
    np.testing.assert_array_equal(ql.cast(normalized, "NF4").ravel(), table[codes])

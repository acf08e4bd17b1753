"""`quantize` against torchao's scales, zero points and codes (tests/golden/README.md says how they were made).

We divide by the scale, torchao multiplies by its float32 reciprocal. The two may differ by one code where x / scale is
a tie, halfway between two codes. In these files no code differs, in any of the 16 mappings; the last test makes ties
on purpose.
"""

from pathlib import Path

import numpy as np
import pytest

import quantlab_helpers as ql

GRANULARITIES = {
    "tensor": {},
    "channel": {"per": "channel"},
    "g32": {"per": "group", "group_size": 32},
    "g64": {"per": "group", "group_size": 64},
}
MAPPINGS = {"SYMrestricted": True, "ASYMMETRIC": False}


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "golden" / "torchao_affine.npz") as data:
        return dict(data)


@pytest.mark.parametrize("num_bits", [8, 4])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_torchao(golden, num_bits, granularity, mapping):
    quantized = ql.quantize(golden["W"], num_bits, symmetric=MAPPINGS[mapping], **GRANULARITIES[granularity])
    scale, zero_point, codes = (
        golden[f"int{num_bits}_{granularity}_{mapping}_{part}"] for part in ("scale", "zp", "q")
    )

    # Where all values are 0 any scale will do: ours is 1, torchao's the smallest that it allows.
    all_zero = scale == np.finfo(np.float32).eps
    expected_scale = np.where(all_zero, np.float32(1), scale)
    np.testing.assert_array_equal(quantized.scale.reshape(scale.shape), expected_scale)
    np.testing.assert_array_equal(quantized.zero_point.reshape(scale.shape), zero_point)
    np.testing.assert_array_equal(quantized.codes, codes)
    assert quantized.codes.dtype == codes.dtype
    assert not quantized.dequantize().reshape(scale.size, -1)[all_zero.reshape(-1)].any()


@pytest.mark.parametrize(
    ("observer", "granularity"), [("MinMax", "tensor"), ("PCMinMax", "channel")], ids=["tensor", "channel"]
)
def test_torch_observers(golden, observer, granularity):
    scale, zero_point = ql.choose_qparams(golden["W"], 8, symmetric=False, **GRANULARITIES[granularity])
    expected_scale = golden[f"obs_{observer}_quint8_affine_scale"]
    expected_scale = np.where(expected_scale == np.finfo(np.float32).eps, np.float32(1), expected_scale)
    np.testing.assert_array_equal(scale.reshape(-1), expected_scale)
    np.testing.assert_array_equal(zero_point.reshape(-1), golden[f"obs_{observer}_quint8_affine_zp"])


@pytest.mark.parametrize("num_bits", [8, 4])
def test_dividing_differs_from_the_reciprocal_at_ties_only(num_bits):
    qmax = 2 ** (num_bits - 1) - 1
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.001, 1, size=(200, 1)).astype(np.float32)
    steps = np.arange(-qmax, qmax, dtype=np.float32) + np.float32(0.5)
    x = np.hstack([steps * scale, qmax * scale])  # each row: every tie, and the largest value

    quantized = ql.quantize(x, num_bits, per="channel")
    reciprocal = np.clip(np.rint(x * (np.float32(1) / quantized.scale)), -qmax, qmax)
    differs = quantized.codes != reciprocal

    assert differs.any()
    assert (np.abs(quantized.codes - reciprocal)[differs] == 1).all()
    # A tie, to within three roundings of half an ulp: of the quotient, of the reciprocal and of its product with x.
    exact = x.astype(np.float64) / quantized.scale
    distance_from_tie = np.abs(np.abs(exact - np.trunc(exact)) - 0.5)
    assert (distance_from_tie <= 3 * 2.0**-24 * np.abs(exact))[differs].all()

"""The exercises of notebook 02 agree with the package, and take right answers in any style."""

import math

import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers import exercises

PACKING = exercises.get("int4_packing")
CALCULATOR = exercises.get("memory_calculator")


def _loop(codes):
    data = []
    for i in range(0, len(codes), 2):
        low = int(codes[i]) & 15
        high = int(codes[i + 1]) & 15 if i + 1 < len(codes) else 0
        data.append(high << 4 | low)
    return np.array(data, dtype=np.uint8)


def _remainders(codes):
    codes = np.pad(codes, (0, len(codes) % 2))
    return ((codes[::2] % 16) + 16 * (codes[1::2].astype(int) % 16)).astype("uint8")


def _in_int8_then_viewed(codes):
    pairs = np.resize(np.append(codes, np.int8(0)), (-(-len(codes) // 2), 2))
    return ((pairs[:, 0] & 15) | (pairs[:, 1] << 4)).view(np.uint8)


@pytest.mark.parametrize("another_style", [_loop, _remainders, _in_int8_then_viewed, lambda codes: ql.pack(codes, 4)])
def test_packing_in_another_style_passes(another_style):
    assert PACKING.check(another_style).state == "passed"


def test_packing_is_what_the_package_unpacks():
    for (codes,) in PACKING.all_cases():
        np.testing.assert_array_equal(ql.unpack(PACKING.reference(codes), 4, codes.shape, signed=True), codes)


def _with_ceil(num_weights, num_bits, group_size, scale_bytes, zero_points):
    groups = math.ceil(num_weights / (group_size or num_weights))
    return math.ceil(num_weights * num_bits / 8) + groups * (scale_bytes + int(zero_points))


def _numpy_integers(*arguments):
    return np.int64(_with_ceil(*arguments))


@pytest.mark.parametrize("another_style", [_with_ceil, _numpy_integers])
def test_calculator_in_another_style_passes(another_style):
    assert CALCULATOR.check(another_style).state == "passed"


@pytest.mark.parametrize("num_bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [None, 3, 7])
def test_calculator_gives_the_bytes_that_a_quantized_tensor_holds(num_bits, symmetric, group_size):
    x = np.random.default_rng(0).normal(size=(5, 21))
    per = {"per": "group", "group_size": group_size} if group_size else {}
    expected = ql.quantize(x, num_bits, symmetric=symmetric, **per).nbytes
    assert CALCULATOR.reference(x.size, num_bits, group_size, 4, not symmetric) == expected

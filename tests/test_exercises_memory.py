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


def _third_hint_as_typed(appended):
    def function(codes):
        nibbles = codes.astype(np.uint8) & 0b1111
        if nibbles.size % 2:
            nibbles = np.append(nibbles, appended)
        return nibbles[0::2] | (nibbles[1::2] << 4)

    return function


def test_the_third_hint_typed_literally_passes():
    assert "append `np.uint8(0)` first" in PACKING.hints[2]
    assert PACKING.check(_third_hint_as_typed(np.uint8(0))).state == "passed"


def _brackets_forgotten_in_a_loop(codes):
    padded = [*map(int, codes), 0]
    pairs = zip(padded[0 : len(codes) : 2], padded[1::2], strict=False)
    return np.array([(first & 15 | second & 15 << 4) & 255 for first, second in pairs], dtype=np.uint8)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (_third_hint_as_typed(0), "a plain 0"),
        (lambda codes: (PACKING.reference(codes) >> 4) | (PACKING.reference(codes) << 4), "into the upper half"),
        (lambda codes: PACKING.reference(codes & 7), "three bits"),
        (lambda codes: PACKING.reference(np.pad(codes, (codes.size % 2, 0))), "it comes last"),
        (lambda codes: PACKING.reference(np.pad(codes, (0, codes.size % 2), mode="edge")), "one 0"),
        (lambda codes: PACKING.reference(np.resize(codes, codes.size + codes.size % 2)), "one 0"),
        (lambda codes: (codes[0::2] & 15) + (codes[1::2] & 15) << 4, "brackets"),
        (_brackets_forgotten_in_a_loop, "brackets"),
    ],
)
def test_what_learners_type_for_int4_packing_is_understood(wrong, told):
    assert told in PACKING.check(wrong).hint


def _with_ceil(num_weights, num_bits, group_size, scale_bytes, zero_points):
    groups = math.ceil(num_weights / (group_size or num_weights))
    return math.ceil(num_weights * num_bits / 8) + groups * (scale_bytes + int(zero_points))


def _numpy_integers(*arguments):
    return np.int64(_with_ceil(*arguments))


@pytest.mark.parametrize("another_style", [_with_ceil, _numpy_integers])
def test_calculator_in_another_style_passes(another_style):
    assert CALCULATOR.check(another_style).state == "passed"


def _both_with_int(num_weights, num_bits, group_size, scale_bytes, zero_points):
    num_scales = int(num_weights / group_size) if group_size else 1
    return int(num_weights * num_bits / 8) + num_scales * (scale_bytes + zero_points)


def _ceil_at_the_end(num_weights, num_bits, group_size, scale_bytes, zero_points):
    num_scales = num_weights / (group_size or num_weights)
    return math.ceil(num_weights * num_bits / 8 + num_scales * scale_bytes + num_scales * zero_points)


def _one_more_of_each(num_weights, num_bits, group_size, scale_bytes, zero_points):
    num_scales = num_weights // group_size + 1 if group_size else 1
    return num_weights * num_bits // 8 + 1 + num_scales * (scale_bytes + zero_points)


def _codes_in_each_byte(num_weights, num_bits, group_size, scale_bytes, zero_points):
    num_scales = math.ceil(num_weights / group_size) if group_size else 1
    return math.ceil(num_weights / (8 // num_bits)) + num_scales * (scale_bytes + zero_points)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (_both_with_int, "each by itself"),
        (_ceil_at_the_end, "each by itself"),
        (_one_more_of_each, "always add one"),
        (_codes_in_each_byte, "begin in one byte and end in the next"),
        (lambda n, b, g, s, z: n * b // 8 + n // g * (s + z), "`group_size` may be `None`"),
        (lambda n, b, g, s, z: math.ceil(n * b / 8) + s + z, "one for each group"),
        (lambda n, b, g, s, z: math.ceil(n * b / 8), "scales are missing"),
    ],
)
def test_what_learners_type_for_the_calculator_is_understood(wrong, told):
    assert told in CALCULATOR.check(wrong).hint


@pytest.mark.parametrize("num_bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [None, 3, 7])
def test_calculator_gives_the_bytes_that_a_quantized_tensor_holds(num_bits, symmetric, group_size):
    x = np.random.default_rng(0).normal(size=(5, 21))
    per = {"per": "group", "group_size": group_size} if group_size else {}
    expected = ql.quantize(x, num_bits, symmetric=symmetric, **per).nbytes
    assert CALCULATOR.reference(x.size, num_bits, group_size, 4, not symmetric) == expected

"""Exercise: the scale and the zero point of affine quantization (notebook 01)."""

import numpy as np

from .base import Exercise, WrongAnswer


def affine_qparams(x, num_bits):
    """Return (scale, zero_point): the range of x, stretched to hold 0, spread over the codes 0 .. 2**num_bits - 1."""
    qmax = 2**num_bits - 1
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    if low == high:  # all values are 0
        return 1.0, 0
    scale = (high - low) / qmax
    zero_point = int(np.round(-low / scale))
    return scale, zero_point


def cases(rng):
    yield np.array([0.0, 1.0, 2.0, 3.0]), 2
    yield np.array([-1.0, 0.5, 2.0]), 4
    yield np.array([2.0, 3.0, 5.0]), 4
    yield np.array([-4.0, -3.0, -1.0]), 3
    for num_bits in (2, 3, 5, 8):
        yield rng.normal(rng.uniform(-2, 2), rng.uniform(0.1, 3), size=rng.integers(2, 40)), num_bits
        yield np.maximum(rng.normal(size=20), 0), num_bits
    yield np.zeros(3), 8


def _range_without_zero(x, num_bits):
    if x.min() == x.max():
        return 1.0, 0
    scale = (x.max() - x.min()) / (2**num_bits - 1)
    return scale, int(np.round(-x.min() / scale))


def _symmetric_scale(x, num_bits):
    largest = np.abs(x).max()
    return (largest / (2 ** (num_bits - 1) - 1) if largest else 1.0), 0


def _one_step_too_many(x, num_bits):
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    if low == high:
        return 1.0, 0
    scale = (high - low) / 2**num_bits
    return scale, int(np.round(-low / scale))


def _signed_zero_point(x, num_bits):
    scale, zero_point = affine_qparams(x, num_bits)
    return scale, zero_point - 2 ** (num_bits - 1)


def _zero_point_not_rounded(x, num_bits):
    scale, _ = affine_qparams(x, num_bits)
    return scale, float(-min(x.min(), 0.0) / scale)


def _wrong_sign(x, num_bits):
    scale, zero_point = affine_qparams(x, num_bits)
    return scale, -zero_point


def _no_guard_for_zeros(x, num_bits):
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    scale = (high - low) / (2**num_bits - 1)
    return scale, int(np.round(-low / scale))


EXERCISE = Exercise(
    name="zero_point",
    checked="2 to 8 bits; ranges on both sides of 0, all positive, all negative and all zero; random data",
    reference=affine_qparams,
    cases=cases,
    hints=(
        "Two facts fix everything: `low` must land on the code 0, and `high` on the code `2**num_bits - 1`.",
        "`2**num_bits - 1` steps lie between them, so divide `high - low` by that. Before you do, stretch the range "
        "so that it holds 0: `low = min(x.min(), 0.0)`, and likewise `high`.",
        "`low = scale * (0 - zero_point)`: solve it for `zero_point`, round, and make it an `int`. If all values "
        "are 0, return `1.0, 0`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "the range does not include 0",
            _range_without_zero,
            "Your range runs from the smallest to the largest value, so 0 may lie outside it and has no code of its "
            "own. Padding and ReLU need an exact 0: take `min(x.min(), 0.0)` and `max(x.max(), 0.0)`.",
        ),
        WrongAnswer(
            "symmetric scale",
            _symmetric_scale,
            "That is the symmetric scale, with the zero point left at 0. Affine spreads the range from low to high.",
        ),
        WrongAnswer(
            "2**b steps instead of 2**b - 1",
            _one_step_too_many,
            "There are `2**num_bits` codes but one step fewer between the first and the last: divide by "
            "`2**num_bits - 1`.",
        ),
        WrongAnswer(
            "zero point for signed codes",
            _signed_zero_point,
            "Your zero point belongs to codes that start at -2**(b-1). Here the codes start at 0: the code of `low` "
            "is 0, so `zero_point = -low / scale`, rounded.",
        ),
        WrongAnswer(
            "zero point not rounded",
            _zero_point_not_rounded,
            "A zero point is itself a code: round it and make it an `int`, so that 0.0 is stored exactly.",
        ),
        WrongAnswer(
            "sign of the zero point",
            _wrong_sign,
            "Mind the sign: from `low = scale * (0 - zero_point)` follows `zero_point = -low / scale`.",
        ),
        WrongAnswer(
            "no guard for all zeros",
            _no_guard_for_zeros,
            "An all-zero array gives `scale = 0`, and dividing by it fails. Return scale 1.0 and zero point 0 for it.",
        ),
    ),
)

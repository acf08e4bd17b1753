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


EXAMPLES = (
    (np.array([0.0, 1.0, 2.0, 3.0]), 2),
    (np.array([-1.0, 0.5, 2.0]), 4),
    (np.array([2.0, 3.0, 5.0]), 4),
    (np.array([-4.0, -3.0, -1.0]), 3),
    (np.array([[-0.3, 0.1], [0.75, 0.2]], dtype=np.float32), 8),
    (np.zeros(3), 8),
)


def cases(rng):
    for num_bits in (2, 3, 5, 8):
        yield rng.normal(rng.uniform(-2, 2), rng.uniform(0.1, 3), size=rng.integers(2, 40)), num_bits
        yield np.maximum(rng.normal(size=(4, 5)), 0).astype(np.float32), num_bits


def _affine(range_of, steps_of, zero_point_of):
    """The reference with one of its parts replaced, so that each wrong answer below shows only what is wrong."""

    def function(x, num_bits):
        low, high = range_of(x)
        if low == high:
            return 1.0, 0
        scale = (high - low) / steps_of(num_bits)
        return scale, zero_point_of(low, scale, num_bits)

    return function


def _stretched(x):
    return min(x.min(), 0.0), max(x.max(), 0.0)


def _unstretched(x):
    return x.min(), x.max()


def _steps(num_bits):
    return 2**num_bits - 1


def _rounded(low, scale, num_bits):
    return int(np.round(-low / scale))


def _symmetric_scale(x, num_bits):
    largest = np.abs(x).max()
    return (largest / (2 ** (num_bits - 1) - 1) if largest else 1.0), 0


def _absmax_over_all_steps(x, num_bits):
    largest = np.abs(x).max()
    if largest == 0:
        return 1.0, 0
    scale = largest / _steps(num_bits)
    return scale, _rounded(min(x.min(), 0.0), scale, num_bits)


def _scale_upside_down(x, num_bits):
    low, high = _stretched(x)
    if low == high:
        return 1.0, 0
    scale = _steps(num_bits) / (high - low)
    return scale, int(np.round(-low * scale))


def _no_guard(to_int):
    def function(x, num_bits):
        low, high = _stretched(x)
        scale = (high - low) / _steps(num_bits)
        return scale, to_int(np.round(-low / np.float64(scale)))

    return function


EXERCISE = Exercise(
    reference=affine_qparams,
    outputs=("scale", "zero_point"),
    checked="2 to 8 bits; ranges on both sides of 0, all positive, all negative and all zero; random data",
    examples=EXAMPLES,
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
            (
                _affine(_unstretched, _steps, _rounded),
                _affine(_unstretched, _steps, lambda low, scale, b: int(np.clip(np.round(-low / scale), 0, 2**b - 1))),
            ),
            "Your range runs from the smallest to the largest value, so 0 may lie outside it and has no code of its "
            "own. Padding and ReLU need an exact 0: take `min(x.min(), 0.0)` and `max(x.max(), 0.0)`.",
        ),
        WrongAnswer(
            "symmetric scale",
            (_symmetric_scale,),
            "That is the symmetric scale, with the zero point left at 0. Affine spreads the range from low to high.",
        ),
        WrongAnswer(
            "absmax instead of the range",
            (_absmax_over_all_steps,),
            "You divide the largest magnitude by the number of steps, but the steps must reach from `low` to `high`: "
            "divide `high - low`.",
        ),
        WrongAnswer(
            "2**b steps instead of 2**b - 1",
            (_affine(_stretched, lambda b: 2**b, _rounded),),
            "There are `2**num_bits` codes but one step fewer between the first and the last: divide by "
            "`2**num_bits - 1`.",
        ),
        WrongAnswer(
            "the steps of signed codes",
            (_affine(_stretched, lambda b: 2 ** (b - 1) - 1, _rounded),),
            "`2**(num_bits - 1) - 1` is the last code of *signed* integers. Here the codes go from 0 to "
            "`2**num_bits - 1`.",
        ),
        WrongAnswer(
            "zero point for signed codes",
            (_affine(_stretched, _steps, lambda low, scale, b: _rounded(low, scale, b) - 2 ** (b - 1)),),
            "Your zero point belongs to codes that start at -2**(b-1). Here the codes start at 0: the code of `low` "
            "is 0, so `zero_point = -low / scale`, rounded.",
        ),
        WrongAnswer(
            "zero point not a whole number",
            (
                _affine(_stretched, _steps, lambda low, scale, b: -low / scale),
                _affine(_stretched, _steps, lambda low, scale, b: float(np.round(-low / scale))),
            ),
            "A zero point is itself a code: round it and make it an `int`, so that 0.0 is stored exactly.",
        ),
        WrongAnswer(
            "zero point cut off instead of rounded",
            (
                _affine(_stretched, _steps, lambda low, scale, b: int(-low / scale)),
                _affine(_stretched, _steps, lambda low, scale, b: int(np.ceil(-low / scale))),
            ),
            "`int(...)` alone cuts the fraction off, and `ceil` pushes it up: take the *nearest* whole number, "
            "`int(np.round(...))`.",
        ),
        WrongAnswer(
            "sign of the zero point",
            (_affine(_stretched, _steps, lambda low, scale, b: int(np.round(low / scale))),),
            "Mind the sign: from `low = scale * (0 - zero_point)` follows `zero_point = -low / scale`.",
        ),
        WrongAnswer(
            "scale upside down",
            (_scale_upside_down,),
            "Your scale is steps / range. In this course `scale` multiplies codes: `real = scale * (code - "
            "zero_point)`, so it is range / steps.",
        ),
        WrongAnswer(
            "no guard for all zeros",
            (_no_guard(int), _no_guard(lambda value: value.astype(int))),
            "An all-zero array gives `scale = 0`, and dividing by it fails. Return scale 1.0 and zero point 0 for it.",
        ),
    ),
)

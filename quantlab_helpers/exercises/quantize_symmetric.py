"""Exercise: symmetric quantization of one array (notebook 01)."""

import numpy as np

from .base import Exercise, WrongAnswer


def quantize_symmetric(x, num_bits):
    """Return (codes, scale): the codes of x as int8, from -qmax to qmax = 2**(num_bits - 1) - 1, and their scale."""
    qmax = 2 ** (num_bits - 1) - 1
    scale = np.abs(x).max() / qmax
    codes = np.clip(np.round(x / scale), -qmax, qmax).astype(np.int8)
    return codes, scale


def cases(rng):
    yield np.array([-1.5, 0.2, 0.7, 3.0]), 3
    yield np.array([-6.0, -1.0, 2.0]), 4
    yield np.array([0.1, 0.9, -0.35, 0.56]), 8
    for num_bits in (2, 4, 6, 8):
        shape = tuple(rng.integers(1, 6, size=rng.integers(1, 3)))
        yield rng.normal(scale=rng.uniform(0.01, 10), size=shape), num_bits


def _with_divisor(divisor):
    def function(x, num_bits):
        scale = np.abs(x).max() / divisor(num_bits)
        return np.round(x / scale).astype(np.int8), scale

    return function


def _no_abs(x, num_bits):
    qmax = 2 ** (num_bits - 1) - 1
    scale = x.max() / qmax
    return np.clip(np.round(x / scale), -qmax, qmax).astype(np.int8), scale


def _truncated(x, num_bits):
    scale = np.abs(x).max() / (2 ** (num_bits - 1) - 1)
    return (x / scale).astype(np.int8), scale


def _inverse_scale(x, num_bits):
    scale = (2 ** (num_bits - 1) - 1) / np.abs(x).max()
    return np.round(x * scale).astype(np.int8), scale


def _codes_as_floats(x, num_bits):
    codes, scale = quantize_symmetric(x, num_bits)
    return codes.astype(np.float64), scale


def _dequantized(x, num_bits):
    codes, scale = quantize_symmetric(x, num_bits)
    return codes * scale, scale


EXERCISE = Exercise(
    name="quantize_symmetric",
    checked="2 to 8 bits, arrays of one and two dimensions, largest value positive or negative, any size of number",
    reference=quantize_symmetric,
    cases=cases,
    hints=(
        "Three steps: the scale, divide and round, then make the codes int8.",
        "The largest magnitude, `np.abs(x).max()`, must land on the code `qmax`: `scale = absmax / qmax`.",
        "`np.round(x / scale)`, then `np.clip(..., -qmax, qmax)`, then `.astype(np.int8)`. Return codes and scale.",
    ),
    wrong_answers=(
        WrongAnswer(
            "127 at every width",
            _with_divisor(lambda num_bits: 127),
            "Your scale spreads the values over 127 codes whatever `num_bits` is: use `qmax = 2**(num_bits - 1) - 1`.",
        ),
        WrongAnswer(
            "2**(b-1) instead of 2**(b-1) - 1",
            _with_divisor(lambda num_bits: 2 ** (num_bits - 1)),
            "You divide by `2**(num_bits - 1)`, so the largest value gets a code that signed integers of that width "
            "do not have. The last positive code is one less.",
        ),
        WrongAnswer(
            "all 2**b - 1 steps on the positive side",
            _with_divisor(lambda num_bits: 2**num_bits - 1),
            "`2**num_bits - 1` counts the steps on both sides of 0. From 0 to the largest value there are "
            "`2**(num_bits - 1) - 1`.",
        ),
        WrongAnswer(
            "forgot abs",
            _no_abs,
            "`x.max()` misses a large negative value. The scale comes from the largest magnitude: `np.abs(x).max()`.",
        ),
        WrongAnswer(
            "truncated instead of rounded",
            _truncated,
            "`astype` cuts the fraction off, so errors reach a whole step. Round to the nearest code first: "
            "`np.round(x / scale)`.",
        ),
        WrongAnswer(
            "scale upside down (qmax / absmax)",
            _inverse_scale,
            "Your scale is qmax / absmax. In this course `scale` multiplies codes: `real = scale * code`, so it is "
            "absmax / qmax.",
        ),
        WrongAnswer(
            "codes left as floats",
            _codes_as_floats,
            "The codes are right but still floats, which saves no byte: finish with `.astype(np.int8)`.",
        ),
        WrongAnswer(
            "returned the dequantized values",
            _dequantized,
            "You multiplied by the scale again: return the codes themselves, and dequantize later.",
        ),
    ),
)

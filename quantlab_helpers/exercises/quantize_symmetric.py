"""Exercise: symmetric quantization of one array (notebook 01)."""

import numpy as np

from .base import Exercise, WrongAnswer


def quantize_symmetric(x, num_bits):
    """Return (codes, scale): the codes of x as int8, from -qmax to qmax = 2**(num_bits - 1) - 1, and their scale."""
    qmax = 2 ** (num_bits - 1) - 1
    scale = np.abs(x).max() / qmax
    if scale == 0:  # all values are 0
        scale = 1.0
    codes = np.clip(np.round(x / scale), -qmax, qmax).astype(np.int8)
    return codes, scale


EXAMPLES = (
    (np.array([-1.6, 0.2, 0.7, 3.0]), 3),
    (np.array([-6.0, -1.0, 2.0]), 4),
    (np.array([0.1, 0.9, -0.35, 0.56], dtype=np.float32), 8),
    (np.zeros(3), 8),
)


def cases(rng):
    for num_bits in (2, 4, 6, 8):
        shape = tuple(rng.integers(1, 6, size=rng.integers(1, 3)))
        yield rng.normal(scale=rng.uniform(0.01, 10), size=shape).astype(np.float32), num_bits


def _qmax(num_bits):
    return 2 ** (num_bits - 1) - 1


def _with_scale(scale_of, round_=np.round, dtype=np.int8):
    """The reference with another scale, rounding or dtype, without and with a clip: two spellings of one mistake."""

    def unclipped(x, num_bits):
        scale = scale_of(x, num_bits) or 1.0
        return round_(x / scale).astype(dtype), scale

    def clipped(x, num_bits):
        scale = scale_of(x, num_bits) or 1.0
        return np.clip(round_(x / scale), -_qmax(num_bits), _qmax(num_bits)).astype(dtype), scale

    return unclipped, clipped


def _right_scale(x, num_bits):
    return np.abs(x).max() / _qmax(num_bits)


def _inverse_scale(x, num_bits):
    scale = _qmax(num_bits) / (np.abs(x).max() or 1.0)
    return np.round(x * scale).astype(np.int8), scale


def _cast_too_early(x, num_bits):
    scale = _right_scale(x, num_bits) or 1.0
    return (x.astype(np.int8) / scale).astype(np.int8), scale


def _dequantized(x, num_bits):
    codes, scale = quantize_symmetric(x, num_bits)
    return codes * scale, scale


def _no_guard(x, num_bits):
    scale = _right_scale(x, num_bits)
    return np.round(x / scale).astype(np.int8), scale


EXERCISE = Exercise(
    reference=quantize_symmetric,
    outputs=("codes", "scale"),
    checked="2 to 8 bits, int8 codes, arrays of one and two axes, largest value positive or negative, all zeros",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Three steps: the scale, divide and round, then make the codes int8.",
        "The largest magnitude, `np.abs(x).max()`, must land on the code `qmax`: `scale = absmax / qmax`. If all "
        "values are 0, take scale 1.0.",
        "`np.round(x / scale)`, then `np.clip(..., -qmax, qmax)`, then `.astype(np.int8)`. Return codes and scale.",
    ),
    wrong_answers=(
        WrongAnswer(
            "127 at every width",
            _with_scale(lambda x, b: np.abs(x).max() / 127),
            "Your scale spreads the values over 127 codes whatever `num_bits` is: use `qmax = 2**(num_bits - 1) - 1`.",
        ),
        WrongAnswer(
            "2**(b-1) instead of 2**(b-1) - 1",
            _with_scale(lambda x, b: np.abs(x).max() / 2 ** (b - 1)),
            "You divide by `2**(num_bits - 1)`, so the largest value gets a code that signed integers of that width "
            "do not have. The last positive code is one less.",
        ),
        WrongAnswer(
            "all 2**b - 1 steps on the positive side",
            _with_scale(lambda x, b: np.abs(x).max() / (2**b - 1)),
            "`2**num_bits - 1` counts the steps on both sides of 0. From 0 to the largest value there are "
            "`2**(num_bits - 1) - 1`.",
        ),
        WrongAnswer(
            "max - min, as for affine",
            _with_scale(lambda x, b: (x.max() - x.min()) / (2**b - 1)),
            "You spread the range from smallest to largest value over the codes, which is affine quantization. "
            "Symmetric: the largest magnitude lands on `qmax`.",
        ),
        WrongAnswer(
            "^ for a power",
            _with_scale(lambda x, b: np.abs(x).max() / ((2 ^ (b - 1)) - 1)),
            "In Python `^` is not a power but a bitwise xor: write `2 ** (num_bits - 1)`.",
        ),
        WrongAnswer(
            "forgot abs",
            (*_with_scale(lambda x, b: x.max() / _qmax(b)), *_with_scale(lambda x, b: np.abs(x.max()) / _qmax(b))),
            "`x.max()` misses a large negative value. The scale comes from the largest magnitude: `np.abs(x).max()`.",
        ),
        WrongAnswer(
            "truncated instead of rounded",
            (
                *_with_scale(_right_scale, round_=np.trunc),
                *_with_scale(_right_scale, round_=np.floor),
                _cast_too_early,
            ),
            "`astype` and `//` cut the fraction off, so errors reach a whole step. Round to the nearest code first: "
            "`np.round(x / scale)`.",
        ),
        WrongAnswer(
            "scale upside down (qmax / absmax)",
            (_inverse_scale,),
            "Your scale is qmax / absmax. In this course `scale` multiplies codes: `real = scale * code`, so it is "
            "absmax / qmax.",
        ),
        WrongAnswer(
            "codes left as floats",
            _with_scale(_right_scale, dtype=np.float32),
            "The codes are right but still floats, which saves no byte: finish with `.astype(np.int8)`.",
        ),
        WrongAnswer(
            "unsigned codes",
            _with_scale(_right_scale, dtype=np.uint8),
            "uint8 has no negative numbers, so your negative codes wrap around to 129 ... 255: use `np.int8`.",
        ),
        WrongAnswer(
            "returned the dequantized values",
            (_dequantized,),
            "You multiplied by the scale again: return the codes themselves, and dequantize later.",
        ),
        WrongAnswer(
            "no guard for all zeros",
            (_no_guard,),
            "An all-zero array gives `scale = 0`, and dividing by it gives NaN. Take scale 1.0 then: every code is 0.",
        ),
    ),
)

"""Exercise: one scale for each row of a weight matrix (notebook 05)."""

import numpy as np

from .base import Exercise, WrongAnswer


def per_channel(weight, num_bits):
    """Return (codes, scales): symmetric codes as int8 and one scale for each row; a row of zeros has scale 1."""
    qmax = 2 ** (num_bits - 1) - 1
    scales = np.abs(weight).max(axis=1) / qmax  # (out,)
    scales[scales == 0] = 1.0  # rows of zeros
    codes = np.round(weight / scales[:, None]).astype(np.int8)  # (out, in) / (out, 1)
    return codes, scales


EXAMPLES = (
    (np.array([[0.34, -0.92, 1.4], [20.0, 70.0, -33.0]]), 4),
    (np.array([[1.4, -6.0], [0.5, 0.2], [3.0, 0.8]], dtype=np.float32), 3),
    (np.array([[0.0, 0.0, 0.0], [-0.2, 0.7, 0.4]]), 4),
    (np.zeros((2, 3)), 8),
)


def cases(rng):
    for num_bits in (2, 3, 4, 6, 8):
        shape = rng.integers(2, 9, size=2)
        yield rng.normal(size=shape) * rng.uniform(0.01, 50, size=(shape[0], 1)), num_bits
    yield rng.normal(size=(4, 4)).astype(np.float32), 5
    yield -rng.uniform(0.1, 1, size=(3, 5)), 4
    for num_bits in (4, 8):
        with_zeros = rng.normal(size=(4, 6))
        with_zeros[rng.integers(4)] = 0
        yield with_zeros, num_bits


def _qmax(num_bits):
    return 2 ** (num_bits - 1) - 1


def _right(weight, num_bits):
    return np.abs(weight).max(axis=1, keepdims=True) / _qmax(num_bits)


def _unclipped(codes, num_bits):
    return codes


def _clipped_to_half(codes, num_bits):
    half = 2**num_bits // 2
    return np.clip(codes, -half, half - 1)


def _with_scales(scales_of, *, round_=np.round, clip=_unclipped, dtype=np.int8, returned=np.ravel):
    """The reference with one part replaced, with and without a guard for zeros: two spellings of one mistake.

    `scales_of` gives scales that broadcast against the weight; `returned` shapes them as they are returned.
    """

    def result(weight, num_bits, scales):
        return clip(round_(weight / scales), num_bits).astype(dtype), returned(scales)

    def unguarded(weight, num_bits):
        return result(weight, num_bits, scales_of(weight, num_bits))

    def guarded(weight, num_bits):
        scales = scales_of(weight, num_bits)
        return result(weight, num_bits, np.where(scales == 0, 1, scales))

    return guarded, unguarded


def _one_scale_repeated(weight, num_bits):
    scale = np.abs(weight).max() / _qmax(num_bits) or 1.0
    return np.round(weight / scale).astype(np.int8), np.full(len(weight), scale)


def _lined_up_with_columns(weight, num_bits):
    scales = _right(weight, num_bits).ravel()
    scales[scales == 0] = 1
    return np.round(weight / scales).astype(np.int8), scales


def _columns_lined_up_with_rows(weight, num_bits):
    scales = np.abs(weight).max(axis=0) / _qmax(num_bits)
    scales[scales == 0] = 1
    return np.round(weight / scales[:, None]).astype(np.int8), scales


def _upside_down(weight, num_bits):
    absmax = np.abs(weight).max(axis=1)
    scales = _qmax(num_bits) / np.where(absmax == 0, 1, absmax)
    return np.round(weight * scales[:, None]).astype(np.int8), scales


def _dequantized(weight, num_bits):
    codes, scales = per_channel(weight, num_bits)
    return codes * scales[:, None], scales


def _tiny_scale(tiny):
    """The usual ways to avoid a division by 0, which leave an all-zero row with a tiny scale."""

    def added(weight, num_bits):
        scales = _right(weight, num_bits) + tiny
        return np.round(weight / scales).astype(np.int8), scales.ravel()

    def at_least(weight, num_bits):
        scales = np.maximum(_right(weight, num_bits), tiny)
        return np.round(weight / scales).astype(np.int8), scales.ravel()

    return added, at_least


EXERCISE = Exercise(
    reference=per_channel,
    outputs=("codes", "scales"),
    checked="2 to 8 bits, int8 codes, small and large rows, tall, wide and square matrices, rows of zeros",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "It is notebook 1's algorithm, once for each row. A loop over the rows is fine; without a loop it takes an "
        "`axis`.",
        "`np.abs(weight).max(axis=1)` is the largest magnitude of each row, an array of shape (out,). Divide it by "
        "`qmax = 2**(num_bits - 1) - 1`, and put 1.0 where that gives 0.",
        "To divide row i by scale i, make the scales a column: `weight / scales[:, None]` divides (out, in) by "
        "(out, 1). Round, `.astype(np.int8)`, and return `codes, scales`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "one scale for each column",
            (
                *_with_scales(lambda w, b: np.abs(w).max(axis=0) / _qmax(b)),
                _columns_lined_up_with_rows,
            ),
            "You have one scale for each column: `axis=0` takes the maximum down a column. Along a row it is `axis=1`.",
        ),
        WrongAnswer(
            "scales of shape (out,) divide the columns",
            (_lined_up_with_columns,),
            "The scales are right, but `weight / scales` lines them up with the columns: NumPy matches shapes from "
            "the right, (out, in) with (out,). Make them a column: `scales[:, None]` has shape (out, 1).",
        ),
        WrongAnswer(
            "one scale for the whole matrix",
            (
                *_with_scales(lambda w, b: np.abs(w).max() / _qmax(b), returned=np.squeeze),
                _one_scale_repeated,
            ),
            "That is one scale for the whole matrix. Take the maximum of each row: `np.abs(weight).max(axis=1)`.",
        ),
        WrongAnswer(
            "127 at every width",
            _with_scales(lambda w, b: np.abs(w).max(axis=1, keepdims=True) / 127),
            "Your scales spread each row over 127 codes whatever `num_bits` is: use `qmax = 2**(num_bits - 1) - 1`.",
        ),
        WrongAnswer(
            "2**(b-1) or 2**b - 1 instead of 2**(b-1) - 1",
            (
                *_with_scales(lambda w, b: np.abs(w).max(axis=1, keepdims=True) / 2 ** (b - 1)),
                *_with_scales(lambda w, b: np.abs(w).max(axis=1, keepdims=True) / 2 ** (b - 1), clip=_clipped_to_half),
                *_with_scales(lambda w, b: np.abs(w).max(axis=1, keepdims=True) / (2**b - 1)),
            ),
            "The largest magnitude of a row must land on the last code, `qmax = 2**(num_bits - 1) - 1`: 7 at 4 bits.",
        ),
        WrongAnswer(
            "forgot abs",
            (
                *_with_scales(lambda w, b: w.max(axis=1, keepdims=True) / _qmax(b)),
                *_with_scales(lambda w, b: np.abs(w.max(axis=1, keepdims=True)) / _qmax(b)),
            ),
            "`weight.max(axis=1)` misses a large negative value. Take the magnitudes first: "
            "`np.abs(weight).max(axis=1)`.",
        ),
        WrongAnswer(
            "max - min, as for affine",
            _with_scales(lambda w, b: (w.max(axis=1, keepdims=True) - w.min(axis=1, keepdims=True)) / (2**b - 1)),
            "You spread each row from its smallest to its largest value over the codes, which is affine. Symmetric: "
            "the largest magnitude lands on `qmax`.",
        ),
        WrongAnswer(
            "truncated instead of rounded",
            (*_with_scales(_right, round_=np.trunc), *_with_scales(_right, round_=np.floor)),
            "`astype` and `//` cut the fraction off, so errors reach a whole step. Round first: "
            "`np.round(weight / scales[:, None])`.",
        ),
        WrongAnswer(
            "scales upside down",
            (_upside_down,),
            "Your scales are qmax / absmax. In this course a scale multiplies codes: `real = scale * code`, so it is "
            "absmax / qmax.",
        ),
        WrongAnswer(
            "scales left as a column",
            _with_scales(_right, returned=np.copy),
            "Your numbers are right, but the scales have shape (out, 1). Return them as (out,): `scales[:, 0]`.",
        ),
        WrongAnswer(
            "codes left as floats",
            (*_with_scales(_right, dtype=np.float64), *_with_scales(_right, dtype=np.float32)),
            "The codes are right but still floats, which saves no byte: finish with `.astype(np.int8)`.",
        ),
        WrongAnswer(
            "returned the dequantized values",
            (_dequantized,),
            "You multiplied by the scales again: return the codes themselves, and dequantize later.",
        ),
        WrongAnswer(
            "no scale of 1 for a row of zeros",
            (_with_scales(_right)[1], *_tiny_scale(1e-8), *_tiny_scale(1e-12)),
            "A row of zeros should have scale 1. Its largest magnitude is 0, and dividing by 0 gives NaN; a tiny "
            "scale is no better, because 0 needs no scale at all: `scales[scales == 0] = 1.0`.",
        ),
    ),
)

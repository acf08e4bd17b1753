"""Exercise: one scale for each group of neighbours along a row (notebook 05)."""

import numpy as np

from .base import Exercise, WrongAnswer


def per_group(weight, num_bits, group_size):
    """Return (codes, scales): symmetric codes as int8 and one scale for each `group_size` neighbours in a row."""
    qmax = 2 ** (num_bits - 1) - 1
    out_features, in_features = weight.shape
    groups = weight.reshape(out_features, in_features // group_size, group_size)
    scales = np.abs(groups).max(axis=2) / qmax  # (out, in / group_size)
    scales[scales == 0] = 1.0  # groups of zeros
    codes = np.round(groups / scales[:, :, None]).astype(np.int8)
    return codes.reshape(weight.shape), scales


EXAMPLES = (
    (np.array([[0.34, -1.4, 0.1, 0.6, 20.0, 70.0], [-2.1, 0.4, 0.7, 0.2, -0.5, 0.9]]), 4, 2),
    (np.array([[1.0, -0.3, 6.0, 3.5], [0.1, 0.7, -0.6, 0.45]], dtype=np.float32), 3, 2),
    (np.array([[0.0, 0.0, 0.7, -0.2], [1.4, 0.34, 0.0, 0.0]]), 4, 2),
    (np.zeros((2, 6)), 8, 3),
)


def cases(rng):
    for num_bits, group_size in ((2, 4), (4, 2), (4, 3), (8, 4), (6, 5), (3, 8)):
        out_features, num_groups = rng.integers(2, 7, size=2)
        sizes = rng.uniform(0.01, 50, size=(out_features, num_groups)).repeat(group_size, axis=1)
        yield rng.normal(size=sizes.shape) * sizes, num_bits, group_size
    yield rng.normal(size=(6, 6)).astype(np.float32), 5, 3
    yield -rng.uniform(0.1, 1, size=(4, 8)), 4, 2
    for num_bits in (4, 8):
        with_zeros = rng.normal(size=(3, 6))
        with_zeros[rng.integers(3), :2] = 0
        yield with_zeros, num_bits, 2


def _qmax(num_bits):
    return 2 ** (num_bits - 1) - 1


def _groups(weight, group_size):
    return weight.reshape(len(weight), -1, group_size)


def _right(weight, num_bits, group_size):
    return np.abs(_groups(weight, group_size)).max(axis=2) / _qmax(num_bits)


def _repeated(scales, weight, group_size):
    return np.repeat(scales, group_size, axis=1)


def _tiled(scales, weight, group_size):
    return np.tile(scales, (1, weight.shape[1] // scales.shape[1]))


def _as_they_are(codes_or_scales, group_size):
    return codes_or_scales


def _with_scales(
    scales_of,
    spread=_repeated,
    *,
    round_=np.round,
    dtype=np.int8,
    codes_returned=_as_they_are,
    scales_returned=_as_they_are,
):
    """The reference with one part replaced, with and without a guard for zeros: two spellings of one mistake.

    `spread` repeats the scales of `scales_of` so that they broadcast against the weight.
    """

    def result(weight, group_size, scales):
        codes = round_(weight / spread(scales, weight, group_size)).astype(dtype)
        return codes_returned(codes, group_size), scales_returned(scales, group_size)

    def unguarded(weight, num_bits, group_size):
        return result(weight, group_size, scales_of(weight, num_bits, group_size))

    def guarded(weight, num_bits, group_size):
        scales = scales_of(weight, num_bits, group_size)
        return result(weight, group_size, np.where(scales == 0, 1, scales))

    return guarded, unguarded


def _divided_without_an_axis(weight, num_bits, group_size):
    scales = _right(weight, num_bits, group_size)
    return np.round(weight / scales).astype(np.int8), scales


def _groups_divided_without_an_axis(weight, num_bits, group_size):
    groups, scales = _groups(weight, group_size), _right(weight, num_bits, group_size)
    return np.round(groups / scales).astype(np.int8).reshape(weight.shape), scales


def _next_slice_one_further(weight, num_bits, group_size):
    starts = range(weight.shape[1] // group_size)
    return np.stack([np.abs(weight[:, j : j + group_size]).max(axis=1) for j in starts], axis=1) / _qmax(num_bits)


def _overlapping_slices(weight, num_bits, group_size):
    scales = _next_slice_one_further(weight, num_bits, group_size)
    scales[scales == 0] = 1
    codes = np.zeros(weight.shape, np.int8)
    for j in range(scales.shape[1]):
        part = slice(j, j + group_size)
        codes[:, part] = np.round(weight[:, part] / scales[:, j : j + 1])
    return codes, scales


def _every_nth(weight, num_bits, group_size):
    in_strides = weight.reshape(len(weight), group_size, -1)
    return np.abs(in_strides).max(axis=1) / _qmax(num_bits)


def _every_nth_of_all(weight, num_bits, group_size):
    in_strides = weight.reshape(group_size, -1)
    scales = np.abs(in_strides).max(axis=0) / _qmax(num_bits)
    scales[scales == 0] = 1
    codes = np.round(in_strides / scales).astype(np.int8)
    return codes.reshape(weight.shape), scales.reshape(len(weight), -1)


def _position_in_group(weight, num_bits, group_size):
    return np.abs(_groups(weight, group_size)).max(axis=1) / _qmax(num_bits)


def _so_many_groups(weight, num_bits, group_size):
    return np.abs(weight.reshape(len(weight), group_size, -1)).max(axis=2) / _qmax(num_bits)


def _spread_over_so_many_groups(scales, weight, group_size):
    return np.repeat(scales, weight.shape[1] // group_size, axis=1)


def _down_the_columns(weight, num_bits, group_size):
    blocks = weight.reshape(len(weight) // group_size, group_size, weight.shape[1])
    return np.abs(blocks).max(axis=1) / _qmax(num_bits)


def _spread_down_the_columns(scales, weight, group_size):
    return np.repeat(scales, group_size, axis=0)


def _transposed(weight, num_bits, group_size):
    codes, scales = per_group(weight.T, num_bits, group_size)
    return codes.T, scales.T


def _per_row(weight, num_bits, group_size):
    return np.abs(weight).max(axis=1, keepdims=True) / _qmax(num_bits)


def _per_row_repeated(weight, num_bits, group_size):
    return np.repeat(_per_row(weight, num_bits, group_size), weight.shape[1] // group_size, axis=1)


def _whole(weight, num_bits, group_size):
    return np.full((len(weight), weight.shape[1] // group_size), np.abs(weight).max() / _qmax(num_bits))


def _first_column_only(scales, weight, group_size):
    return scales[:, :1]


def _dequantized(weight, num_bits, group_size):
    codes, scales = per_group(weight, num_bits, group_size)
    return codes * np.repeat(scales, group_size, axis=1), scales


def _tiny_scale(tiny):
    """The usual ways to avoid a division by 0, which leave an all-zero group with a tiny scale."""

    def added(weight, num_bits, group_size):
        scales = _right(weight, num_bits, group_size) + tiny
        return np.round(weight / _repeated(scales, weight, group_size)).astype(np.int8), scales

    def at_least(weight, num_bits, group_size):
        scales = np.maximum(_right(weight, num_bits, group_size), tiny)
        return np.round(weight / _repeated(scales, weight, group_size)).astype(np.int8), scales

    return added, at_least


EXERCISE = Exercise(
    reference=per_group,
    outputs=("codes", "scales"),
    checked="2 to 8 bits, int8 codes, groups of 2 to 8, as many as fit in a row, groups of zeros, float32 and float64",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "A group is a short row. If each group were a row of its own, this would be `per_channel`: that is what "
        "`reshape` is for.",
        "`groups = weight.reshape(out, in // group_size, group_size)`: its last axis runs through a group, so the "
        "scales are `np.abs(groups).max(axis=2) / qmax`, of shape (out, in / group_size). 1.0 where that gives 0.",
        "`groups / scales[:, :, None]` divides each group by its scale. Round, `.astype(np.int8)`, and bring the "
        "codes back to the shape of the weight: `.reshape(weight.shape)`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "scales tiled instead of repeated",
            _with_scales(_right, _tiled),
            "The scales are right, but each must stay with its own group: `np.tile` gives s0 s1 s0 s1, neighbours "
            "need s0 s0 s1 s1. That is `np.repeat(scales, group_size, axis=1)`.",
        ),
        WrongAnswer(
            "scales of shape (out, groups) divide the weights",
            (_divided_without_an_axis, _groups_divided_without_an_axis),
            "The scales are right, one for each group, but to divide they need the shape of what they divide. Give "
            "them an axis, `groups / scales[:, :, None]`, or repeat them, "
            "`weight / np.repeat(scales, group_size, axis=1)`.",
        ),
        WrongAnswer(
            "slices one weight apart",
            (_overlapping_slices, *_with_scales(_next_slice_one_further)),
            "Your slices start one weight apart, so they overlap. Group j starts at `j * group_size`: the slice is "
            "`j * group_size : (j + 1) * group_size`.",
        ),
        WrongAnswer(
            "every n-th weight in a group instead of neighbours",
            (*_with_scales(_every_nth, _tiled), *_with_scales(_every_nth), _every_nth_of_all),
            "Your groups take every n-th weight, because `group_size` is not the last axis of your reshape. Neighbours "
            "stay together on the last axis: `reshape(out, in // group_size, group_size)`, then `max(axis=2)`.",
        ),
        WrongAnswer(
            "maximum over the groups instead of within a group",
            (*_with_scales(_position_in_group, _tiled),),
            "You take the maximum over the groups, so there is one scale for each place in a group. Within a "
            "group it runs over the last axis: `max(axis=2)` of `reshape(out, in // group_size, group_size)`.",
        ),
        WrongAnswer(
            "group_size taken for the number of groups",
            _with_scales(_so_many_groups, _spread_over_so_many_groups),
            "You made `group_size` groups in each row. It is the number of weights in a group: a row has "
            "`in // group_size` groups.",
        ),
        WrongAnswer(
            "groups down the columns",
            (*_with_scales(_down_the_columns, _spread_down_the_columns), _transposed),
            "Your groups run down a column, over several outputs. They should lie within a row, along the inputs: "
            "the last axis of (out, in).",
        ),
        WrongAnswer(
            "one scale for each row",
            (
                *_with_scales(_per_row, lambda s, w, g: s),
                *_with_scales(_per_row, lambda s, w, g: s, scales_returned=lambda s, g: np.ravel(s)),
                *_with_scales(_per_row_repeated, _first_column_only),
            ),
            "That is still one scale for each row. Cut each row into groups first: "
            "`weight.reshape(out, in // group_size, group_size)`.",
        ),
        WrongAnswer(
            "one scale for the whole matrix",
            (
                *_with_scales(_whole, _first_column_only),
                *_with_scales(_whole, _first_column_only, scales_returned=lambda s, g: s[0, 0]),
            ),
            "That is one scale for the whole matrix. The maximum must be taken within each group: `max(axis=2)`.",
        ),
        WrongAnswer(
            "one scale for each weight",
            _with_scales(_right, scales_returned=lambda s, g: np.repeat(s, g, axis=1)),
            "You return one scale for each weight, which would cost more than the weights. Return one for each "
            "group, shape (out, in / group_size), and repeat it only to divide.",
        ),
        WrongAnswer(
            "scales in another shape",
            (
                *_with_scales(_right, scales_returned=lambda s, g: s[:, :, None]),
                *_with_scales(_right, scales_returned=lambda s, g: s.ravel()),
                *_with_scales(_right, scales_returned=lambda s, g: s.reshape(-1, 1)),
            ),
            "Your numbers are right, but the scales should have shape (out, in / group_size): reshape them before "
            "you return them.",
        ),
        WrongAnswer(
            "codes left in groups",
            (
                *_with_scales(_right, codes_returned=_groups),
                *_with_scales(_right, codes_returned=lambda c, g: c.reshape(-1, g)),
            ),
            "Your numbers are right, but the codes are still cut into groups: finish with `.reshape(weight.shape)`.",
        ),
        WrongAnswer(
            "127 at every width",
            _with_scales(lambda w, b, g: _right(w, 8, g)),
            "Your scales spread each group over 127 codes whatever `num_bits` is: use `qmax = 2**(num_bits - 1) - 1`.",
        ),
        WrongAnswer(
            "2**(b-1) or 2**b - 1 instead of 2**(b-1) - 1",
            (
                *_with_scales(lambda w, b, g: _right(w, b, g) * _qmax(b) / 2 ** (b - 1)),
                *_with_scales(lambda w, b, g: _right(w, b, g) * _qmax(b) / (2**b - 1)),
            ),
            "The largest magnitude of a group must land on the last code, `qmax = 2**(num_bits - 1) - 1`: 7 at 4 bits.",
        ),
        WrongAnswer(
            "forgot abs",
            (
                *_with_scales(lambda w, b, g: _groups(w, g).max(axis=2) / _qmax(b)),
                *_with_scales(lambda w, b, g: np.abs(_groups(w, g).max(axis=2)) / _qmax(b)),
            ),
            "`groups.max(axis=2)` misses a large negative value. Take the magnitudes first: `np.abs(groups)`.",
        ),
        WrongAnswer(
            "truncated instead of rounded",
            (*_with_scales(_right, round_=np.trunc), *_with_scales(_right, round_=np.floor)),
            "`astype` and `//` cut the fraction off, so errors reach a whole step. Round to the nearest code first.",
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
            "no scale of 1 for a group of zeros",
            (_with_scales(_right)[1], *_tiny_scale(1e-8), *_tiny_scale(1e-12)),
            "A group of zeros should have scale 1. Its largest magnitude is 0, and dividing by 0 gives NaN; a tiny "
            "scale is no better, because 0 needs no scale at all: `scales[scales == 0] = 1.0`.",
        ),
    ),
)

"""Exercise: an int8 matrix-vector product as plain loops, to be compiled (notebook 10)."""

import numpy as np

from .base import Exercise, WrongAnswer


def int8_kernel(codes, scale, x_codes, x_scale):
    """Return y (out,): the exact integer sum of each row, scaled once."""
    rows, columns = codes.shape
    y = np.empty(rows, np.float32)
    for r in range(rows):
        total = np.int32(0)
        for i in range(columns):
            # The outer int32 is for numba: it would go on in 64 bits, of which a register holds half as many.
            total = np.int32(total + np.int32(codes[r, i]) * np.int32(x_codes[i]))
        y[r] = total * scale[r] * x_scale
    return y


def _codes(values):
    return np.array(values, dtype=np.int8)


def _scales(values):
    return np.array(values, dtype=np.float32)


def _long_sum(rng):
    """A sum whose terms are all positive at first, then the same ones negative, then 1 * 1: it is 1.

    On the way it passes 2**24, where float32 begins to lose the last digit. So many terms, because float32 code may
    keep dozens of partial sums side by side and add them up at the end: each has to pass 2**24.
    """
    half = 60_000
    x, row = rng.integers(120, 128, size=(2, half))
    order = rng.permutation(half)
    x, row = [*x, *x[order], 1], [*row, *-row[order], 1]
    return _codes([row]), _scales([0.3]), _codes(x), np.float32(0.7)


EXAMPLES = (
    (_codes([[3, 1], [1, -4], [0, 2]]), _scales([0.5, 2.0, 1.0]), _codes([2, 1]), np.float32(0.25)),
    (_codes([[100, 90], [1, -2]]), _scales([0.25, 0.5]), _codes([100, 100]), np.float32(0.5)),
    (_codes([[127] * 4, [-127] * 4]), _scales([0.1, 0.2]), _codes([127] * 4), np.float32(2.0)),
    (_codes([[5]]), _scales([3.0]), _codes([-7]), np.float32(0.1)),
    _long_sum(np.random.default_rng(0)),
)


def cases(rng):
    for rows, columns in ((4, 4), (1, 9), (6, 1), (3, 5), (5, 40), (2, 300)):
        codes = rng.integers(-127, 128, size=(rows, columns), dtype=np.int8)
        x_codes = rng.integers(-127, 128, size=columns, dtype=np.int8)
        yield codes, _scales(rng.uniform(0.001, 0.1, size=rows)), x_codes, np.float32(rng.uniform(0.001, 0.1))
    yield _codes([[0, 0, 0], [1, 2, 3]]), _scales([1.0, 0.5]), _codes([0, -1, 1]), np.float32(0.5)


# The mistakes are written without loops, so that a check takes no time; what they compute is what loops would.


def _scaled(rescale, dtype=np.float32):
    """The right sums, but another rescaling. rescale(sums, scale, x_scale)."""

    def function(codes, scale, x_codes, x_scale):
        return rescale(codes.astype(np.int64) @ x_codes.astype(np.int64), scale, x_scale).astype(dtype)

    return function


def _summed(sums):
    """The right rescaling, but other sums. sums(codes, x_codes)."""

    def function(codes, scale, x_codes, x_scale):
        return sums(codes, x_codes) * scale * x_scale

    return function


def _one_after_the_other(codes, x_codes):
    return np.cumsum(codes.astype(np.float32) * x_codes.astype(np.float32), axis=1, dtype=np.float32)[:, -1]


def _scaled_term_by_term(codes, scale, x_codes, x_scale):
    terms = codes * scale[:, None] * x_codes * x_scale
    return np.cumsum(terms, axis=1, dtype=np.float32)[:, -1]


def _dequantized(codes, scale, x_codes, x_scale):
    return (codes.astype(np.float32) * scale[:, None]) @ (x_codes.astype(np.float32) * x_scale)


def _scale_of_the_column(codes, scale, x_codes, x_scale):
    y = np.zeros(len(codes))
    for r in range(len(codes)):
        for i in range(len(x_codes)):
            y[r] += int(codes[r, i]) * int(x_codes[i]) * scale[i] * x_scale
    return y


def _first_row_only(codes, scale, x_codes, x_scale):
    y = np.zeros(len(codes), np.float32)
    y[0] = (codes[0].astype(np.int64) @ x_codes.astype(np.int64)) * scale[0] * x_scale
    return y


def _as_many_columns_as_rows(codes, scale, x_codes, x_scale):
    y = np.zeros(len(codes))
    for r in range(len(codes)):
        total = 0
        for i in range(len(codes)):
            total += int(codes[r, i]) * int(x_codes[i])
        y[r] = total * scale[r] * x_scale
    return y


EXERCISE = Exercise(
    reference=int8_kernel,
    outputs=("y",),
    checked="sums beyond int8, int16 and the whole numbers of float32, one and many rows and columns, all-zero rows",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Two loops: over the rows, and within each over the columns. The inner one adds up integers and nothing else.",
        "Make both codes wide *before* you multiply: `np.int32(codes[r, i]) * np.int32(x_codes[i])`. Start each row's "
        "`total` at 0.",
        "After the inner loop: `y[r] = total * scale[r] * x_scale`, into a `y = np.zeros(rows, np.float32)`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "computed in int8",
            (
                _summed(lambda codes, x: (codes * x).sum(axis=1, dtype=np.int32)),
                _summed(lambda codes, x: codes @ x),
            ),
            "Your products or your sums are int8, and wrap around beyond 127. Start `total` at `np.int32(0)`, and make "
            "both codes int32 *before* you multiply: `np.int32(codes[r, i]) * np.int32(x_codes[i])`.",
        ),
        WrongAnswer(
            "summed in int16",
            (_summed(lambda codes, x: codes.astype(np.int16) @ x.astype(np.int16)),),
            "int16 ends at 32,767, and three products of 127 * 127 are beyond it: your sums wrap around. Sum in int32.",
        ),
        WrongAnswer(
            "summed in float32",
            (
                _summed(_one_after_the_other),
                _summed(lambda codes, x: codes.astype(np.float32) @ x.astype(np.float32)),
            ),
            "float32 holds every whole number only to 16,777,216: beyond it a long sum loses its last digits. Sum in "
            "int32, which is exact.",
        ),
        WrongAnswer(
            "scaled each term",
            (_scaled_term_by_term, _dequantized),
            "You scale within the sum: two more multiplications for each weight, and sums of floats, which round. "
            "Sum the integers, and scale each sum once.",
        ),
        WrongAnswer(
            "the scale of the column",
            (_scale_of_the_column,),
            "`scale` has a number for each *row*: it is `scale[r]`, and its place is outside the inner loop.",
        ),
        WrongAnswer(
            "one scale for all rows",
            (_scaled(lambda sums, s, xs: sums * s[0] * xs),),
            "Each row has its own scale: `scale[r]`.",
        ),
        WrongAnswer(
            "every sum with every scale",
            (_scaled(lambda sums, s, xs: np.outer(sums, s) * xs),),
            "You multiply each sum by all scales. Row r has one: `scale[r]`, a number.",
        ),
        WrongAnswer(
            "forgot x_scale",
            (_scaled(lambda sums, s, xs: sums * s),),
            "Your sums still count in steps of the activations: multiply by `x_scale` too.",
        ),
        WrongAnswer(
            "forgot the scale of the row",
            (_scaled(lambda sums, s, xs: sums * xs),),
            "Your sums still count in steps of the weights: multiply by `scale[r]` too.",
        ),
        WrongAnswer(
            "returned the integer sums",
            (_scaled(lambda sums, s, xs: sums), _scaled(lambda sums, s, xs: sums, dtype=np.int32)),
            "These are the integer sums. Each stands for `total * scale[r] * x_scale`: bring both scales back in.",
        ),
        WrongAnswer(
            "divided by the scales",
            (_scaled(lambda sums, s, xs: sums / s / xs), _scaled(lambda sums, s, xs: sums / (s * xs))),
            "Dividing by a scale makes codes; here you go back: `real = scale * code`, so multiply.",
        ),
        WrongAnswer(
            "an integer result",
            tuple(_scaled(lambda sums, s, xs: sums * s * xs, dtype) for dtype in (np.int32, np.int64, np.int8)),
            "Your `y` is an array of integers, and cuts the fractions of what you put in. Make it "
            "`np.zeros(rows, np.float32)`.",
        ),
        WrongAnswer(
            "the total not reset",
            (_scaled(lambda sums, s, xs: np.cumsum(sums) * s * xs),),
            "Each row goes on with the sum of the rows before it. Start its `total` at 0 *inside* the outer loop.",
        ),
        WrongAnswer(
            "the last term only",
            (_summed(lambda codes, x: codes[:, -1].astype(np.int64) * int(x[-1])),),
            "Each term takes the place of the one before it, so that the last is left. Add: `total = total + ...`.",
        ),
        WrongAnswer(
            "the first row only",
            (_first_row_only,),
            "Only the first row is filled. Is `return` inside the loop?",
        ),
        WrongAnswer(
            "the last column left out",
            (_summed(lambda codes, x: codes[:, :-1].astype(np.int64) @ x[:-1].astype(np.int64)),),
            "The last column is missing: `range(columns)` already ends before `columns`.",
        ),
        WrongAnswer(
            "as many columns as rows",
            (_as_many_columns_as_rows,),
            "Your inner loop runs over as many columns as there are rows. `codes.shape` is (rows, columns).",
        ),
    ),
)

"""Exercise: one step of GPTQ, round a column and let the columns still to come make up for it (notebook 08)."""

import numpy as np

from .base import Exercise, WrongAnswer


def gptq_column(columns, row, scale, zero_point, qmax):
    """Return the codes of the first column, and the columns after it, moved to make up for its error."""
    first = columns[:, 0]
    codes = np.clip(np.rint(first / scale) + zero_point, 0, qmax)
    error = (first - scale * (codes - zero_point)) / row[0]  # (out,)
    return codes.astype(np.uint8), columns[:, 1:] - np.outer(error, row[1:])


def _case(columns, row, scale, zero_point, qmax):
    of_type = np.array(scale, np.float32), np.array(zero_point, np.int32)
    return np.array(columns, np.float32), np.array(row, np.float64), *of_type, qmax


EXAMPLES = (
    _case([[1.4, 2.4, -0.5], [2.7, 0.3, 1.0]], [2.0, -1.0, 0.5], [1.0, 0.5], [3, 1], 7),
    _case([[0.3, 1.0]], [0.5, -0.25], [1.0], [0], 15),
    _case([[9.0, 1.0, 0.0], [-2.6, 0.5, 0.2]], [2.0, -1.0, 0.0], [0.5, 0.5], [2, 1], 7),  # clipped at both ends
    _case([[0.8], [-0.4]], [0.7], [0.5, 0.25], [4, 4], 7),  # no column is left
    _case([[0.0, 0.4], [0.6, -0.3]], [1.5, -0.5], [0.5, 0.5], [1, 2], 3),
)


def cases(rng):
    for num_rows, num_columns, num_bits in ((1, 5, 4), (4, 4, 3), (6, 9, 2), (3, 2, 8), (9, 3, 4)):
        yield _random(rng, num_rows, num_columns, num_bits)
    columns, row, *grid = _random(rng, 5, 4, 4)
    row[1:] = 0  # inputs that have nothing to do with each other: no column can make up for another
    yield columns, row, *grid


def _random(rng, num_rows, num_columns, num_bits):
    """A column of weights at most 0.4 of a step from a level, or beyond the last; as rows of inverse factors are."""
    qmax = 2**num_bits - 1
    scale = rng.uniform(0.05, 2.0, num_rows)
    zero_point = rng.integers(0, qmax + 1, num_rows)
    columns = scale[:, None] * rng.normal(scale=qmax / 3, size=(num_rows, num_columns))
    steps = rng.integers(-2, qmax + 3, num_rows) - zero_point + rng.uniform(-0.4, 0.4, num_rows)
    columns[:, 0] = scale * steps
    row = np.append(rng.uniform(0.3, 3.0), rng.normal(scale=0.6, size=num_columns - 1))
    return _case(columns, row, scale, zero_point, qmax)


def _step(
    *,
    round_=np.rint,
    codes_of=lambda steps, zero_point, qmax: np.clip(steps + zero_point, 0, qmax),
    restored_of=lambda codes, scale, zero_point: scale * (codes - zero_point),
    error_of=lambda error, scale, row: error / row[0],
    moved=lambda columns, error, row: columns[:, 1:] - np.outer(error, row[1:]),
    returned=lambda codes, restored: codes.astype(np.uint8),
):
    """The reference with one line written in another way."""

    def function(columns, row, scale, zero_point, qmax):
        first = columns[:, 0]
        codes = codes_of(round_(first / scale), zero_point, qmax)
        restored = restored_of(codes, scale, zero_point)
        error = error_of(first - restored, scale, row)
        return returned(codes, restored), moved(columns, error, row)

    return function


def _error_before_clipping(columns, row, scale, zero_point, qmax):
    steps = columns[:, 0] / scale
    codes = np.clip(np.rint(steps) + zero_point, 0, qmax).astype(np.uint8)
    error = scale * (steps - np.rint(steps)) / row[0]
    return codes, columns[:, 1:] - np.outer(error, row[1:])


def _zero_point_before_rounding(columns, row, scale, zero_point, qmax):
    """Adds the zero point to the weight, not to its steps."""
    codes = np.clip(np.rint((columns[:, 0] + zero_point) / scale), 0, qmax)
    error = (columns[:, 0] - scale * (codes - zero_point)) / row[0]
    return codes.astype(np.uint8), columns[:, 1:] - np.outer(error, row[1:])


def _only_codes(columns, row, scale, zero_point, qmax):
    return gptq_column(columns, row, scale, zero_point, qmax)[0]


def _both_unsigned(function):
    """A mistake in the codes in two spellings: left to wrap around in uint8, and as wider whole numbers."""
    return (
        _step(codes_of=function),
        _step(codes_of=function, returned=lambda codes, restored: codes.astype(np.int64)),
        _step(codes_of=function, returned=lambda codes, restored: codes),
    )


EXERCISE = Exercise(
    reference=gptq_column,
    outputs=("codes", "rest"),
    checked="one row and many, 2 to 8 bits, weights beyond the last code, inputs that have nothing in common, the last "
    "column",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Three steps: the codes of `columns[:, 0]`, as in notebook 1 with a zero point; what is left of it, real value "
        "minus what the codes stand for, over `row[0]`; and the move of all other columns.",
        "`error = (columns[:, 0] - scale * (codes - zero_point)) / row[0]` holds a number for each row of the matrix. "
        "Column k moves by `-error * row[k]`.",
        "All moves at once are an outer product, (out, n - 1): `columns[:, 1:] - np.outer(error, row[1:])`. The codes: "
        "`np.clip(np.rint(columns[:, 0] / scale) + zero_point, 0, qmax).astype(np.uint8)`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "nothing is moved",
            (
                _step(moved=lambda columns, error, row: columns[:, 1:]),
                _step(moved=lambda columns, error, row: columns[:, 1:].copy()),
            ),
            "The codes are right, but the other columns stay where they were: that is rounding to nearest. Column k "
            "moves by `-error * row[k]`.",
        ),
        WrongAnswer(
            "not divided by row[0]",
            (_step(error_of=lambda error, scale, row: error),),
            "The move has the right direction but not the right length. What is left of the column is divided by "
            "`row[0]` before it is spread over the others.",
        ),
        WrongAnswer(
            "multiplied by row[0], or divided twice",
            (
                _step(error_of=lambda error, scale, row: error * row[0]),
                _step(error_of=lambda error, scale, row: error / row[0] ** 2),
                _step(error_of=lambda error, scale, row: error / np.sqrt(row[0])),
                _step(error_of=lambda error, scale, row: error * row[0] ** 2),
            ),
            "The length of the move depends on `row[0]` in the wrong way: divide by it, just once. (Papers also divide "
            "by a diagonal element of the inverse itself, which is its square.)",
        ),
        WrongAnswer(
            "divided by the length or the sum of the row",
            (
                _step(error_of=lambda error, scale, row: error / np.linalg.norm(row)),
                _step(error_of=lambda error, scale, row: error / row.sum()),
            ),
            "You divide by something of the whole row. Only its first entry, `row[0]`, belongs to the column that is "
            "rounded.",
        ),
        WrongAnswer(
            "moved the wrong way",
            (
                _step(moved=lambda columns, error, row: columns[:, 1:] + np.outer(error, row[1:])),
                _step(error_of=lambda error, scale, row: -error / row[0]),
            ),
            "The columns move the wrong way, so that errors add up in place of cancelling. The error is real value "
            "minus restored value, and its share is *subtracted*.",
        ),
        WrongAnswer(
            "error counted in steps",
            (
                _step(error_of=lambda error, scale, row: error / scale / row[0]),
                _step(error_of=lambda error, scale, row: error / scale),
            ),
            "Your error counts in steps of the codes. It must be in the units of the weights: "
            "`columns[:, 0] - scale * (codes - zero_point)`.",
        ),
        WrongAnswer(
            "error left out what was clipped",
            (_error_before_clipping,),
            "Right, except where a weight is beyond the last code. The others must make up for what clipping took, "
            "too: take the error from the clipped codes.",
        ),
        WrongAnswer(
            "no zero point in the restored value",
            (
                _step(restored_of=lambda codes, scale, zero_point: scale * codes),
                _step(restored_of=lambda codes, scale, zero_point: scale * codes - zero_point),
                _step(restored_of=lambda codes, scale, zero_point: scale * (codes + zero_point)),
            ),
            "The codes are right, but they stand for other values: `scale * (codes - zero_point)`.",
        ),
        WrongAnswer(
            "the codes taken for the restored values",
            (_step(restored_of=lambda codes, scale, zero_point: codes),),
            "You subtract the codes from the weights. Subtract what they stand for: `scale * (codes - zero_point)`.",
        ),
        WrongAnswer(
            "no zero point in the codes",
            (
                *_both_unsigned(lambda steps, zero_point, qmax: np.clip(steps, 0, qmax)),
                _zero_point_before_rounding,
            ),
            "Your codes lack the zero point. It is added after rounding, in steps: "
            "`np.rint(columns[:, 0] / scale) + zero_point`.",
        ),
        WrongAnswer(
            "clipped before the zero point was added",
            (
                *_both_unsigned(lambda steps, zero_point, qmax: np.clip(steps, 0, qmax) + zero_point),
                *_both_unsigned(lambda steps, zero_point, qmax: np.clip(steps, -qmax, qmax) + zero_point),
            ),
            "You clip before the zero point is added. First the sum, then `np.clip(..., 0, qmax)`.",
        ),
        WrongAnswer(
            "not clipped",
            _both_unsigned(lambda steps, zero_point, qmax: steps + zero_point),
            "Weights beyond the last level get codes that there are not: `np.clip(..., 0, qmax)`.",
        ),
        WrongAnswer(
            "clipped to another range",
            (
                *_both_unsigned(lambda steps, zero_point, qmax: np.clip(steps + zero_point, 0, qmax + 1)),
                *_both_unsigned(lambda steps, zero_point, qmax: np.clip(steps + zero_point, 0, qmax - 1)),
                *_both_unsigned(lambda steps, zero_point, qmax: np.clip(steps + zero_point, -qmax, qmax)),
            ),
            "The codes end in the wrong place: they run from 0 to `qmax`, both included.",
        ),
        WrongAnswer(
            "truncated instead of rounded",
            (_step(round_=np.trunc), _step(round_=np.floor), _step(round_=np.ceil)),
            "The codes are cut off, not rounded: `np.rint` before the zero point is added.",
        ),
        WrongAnswer(
            "the row read one place off",
            (
                _step(moved=lambda columns, error, row: columns[:, 1:] - np.outer(error, row[:-1])),
                _step(moved=lambda columns, error, row: columns[:, 1:] - np.outer(error, row[:0:-1])),
            ),
            "The columns move by the shares of others. Column k belongs to `row[k]`: `columns[:, 1:]` to `row[1:]`.",
        ),
        WrongAnswer(
            "the first column returned, too",
            (
                _step(moved=lambda columns, error, row: columns - np.outer(error, row)),
                _step(
                    moved=lambda columns, error, row: np.hstack(
                        [columns[:, :1], columns[:, 1:] - np.outer(error, row[1:])]
                    )
                ),
            ),
            "Your `rest` holds the first column, too, which is done. Return the others: `columns[:, 1:]`, moved.",
        ),
        WrongAnswer(
            "only the next column moved",
            (
                _step(
                    moved=lambda columns, error, row: np.hstack(
                        [columns[:, 1:2] - np.outer(error, row[1:2]), columns[:, 2:]]
                    )
                ),
            ),
            "You move only the next column. All that are left take their share: `row[1:]`, all of it.",
        ),
        WrongAnswer(
            "returned the moves alone",
            (_step(moved=lambda columns, error, row: -np.outer(error, row[1:])),),
            "These are the moves. Return where the columns end up: `columns[:, 1:] - np.outer(error, row[1:])`.",
        ),
        WrongAnswer(
            "turned outer product",
            (
                _step(moved=lambda columns, error, row: columns[:, 1:] - np.outer(row[1:], error)),
                _step(moved=lambda columns, error, row: columns[:, 1:] - error * row[1:]),
                _step(moved=lambda columns, error, row: columns[:, 1:] - error @ row[1:]),
            ),
            "Each row of the matrix has its own error, and each column its own share: `np.outer(error, row[1:])`, with "
            "the errors first.",
        ),
        WrongAnswer(
            "one error for all rows",
            (
                _step(error_of=lambda error, scale, row: np.full(len(error), error.mean()) / row[0]),
                _step(error_of=lambda error, scale, row: np.full(len(error), error.sum()) / row[0]),
            ),
            "You use one error for the whole matrix. Each row makes up for its own: `np.outer(error, row[1:])`.",
        ),
        WrongAnswer(
            "codes of another dtype",
            tuple(
                _step(returned=lambda codes, restored, dtype=dtype: codes.astype(dtype))
                for dtype in (np.int64, np.int32, np.float32, np.float64)
            ),
            "The numbers are right, but codes are stored in 1 byte each: finish with `.astype(np.uint8)`.",
        ),
        WrongAnswer(
            "returned the restored values in place of the codes",
            (_step(returned=lambda codes, restored: restored),),
            "You return what the codes stand for. Return the codes themselves.",
        ),
        WrongAnswer(
            "returned the codes alone",
            (_only_codes,),
            "That is only half: return two values, the codes and the columns that are left, moved.",
        ),
    ),
)

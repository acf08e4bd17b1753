"""Exercise: repair a GPTQ whose errors are never made up for (notebook 08)."""

import numpy as np

from .base import Exercise, WrongAnswer


def gptq_in_order(weight, factor, order, scale, zero_point, qmax):
    """Return the codes of GPTQ, which rounds the columns of weight in the given order."""
    W = weight.copy()
    codes = np.empty(weight.shape, np.uint8)
    for i, j in enumerate(order):
        codes[:, j] = np.clip(np.rint(W[:, j] / scale) + zero_point, 0, qmax)
        error = (W[:, j] - scale * (codes[:, j] - zero_point)) / factor[i, i]
        W[:, order[i + 1 :]] -= np.outer(error, factor[i, i + 1 :])  # not into a copy
    return codes


def _case(weight, inputs, order, num_bits):
    """A layer with a scale for each row, and the factor of its inputs in that order."""
    weight, order, qmax = np.array(weight, np.float32), np.array(order), 2**num_bits - 1
    low, high = np.minimum(weight.min(axis=1), 0), np.maximum(weight.max(axis=1), 0)
    scale = np.where(high > low, (high - low) / qmax, 1).astype(np.float32)
    inputs = np.asarray(inputs, np.float64)[:, order]
    hessian = 2 * inputs.T @ inputs
    hessian += 0.01 * np.diag(hessian).mean() * np.eye(len(order))
    factor = np.linalg.cholesky(np.linalg.inv(hessian)).T
    return weight, factor, order, scale, np.rint(-low / scale).astype(np.int32), qmax


def _is_clear(case):
    """Whether no weight comes near a tie on its way, where float32 and float64 may part."""
    weight, factor, order, scale, zero_point, qmax = case
    W = weight.astype(np.float64)
    for i, j in enumerate(order):
        steps = W[:, j] / scale
        if np.abs(steps - np.floor(steps) - 0.5).min() < 2e-3:
            return False
        restored = scale * (np.clip(np.rint(steps) + zero_point, 0, qmax) - zero_point)
        W[:, order[i + 1 :]] -= np.outer((W[:, j] - restored) / factor[i, i], factor[i, i + 1 :])
    return True


_TOGETHER = [[1.0, 1.0, 0.9], [-1.0, -0.9, -1.0], [0.5, 0.6, 0.5], [0.2, 0.2, 0.4]]  # inputs that go together

EXAMPLES = (
    _case([[0.4, 1.4, 3.0]], _TOGETHER, [0, 1, 2], 2),
    _case([[0.4, 1.4, 3.0], [-0.6, 1.6, 2.4]], _TOGETHER, [2, 0, 1], 2),
    _case([[0.7, -0.2, 0.1], [0.0, 0.0, 0.0]], _TOGETHER, [1, 2, 0], 3),  # a row of zeros
    _case([[0.3], [-0.7]], [[1.0], [2.0]], [0], 4),  # one column
)


def cases(rng):
    for num_rows, num_columns, num_bits in ((1, 6, 3), (4, 7, 3), (5, 5, 2), (3, 10, 4)):
        while not _is_clear(case := _random(rng, num_rows, num_columns, num_bits)):
            pass
        yield case


def _random(rng, num_rows, num_columns, num_bits):
    common = rng.normal(size=(4 * num_columns, 1))
    inputs = (common + 0.5 * rng.normal(size=(4 * num_columns, num_columns))) * rng.uniform(0.3, 2, num_columns)
    return _case(rng.normal(size=(num_rows, num_columns)), inputs, rng.permutation(num_columns), num_bits)


def _gptq(
    *,
    looked_at=lambda weight, W: W,
    diagonal=lambda factor, i, j: factor[i, i],
    shares=lambda factor, order, i, j: factor[i, i + 1 :],
    still_to_come=lambda order, i, j: order[i + 1 :],
    sign=-1,
    codes_of=lambda steps, zero_point, qmax: np.clip(np.rint(steps) + zero_point, 0, qmax),
    restored_of=lambda codes, scale, zero_point: scale * (codes - zero_point),
    error_from=lambda weight, W: W,
    place=lambda i, j: j,
    in_turn=lambda order: order,
    dtype=np.uint8,
):
    """The reference with one line written in another way."""

    def function(weight, factor, order, scale, zero_point, qmax):
        W, codes = weight.copy(), np.empty(weight.shape, np.float64)
        for i, j in enumerate(in_turn(order)):
            found = codes_of(looked_at(weight, W)[:, j] / scale, zero_point, qmax)
            codes[:, place(i, j)] = found
            error = error_from(weight, W)[:, j] - restored_of(found, scale, zero_point)
            error = error / diagonal(factor, i, j)
            W[:, still_to_come(order, i, j)] += sign * np.outer(error, shares(factor, order, i, j))
        return codes.astype(dtype)

    return function


def _into_a_copy(weight, factor, order, scale, zero_point, qmax):
    W = weight.copy()
    codes = np.empty(weight.shape, np.uint8)
    for i, j in enumerate(order):
        codes[:, j] = np.clip(np.rint(W[:, j] / scale) + zero_point, 0, qmax)
        error = (W[:, j] - scale * (codes[:, j] - zero_point)) / factor[i, i]
        rest = W[:, order[i + 1 :]]
        rest -= np.outer(error, factor[i, i + 1 :])
    return codes


def _written_back_to_the_left(weight, factor, order, scale, zero_point, qmax):
    """Writes the moved columns back, but not to where they came from."""
    W = weight.copy()
    codes = np.empty(weight.shape, np.uint8)
    for i, j in enumerate(order):
        codes[:, j] = np.clip(np.rint(W[:, j] / scale) + zero_point, 0, qmax)
        error = (W[:, j] - scale * (codes[:, j] - zero_point)) / factor[i, i]
        W[:, i + 1 :] = W[:, order[i + 1 :]] - np.outer(error, factor[i, i + 1 :])
    return codes


def _restored(weight, factor, order, scale, zero_point, qmax):
    codes = gptq_in_order(weight, factor, order, scale, zero_point, qmax)
    return scale[:, None] * (codes - zero_point[:, None])


EXERCISE = Exercise(
    reference=gptq_in_order,
    outputs=("codes",),
    checked="1 to 10 columns in any order, 2 to 4 bits, a row of zeros, weights that are moved beyond the last code",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Print a weight of a column that is still to come, before and after the last line of the loop. Does it move?",
        "`W[:, 1:4]` is a view: what you do to it happens to `W`. `W[:, order[i + 1:]]`, with an array of indices, is "
        "a copy: what you do to `rest` happens to `rest` alone.",
        "Leave `rest` out and assign to the columns of `W` directly: "
        "`W[:, order[i + 1:]] -= np.outer(error, factor[i, i + 1:])`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "the bug is still there: no column moves",
            (
                _into_a_copy,
                _gptq(sign=0),
                _gptq(looked_at=lambda weight, W: weight),
                _gptq(looked_at=lambda weight, W: weight, error_from=lambda weight, W: weight),
            ),
            "These are the codes of rounding to nearest: no weight that you round was moved before. An index array "
            "makes a *copy*, so `rest -= ...` moves the copy: assign to `W[:, order[i + 1:]]`, and round from `W`.",
        ),
        WrongAnswer(
            "the diagonal looked up by column",
            (
                _gptq(diagonal=lambda factor, i, j: factor[j, j]),
                _gptq(
                    diagonal=lambda factor, i, j: factor[j, j], shares=lambda factor, order, i, j: factor[j, i + 1 :]
                ),
            ),
            "`factor` is in the order of rounding: its row i belongs to the i-th column that is rounded. So it is "
            "`factor[i, i]`, not `factor[j, j]`.",
        ),
        WrongAnswer(
            "the shares looked up by column",
            (
                _gptq(shares=lambda factor, order, i, j: factor[i, order[i + 1 :]]),
                _gptq(shares=lambda factor, order, i, j: factor[j, order[i + 1 :]]),
                _gptq(shares=lambda factor, order, i, j: factor[j, i + 1 :]),
                _gptq(
                    diagonal=lambda factor, i, j: factor[j, j],
                    shares=lambda factor, order, i, j: factor[j, order[i + 1 :]],
                ),
            ),
            "`factor` is in the order of rounding, both its rows and its columns: the shares of the columns still to "
            "come are `factor[i, i + 1:]`, without `order`.",
        ),
        WrongAnswer(
            "rounded from left to right",
            (
                _gptq(in_turn=lambda order: range(len(order)), still_to_come=lambda order, i, j: slice(i + 1, None)),
                _gptq(in_turn=np.sort, still_to_come=lambda order, i, j: np.sort(order)[i + 1 :]),
            ),
            "You go from left to right. The columns are to be rounded in the order of `order`, which is the one that "
            "`factor` was made for.",
        ),
        WrongAnswer(
            "the columns to the right moved, not those to come",
            (
                _written_back_to_the_left,
                _gptq(still_to_come=lambda order, i, j: slice(i + 1, None)),
                _gptq(still_to_come=lambda order, i, j: np.arange(i + 1, len(order))),
                _gptq(still_to_come=lambda order, i, j: slice(j + 1, None)),
            ),
            "You move the columns to the right of a place. Those that are still to come are `order[i + 1:]`, wherever "
            "they stand.",
        ),
        WrongAnswer(
            "codes in the order of rounding",
            (_gptq(place=lambda i, j: i),),
            "Your codes stand in the order in which the columns were rounded. Put those of column j into "
            "`codes[:, j]`.",
        ),
        WrongAnswer(
            "not divided by the diagonal",
            (_gptq(diagonal=lambda factor, i, j: 1.0),),
            "The columns move, but not by the right length: divide the error by `factor[i, i]`.",
        ),
        WrongAnswer(
            "divided by the square, or multiplied",
            (
                _gptq(diagonal=lambda factor, i, j: factor[i, i] ** 2),
                _gptq(diagonal=lambda factor, i, j: 1 / factor[i, i]),
            ),
            "The columns move, but the division by `factor[i, i]` is not right: divide by it, just once.",
        ),
        WrongAnswer(
            "moved the wrong way",
            (_gptq(sign=+1),),
            "The columns move the wrong way, so that errors add up: their share is *subtracted*.",
        ),
        WrongAnswer(
            "error taken from the original weight",
            (_gptq(error_from=lambda weight, W: weight),),
            "You round the moved weight but take the error from the original one. Both are about `W[:, j]`, as it "
            "stands now.",
        ),
        WrongAnswer(
            "no zero point in the restored value",
            (
                _gptq(restored_of=lambda codes, scale, zero_point: scale * codes),
                _gptq(restored_of=lambda codes, scale, zero_point: scale * (codes + zero_point)),
                _gptq(restored_of=lambda codes, scale, zero_point: codes),
            ),
            "The error is not right: codes stand for `scale * (codes - zero_point)`.",
        ),
        WrongAnswer(
            "not clipped",
            (
                _gptq(codes_of=lambda steps, zero_point, qmax: np.rint(steps) + zero_point),
                _gptq(codes_of=lambda steps, zero_point, qmax: np.rint(steps) + zero_point, dtype=np.int64),
            ),
            "A weight that was moved may be beyond the last code, and yours gets a code that there is not: "
            "`np.clip(..., 0, qmax)`.",
        ),
        WrongAnswer(
            "truncated instead of rounded",
            (
                _gptq(codes_of=lambda steps, zero_point, qmax: np.clip(np.trunc(steps) + zero_point, 0, qmax)),
                _gptq(codes_of=lambda steps, zero_point, qmax: np.clip(np.floor(steps) + zero_point, 0, qmax)),
            ),
            "The codes are cut off, not rounded: `np.rint`.",
        ),
        WrongAnswer(
            "codes of another dtype",
            tuple(_gptq(dtype=dtype) for dtype in (np.int64, np.int32, np.float32, np.float64)),
            "The numbers are right, but codes are stored in 1 byte each: `np.empty(weight.shape, np.uint8)`.",
        ),
        WrongAnswer(
            "returned the restored weights",
            (_restored,),
            "You return the weights that the codes stand for. Return the codes.",
        ),
    ),
)

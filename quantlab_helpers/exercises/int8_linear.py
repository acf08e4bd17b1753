"""Exercise: the output of a layer from int8 codes, summed in int32 and scaled once (notebook 04)."""

import numpy as np

from .base import Exercise, WrongAnswer


def int8_linear(x_codes, x_scale, w_codes, w_scale):
    """Return the (tokens, out) output: exact integer sums, then one scale for each token and each output channel."""
    sums = x_codes.astype(np.int32) @ w_codes.T.astype(np.int32)  # (tokens, out)
    return sums * x_scale * w_scale.T  # (tokens, 1) scales the rows, (1, out) the columns


def _codes(rows):
    return np.array(rows, dtype=np.int8)


def _scales(values):
    return np.array(values, dtype=np.float32).reshape(-1, 1)


EXAMPLES = (
    (_codes([[100, 100]]), _scales([0.5]), _codes([[100, 100], [100, 90], [1, -2]]), _scales([0.25, 0.5, 2.0])),
    (_codes([[3, 1], [1, 4]]), _scales([0.5, 2.0]), _codes([[2, 1], [0, -1]]), _scales([0.25, 4.0])),
    (_codes([[127, 127, 127], [-127, 1, 0]]), _scales([0.1, 0.2]), _codes([[127, 127, 127]]), _scales([0.3])),
    (_codes([[0, 0, 0], [5, -6, 7]]), _scales([1.0, 0.01]), _codes([[1, 2, 3], [0, 0, 0]]), _scales([0.02, 1.0])),
)


def cases(rng):
    for tokens, terms, out in ((1, 7, 4), (5, 64, 3), (4, 4, 4), (3, 300, 3), (2, 8, 1)):
        yield (*_random(rng, tokens, terms), *_random(rng, out, terms))
    # Each product occurs with both signs, so that they cancel, but for a last one of 1 * 1. A sum of rounded
    # floats does not come out at that; integers do.
    x, w = (rng.integers(1, 128, size=500) for _ in range(2))
    order = rng.permutation(1001)
    x, w = np.concatenate([x, x, [1]])[order], np.concatenate([w, -w, [1]])[order]
    yield _codes([x]), _scales([rng.uniform(0.01, 0.1)]), _codes([w]), _scales([rng.uniform(0.01, 0.1)])
    yield _long_sums(rng)


def _random(rng, rows, terms):
    codes = rng.integers(-127, 128, size=(rows, terms), dtype=np.int8)
    return codes, _scales(rng.uniform(0.001, 0.1, size=rows))


def _long_sums(rng):
    """Sums of 1 whose terms are all positive at first, then the same ones negative, then 1 * 1.

    On the way they pass 2**24, where float32 begins to lose the last digit, and stay below 2**31. So many terms,
    because float32 code may keep dozens of partial sums side by side and add them up at the end: each has to pass
    2**24. (Adding the terms in pairs that cancel would be exact, but no library knows the pairs.)
    """
    half = 60_000
    x, w = rng.integers(120, 128, size=(2, 2, half))
    order, one = rng.permutation(half), np.ones((2, 1))
    return (
        _codes(np.hstack([x, x[:, order], one])),
        _scales([0.5, 2.0]),
        _codes(np.hstack([w, -w[:, order], one])),
        _scales([0.25, 1.0]),
    )


def _summed_as(dtype):
    def function(x_codes, x_scale, w_codes, w_scale):
        return (x_codes.astype(dtype) @ w_codes.T.astype(dtype)) * x_scale * w_scale.T

    return function


def _einsum_in_float32(x_codes, x_scale, w_codes, w_scale):
    return np.einsum("ti,oi->to", x_codes.astype(np.float32), w_codes.astype(np.float32)) * x_scale * w_scale.T


def _each_in_float32(sum_of):
    def function(x_codes, x_scale, w_codes, w_scale):
        x, w = x_codes.astype(np.float32), w_codes.astype(np.float32)
        return np.array([[sum_of(token, row) for row in w] for token in x]) * x_scale * w_scale.T

    return function


def _cast_after_the_product(x_codes, x_scale, w_codes, w_scale):
    return (x_codes @ w_codes.T).astype(np.int32) * x_scale * w_scale.T


def _products_in_int8(x_codes, x_scale, w_codes, w_scale):
    products = x_codes[:, None, :] * w_codes[None, :, :]
    return products.sum(axis=-1, dtype=np.int32) * x_scale * w_scale.T


def _scaled(rescale):
    """The right sums, but another rescaling."""

    def function(x_codes, x_scale, w_codes, w_scale):
        return rescale(x_codes.astype(np.int32) @ w_codes.T.astype(np.int32), x_scale, w_scale)

    return function


def _not_transposed(x_codes, x_scale, w_codes, w_scale):
    return (x_codes.astype(np.int32) @ w_codes.astype(np.int32)) * x_scale * w_scale.T


def _transposed_output(x_codes, x_scale, w_codes, w_scale):
    return int8_linear(x_codes, x_scale, w_codes, w_scale).T


def _dequantized_first(x_codes, x_scale, w_codes, w_scale):
    return (x_codes * x_scale) @ (w_codes * w_scale).T


EXERCISE = Exercise(
    reference=int8_linear,
    outputs=("y",),
    checked="sums beyond int8, int16 and the whole numbers of float32, one and many tokens and outputs, all-zero rows",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Two steps: the sums of products in integers, then the scales. Mind the dtype of the first, the shapes of the "
        "second.",
        "Make the codes int32 *before* you multiply: `x_codes.astype(np.int32) @ w_codes.T.astype(np.int32)` has the "
        "shape (tokens, out).",
        "Row t of the sums belongs to token t: times `x_scale`, (tokens, 1). Column o belongs to output o: times "
        "`w_scale.T`, (1, out).",
    ),
    wrong_answers=(
        WrongAnswer(
            "multiplied in int8",
            (_summed_as(np.int8), _cast_after_the_product, _products_in_int8),
            "Your products are int8, and wrap around beyond 127; a cast afterwards comes too late. Make the codes "
            "int32 first, then multiply.",
        ),
        WrongAnswer(
            "summed in int16",
            (_summed_as(np.int16),),
            "int16 ends at 32,767, and three products of 127 * 127 are beyond it: your sums wrap around. Sum in int32.",
        ),
        WrongAnswer(
            "summed in float32",
            (
                _summed_as(np.float32),
                _einsum_in_float32,
                _each_in_float32(lambda a, b: np.sum(a * b)),
                _each_in_float32(lambda a, b: np.cumsum(a * b)[-1]),
            ),
            "float32 holds every whole number only to 16,777,216: beyond it a long sum loses its last digits. Sum in "
            "int32, which is exact.",
        ),
        WrongAnswer(
            "dequantized first",
            (_dequantized_first,),
            "You scale the codes first and sum floats, which rounds at each step and needs float hardware. Sum the "
            "integers, which is exact, and scale each sum once.",
        ),
        WrongAnswer(
            "returned the integer sums",
            (_scaled(lambda sums, xs, ws: sums), _scaled(lambda sums, xs, ws: sums.astype(np.float32))),
            "These are the integer sums. Each stands for `sum * x_scale * w_scale`: bring both scales back in.",
        ),
        WrongAnswer(
            "forgot x_scale",
            (_scaled(lambda sums, xs, ws: sums * ws.T), _scaled(lambda sums, xs, ws: sums * ws.ravel())),
            "Your sums still count in steps of the activations: multiply by `x_scale` too.",
        ),
        WrongAnswer(
            "forgot w_scale",
            (_scaled(lambda sums, xs, ws: sums * xs),),
            "Your sums still count in steps of the weights: multiply by `w_scale` too, turned to (1, out).",
        ),
        WrongAnswer(
            "made the result int32",
            (
                _scaled(lambda sums, xs, ws: (sums * xs * ws.T).astype(np.int32)),
                _scaled(lambda sums, xs, ws: np.round(sums * xs * ws.T).astype(np.int32)),
                _scaled(lambda sums, xs, ws: (sums * xs).astype(np.int32) * ws.T),
            ),
            "You make whole numbers of scaled sums, which loses their fractions. Only the sums are int32; what "
            "the scales make of them stays float.",
        ),
        WrongAnswer(
            "w_scale along the tokens",
            (
                _scaled(lambda sums, xs, ws: sums * xs * ws),
                _scaled(lambda sums, xs, ws: sums * (xs * ws)),
                _scaled(lambda sums, xs, ws: sums * ws),
            ),
            "`w_scale` has the shape (out, 1), so it scales rows, but the rows of the sums are tokens. Turn it: "
            "`w_scale.T` is (1, out) and scales the columns.",
        ),
        WrongAnswer(
            "x_scale along the outputs",
            (
                _scaled(lambda sums, xs, ws: sums * xs.T * ws.T),
                _scaled(lambda sums, xs, ws: sums * xs.ravel() * ws.ravel()),
            ),
            "You turned `x_scale`, so it scales columns, but the columns of the sums are outputs. As it is, "
            "(tokens, 1), it scales the rows.",
        ),
        WrongAnswer(
            "divided by the scales",
            (
                _scaled(lambda sums, xs, ws: sums / xs / ws.T),
                _scaled(lambda sums, xs, ws: sums / (xs * ws.T)),
            ),
            "Dividing by the scale makes codes; here you go back: `real = scale * code`, so multiply.",
        ),
        WrongAnswer(
            "forgot to transpose the weights",
            (_not_transposed,),
            "The weights are (out, in), and the sum runs over the inputs, the last axis of both: use `w_codes.T`.",
        ),
        WrongAnswer(
            "the output turned",
            (_transposed_output,),
            "Your output is (out, tokens). Tokens come first: `x_codes @ w_codes.T`, in int32.",
        ),
    ),
)

"""Exercise: fold scales into the norm that comes before (notebook 09)."""

import numpy as np

from .base import Exercise, WrongAnswer


def fold_scales(norm_weight, weights, scales):
    """Return (norm_weight, weights): the norm's output divided by the scales, the columns behind it multiplied."""
    return norm_weight / scales, tuple(weight * scales for weight in weights)


EXAMPLES = (
    (
        np.array([1.0, 3.0]),
        (np.array([[0.5, -1.0], [2.0, 0.25]]), np.array([[1.0, 4.0], [0.0, 3.0]])),
        np.array([2, 8]),
    ),
    (np.array([0.5, -2.0, 1.0]), (np.array([[1.0, 2.0, -3.0]]),), np.array([4.0, 1.0, 0.5])),
    (np.array([1.0, 1.0]), (np.array([[1.0, -2.0], [0.5, 3.0], [2.5, 1.5]]),) * 3, np.array([10.0, 0.1])),
)


def cases(rng):
    for in_features, rows in ((6, (6, 6, 6)), (8, (8, 4, 4)), (5, (3,)), (4, (4, 7)), (3, (3, 3, 3, 3))):
        weights = tuple(rng.normal(size=(out_features, in_features)) for out_features in rows)
        yield rng.normal(1, 0.4, size=in_features), weights, np.exp(rng.normal(size=in_features))
    norm_weight, weights, scales = rng.normal(size=4), tuple(rng.normal(size=(2, 4, 4))), rng.uniform(0.1, 9, size=4)
    yield tuple(
        array.astype(np.float32) if isinstance(array, np.ndarray) else tuple(w.astype(np.float32) for w in array)
        for array in (norm_weight, weights, scales)
    )


def _with(of_norm=lambda norm, s: norm / s, of_weight=lambda weight, s: weight * s, prepared=lambda s: s):
    """The reference with another rule for the norm, for each weight, or for the scales beforehand."""

    def function(norm_weight, weights, scales):
        s = prepared(scales)
        return of_norm(norm_weight, s), tuple(of_weight(weight, s) for weight in weights)

    return function


def _of_right(finish):
    """The right answer, returned as something else."""

    def function(norm_weight, weights, scales):
        return finish(*fold_scales(norm_weight, weights, scales))

    return function


def _only(chosen):
    """Only some of the weights are scaled."""

    def function(norm_weight, weights, scales):
        which = range(len(weights))[chosen]
        return norm_weight / scales, tuple(w * scales if i in which else w for i, w in enumerate(weights))

    return function


def _each_divides_again(norm_weight, weights, scales):
    found = []
    for weight in weights:
        norm_weight = norm_weight / scales
        found.append(weight * scales)
    return norm_weight, tuple(found)


def _shared_out(norm_weight, weights, scales):
    return norm_weight / scales, tuple(weight * scales ** (1 / len(weights)) for weight in weights)


def _norm_multiplied_in(norm_weight, weights, scales):
    return np.ones_like(norm_weight), tuple(weight * norm_weight for weight in weights)


def _norm_gone(norm_weight, weights, scales):
    return 1 / scales, tuple(weight * scales * norm_weight for weight in weights)


def _by_a_loop_that_returns_early(norm_weight, weights, scales):
    for weight in weights:
        return norm_weight / scales, (weight * scales,)


EXERCISE = Exercise(
    reference=fold_scales,
    outputs=("norm_weight", "weights"),
    checked="one to four weights behind a norm, square and not, scales above and below 1, float32 and float64; the "
    "norm, every weight, and that what was given stays as it was",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "`(x / s) @ (W * s).T` is `x @ W.T`. The norm's output is its weight times something, so dividing that output "
        "by s is dividing the norm's weight.",
        "Every layer that reads this norm now sees inputs / s. So *every* weight must make up for it, in the columns: "
        "`weight * scales` multiplies column j by scales[j].",
        "Two values: `norm_weight / scales`, and a tuple, `tuple(weight * scales for weight in weights)`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "norm multiplied, weights divided",
            (
                _with(lambda norm, s: norm * s, lambda weight, s: weight / s),
                _with(prepared=lambda s: 1 / s),
                _with(lambda norm, s: s * norm, lambda weight, s: weight * (1 / s)),
            ),
            "You multiply the norm and divide the weights: that is folding 1 / scales. The layers are to see inputs "
            "*divided* by the scales.",
        ),
        WrongAnswer(
            "both multiplied",
            (_with(lambda norm, s: norm * s),),
            "You multiply both, so the output is wrong by scales squared. What one is multiplied by, the other must be "
            "divided by: the norm.",
        ),
        WrongAnswer(
            "both divided",
            (_with(of_weight=lambda weight, s: weight / s), _with(of_weight=lambda weight, s: weight * (1 / s))),
            "You divide both, so the output is wrong by scales squared. The norm is divided, the weights are "
            "multiplied.",
        ),
        WrongAnswer(
            "the norm left as it is",
            (_with(lambda norm, s: norm), _with(lambda norm, s: norm.copy()), _with(lambda norm, s: norm * 1.0)),
            "The weights are right, but nothing divides their inputs yet: the norm's weight is as it was.",
        ),
        WrongAnswer(
            "the weights left as they are",
            (_with(of_weight=lambda weight, s: weight), _with(of_weight=lambda weight, s: weight.copy())),
            "The norm is right, but the weights behind it are as they were: their inputs have shrunk, so their columns "
            "must grow.",
        ),
        WrongAnswer(
            "only one of the weights",
            (_only(slice(0, 1)), _only(slice(-1, None))),
            "You scale one weight only. *All* of them read the norm's output, so all now see inputs / scales.",
        ),
        WrongAnswer(
            "one weight forgotten",
            (_only(slice(0, 2)), _only(slice(1, None))),
            "One of the weights is as it was. All of them read the norm's output, however many there are: go through "
            "the whole tuple.",
        ),
        WrongAnswer(
            "rows instead of columns",
            (
                _with(of_weight=lambda weight, s: weight * s[:, None]),
                _with(of_weight=lambda weight, s: (weight.T * s).T),
                _with(of_weight=lambda weight, s: np.diag(s) @ weight),
                _with(of_weight=lambda weight, s: weight * s.reshape(-1, 1)),
            ),
            "You multiply the rows, which are the outputs. Input j meets *column* j of a weight (out, in): "
            "`weight * scales`, without another axis.",
        ),
        WrongAnswer(
            "weights transposed",
            (
                _with(of_weight=lambda weight, s: weight.T * s[:, None]),
                _with(of_weight=lambda weight, s: (weight * s).T),
            ),
            "Your weights come back transposed. They go in as (out, in) and come out as (out, in).",
        ),
        WrongAnswer(
            "the norm divided once for each weight",
            (_each_divides_again, lambda n, w, s: (n / s ** len(w), tuple(x * s for x in w))),
            "Your norm is divided once for each weight. There is one norm and they all read it: divide it once, before "
            "the loop.",
        ),
        WrongAnswer(
            "scales shared out among the weights",
            (_shared_out, lambda n, w, s: (n / s, tuple(x * s / len(w) for x in w))),
            "You share the scales out among the weights. Each reads the whole input / scales by itself, so each needs "
            "the whole factor.",
        ),
        WrongAnswer(
            "square roots",
            (
                _with(prepared=np.sqrt),
                _with(of_norm=lambda norm, s: norm / np.sqrt(s)),
                _with(of_weight=lambda weight, s: weight * np.sqrt(s)),
            ),
            "There is a square root in it. Nothing is squared here: divide by `scales`, multiply by `scales`.",
        ),
        WrongAnswer(
            "squares",
            (_with(prepared=np.square), _with(of_norm=lambda norm, s: norm / s**2)),
            "The scales come in twice. Divide the norm by them once, multiply the weights by them once.",
        ),
        WrongAnswer(
            "one number in place of the scales",
            (
                _with(prepared=lambda s: s.mean()),
                _with(prepared=lambda s: s.max()),
                _with(prepared=lambda s: np.sqrt(s.max() * s.min())),
            ),
            "You divide all channels by one number. Each channel has its own: `norm_weight / scales` divides number by "
            "number.",
        ),
        WrongAnswer(
            "scales made to average 1",
            (
                _with(prepared=lambda s: s / s.mean()),
                _with(prepared=lambda s: s / s.max()),
                _with(prepared=lambda s: s / np.sqrt(s.max() * s.min())),
            ),
            "You change the scales before you use them. That is a choice for whoever made them: take them as given.",
        ),
        WrongAnswer(
            "subtracted and added",
            (_with(lambda norm, s: norm - s, lambda weight, s: weight + s),),
            "You subtract and add. Scales multiply and divide.",
        ),
        WrongAnswer(
            "the norm's own weight moved",
            (_norm_gone, _norm_multiplied_in),
            "You moved the norm's own weight into the layers. It can stay where it is: only the scales move.",
        ),
        WrongAnswer(
            "a matrix from the norm",
            (
                _with(lambda norm, s: norm[:, None] / s),
                _with(lambda norm, s: norm / s[:, None]),
                _with(lambda norm, s: np.diag(norm / s)),
            ),
            "Your norm has become a matrix. It has one number for each channel, (in,), and so do the scales: divide "
            "without another axis.",
        ),
        WrongAnswer(
            "the norm's weight as a row or column",
            (_of_right(lambda norm, weights: (norm[None], weights)), _of_right(lambda n, w: (n[:, None], w))),
            "The norm's numbers are right, but it should keep its one axis, (in,).",
        ),
        WrongAnswer(
            "weights glued together",
            (
                _of_right(lambda norm, weights: (norm, np.concatenate(weights))),
                _of_right(lambda norm, weights: (norm, np.vstack(weights))),
            ),
            "Your weights are glued into one matrix. Return them apart, as they came: a tuple of arrays.",
        ),
        WrongAnswer(
            "weights not in a tuple of their own",
            (_of_right(lambda norm, weights: (norm, *weights)), _of_right(lambda n, w: (*w, n))),
            "Return two values: the norm's weight, and one tuple that holds all the weights.",
        ),
        WrongAnswer(
            "only the first weight returned",
            (_by_a_loop_that_returns_early, _of_right(lambda norm, weights: (norm, weights[:1]))),
            "Only the first weight comes back. Is your `return` inside the loop? Collect all of them first.",
        ),
        WrongAnswer(
            "the first weight itself returned",
            (_of_right(lambda norm, weights: (norm, weights[0])), _of_right(lambda n, w: (n, w[-1]))),
            "You return one weight and not a tuple. All of them belong in it, also where there is just one.",
        ),
        WrongAnswer(
            "the scales returned as well",
            (
                lambda norm_weight, weights, scales: (*fold_scales(norm_weight, weights, scales), scales),
                lambda norm_weight, weights, scales: (scales, *fold_scales(norm_weight, weights, scales)),
            ),
            "Return two values, without the scales: nobody needs them any more, that is the point of folding.",
        ),
        WrongAnswer(
            "only one of the two returned",
            (_of_right(lambda norm, weights: weights), _of_right(lambda norm, weights: norm)),
            "Return both, the norm's new weight and the new weights: `return norm_weight, weights`.",
        ),
        WrongAnswer(
            "rounded",
            (
                _of_right(lambda norm, weights: (norm, tuple(np.round(w) for w in weights))),
                _of_right(lambda norm, weights: (np.round(norm), tuple(np.round(w) for w in weights))),
            ),
            "You round already. Here nothing is quantized yet: the point is that the output stays as it was.",
        ),
    ),
)

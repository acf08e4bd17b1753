"""Exercise: the product of LLM.int8(), outlier columns in float and all others in int8 (notebook 07)."""

import numpy as np

from .base import Exercise, WrongAnswer


def mixed_int8(x, w_codes, w_scale, threshold):
    """Return the (tokens, out) output: an int8 product of the ordinary columns, and a float one of the others."""
    outlier = (np.abs(x) >= threshold).any(axis=0)  # (in,): True where any token reaches the threshold
    ordinary = np.where(outlier, 0, x)
    scale = np.abs(ordinary).max(axis=1, keepdims=True) / 127  # (tokens, 1)
    scale = np.where(scale == 0, 1, scale)
    codes = np.round(ordinary / scale).astype(np.int32)
    y = codes @ w_codes.T.astype(np.int32) * scale * w_scale.T
    weight = w_codes * w_scale
    return y + x[:, outlier] @ weight[:, outlier].T


def _codes(rows):
    return np.array(rows, dtype=np.int8)


def _scales(values):
    return np.array(values, dtype=np.float32).reshape(-1, 1)


EXAMPLES = (
    (np.array([[1.0, 0.3, 20.0], [0.2, -1.0, 15.0]]), _codes([[100, 50, 2]]), _scales([0.5]), 6.0),
    (
        np.array([[1.0, 0.3, -20.0], [0.2, -1.0, -3.3]]),
        _codes([[100, 50, 2], [9, -70, 127]]),
        _scales([0.5, 0.01]),
        6.0,
    ),
    (np.array([[0.1, 4.0, 1.0], [2.0, 3.0, 0.6]]), _codes([[3, 100, 60]]), _scales([1.0]), 4.0),  # just on it
    (np.array([[0.0, 9.0], [1.0, 0.3]]), _codes([[100, 60], [30, 7]]), _scales([0.1, 1.0]), 6.0),  # zeros are left
    (np.array([[8.0, -9.0], [7.0, 0.3]]), _codes([[100, 60], [30, 7]]), _scales([0.1, 1.0]), 6.0),  # none is left
    (np.array([[1.0, 0.3], [0.2, 2.0]]), _codes([[100, 50]]), _scales([0.5]), 6.0),  # no outlier
)


def cases(rng):
    for tokens, features, out, outliers in ((1, 8, 3, 1), (5, 40, 4, 2), (6, 6, 6, 1), (4, 12, 1, 5), (3, 300, 7, 0)):
        yield _random(rng, tokens, features, out, outliers)
    x, w_codes, w_scale, threshold = _random(rng, 5, 40, 4, 2)
    yield 0.01 * x, w_codes, w_scale, 0.01 * threshold


def _random(rng, tokens, features, out, num_outliers):
    """A layer whose ordinary values lie between their codes, but never halfway: no answer hangs on how a tie rounds."""
    threshold = rng.uniform(3, 9)
    codes = rng.integers(-126, 127, size=(tokens, features))
    order = rng.permutation(features)
    outlier, largest = order[:num_outliers], order[num_outliers]
    codes[:, largest] = 127 * rng.choice([-1, 1], size=tokens)
    between = rng.uniform(-0.35, 0.35, size=codes.shape)
    between[:, largest] = 0
    x = (codes + between) * rng.uniform(0.2, 0.9, size=(tokens, 1)) * threshold / 127
    x[:, outlier] *= 0.3  # of most tokens small, of one large, and negative as often as not
    x[rng.integers(tokens, size=num_outliers), outlier] = _signs(rng, num_outliers) * rng.uniform(1.5, 20) * threshold
    w_codes = rng.integers(-127, 128, size=(out, features), dtype=np.int8)
    return x.astype(np.float32), w_codes, _scales(rng.uniform(0.001, 0.1, size=out)), threshold


def _signs(rng, count):
    return rng.choice([-1.0, 1.0], size=count)


def _variant(
    *,
    outliers=lambda x, threshold: (np.abs(x) >= threshold).any(axis=0),
    scaled_by=lambda x, ordinary, threshold: np.abs(ordinary).max(axis=1, keepdims=True),
    in_int8=lambda x, outlier: np.where(outlier, 0, x),
    guarded=True,
    rounding=np.round,
    dtype=np.int32,
    largest=127,
    rescale=lambda y, scale, w_scale: y * scale * w_scale.T,
    weight=lambda w_codes, w_scale: w_codes * w_scale,
    joined=lambda y, rest: y + rest,
):
    """The reference with one step done in another way."""

    def function(x, w_codes, w_scale, threshold):
        outlier = outliers(x, threshold)
        ordinary = in_int8(x, outlier)
        scale = scaled_by(x, ordinary, threshold) / largest
        if guarded:
            scale = np.where(scale == 0, 1, scale)
        codes = rounding(ordinary / scale).astype(dtype)
        y = rescale(codes @ w_codes.T.astype(dtype), scale, w_scale)
        return joined(y, x[:, outlier] @ weight(w_codes, w_scale)[:, outlier].T)

    return function


def _cut_out(x, w_codes, w_scale, threshold):
    """Right, but for tokens of which nothing is left."""
    outlier = (np.abs(x) >= threshold).any(axis=0)
    ordinary = x[:, ~outlier]
    scale = np.abs(ordinary).max(axis=1, keepdims=True) / 127
    scale = np.where(scale == 0, 1, scale)
    codes = np.round(ordinary / scale).astype(np.int32)
    y = codes @ w_codes[:, ~outlier].T.astype(np.int32) * scale * w_scale.T
    return y + x[:, outlier] @ (w_codes * w_scale)[:, outlier].T


def _elements(x, w_codes, w_scale, threshold):
    """Only the outliers themselves stay float, not their columns."""
    is_outlier = np.abs(x) >= threshold
    ordinary = np.where(is_outlier, 0, x)
    scale = np.abs(ordinary).max(axis=1, keepdims=True) / 127
    codes = np.round(ordinary / np.where(scale == 0, 1, scale)).astype(np.int32)
    y = codes @ w_codes.T.astype(np.int32) * scale * w_scale.T
    return y + np.where(is_outlier, x, 0) @ (w_codes * w_scale).T


def _all_in_float(x, w_codes, w_scale, threshold):
    return x @ (w_codes * w_scale).T


def _clipped(x, w_codes, w_scale, threshold):
    return _variant(outliers=_no_columns)(np.clip(x, -threshold, threshold), w_codes, w_scale, threshold)


def _no_columns(x, threshold):
    return np.zeros(x.shape[1], bool)


def _rows(x, w_codes, w_scale, threshold):
    """Outlier tokens instead of outlier columns."""
    outlier = (np.abs(x) >= threshold).any(axis=1)
    y = _variant(outliers=_no_columns)(x, w_codes, w_scale, threshold)
    y[outlier] = _all_in_float(x[outlier], w_codes, w_scale, threshold)
    return y


def _not_transposed(x, w_codes, w_scale, threshold):
    ordinary = np.where((np.abs(x) >= threshold).any(axis=0), 0, x)
    codes = np.round(ordinary / np.abs(ordinary).max(axis=1, keepdims=True) * 127).astype(np.int32)
    return codes @ w_codes.astype(np.int32)


def _bitsandbytes(x, ordinary, threshold):
    return np.abs(np.where(np.abs(x) >= threshold, 0, x)).max(axis=1, keepdims=True)


EXERCISE = Exercise(
    reference=mixed_int8,
    outputs=("y",),
    checked="no outlier column, some and all of them; outliers of either sign and just on the threshold; other "
    "thresholds than 6; tokens of which only zeros are left",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "Four steps: which columns hold an outlier; codes of all that is left, with a scale for each token; the int8 "
        "product as in notebook 4; and the float product of the outlier columns, which you add.",
        "A column is out if *any* token reaches the threshold there: `(np.abs(x) >= threshold).any(axis=0)`. "
        "`np.where(outlier, 0, x)` empties those columns and keeps the shape, so that nothing else changes.",
        "The float part: `x[:, outlier] @ (w_codes * w_scale)[:, outlier].T`. The weights are stored as codes only, so "
        "that is what they stand for.",
    ),
    wrong_answers=(
        WrongAnswer(
            "no decomposition at all",
            (_variant(outliers=_no_columns),),
            "Everything goes through int8, outliers too, and they stretch the scale of their token. Take their columns "
            "out first.",
        ),
        WrongAnswer(
            "all in float",
            (_all_in_float, _variant(rounding=lambda a: a, dtype=np.float64)),
            "Your output is that of a float product. Only the outlier columns stay float: of all others make codes, "
            "rounded and in int32.",
        ),
        WrongAnswer(
            "forgot the outlier columns",
            (_variant(joined=lambda y, rest: y),),
            "The outlier columns are out, but they never come back: add their float product.",
        ),
        WrongAnswer(
            "only the outlier columns",
            (_variant(joined=lambda y, rest: rest),),
            "That is the product of the outlier columns alone: add the int8 product of all others.",
        ),
        WrongAnswer(
            "outlier columns counted twice",
            (_variant(in_int8=lambda x, outlier: x),),
            "You add the outlier columns in float, but they are in the int8 product, too. Empty them there: "
            "`np.where(outlier, 0, x)`.",
        ),
        WrongAnswer(
            "only the outliers themselves",
            (_elements,),
            "You take out single values. LLM.int8() takes out whole *columns*, for all tokens, so that two ordinary "
            "matrix products are left: `.any(axis=0)`.",
        ),
        WrongAnswer(
            "outlier tokens",
            (_rows,),
            "You take out tokens. Outliers sit in the same few features, the columns of `x`: `.any(axis=0)` asks each "
            "column whether any token reaches the threshold.",
        ),
        WrongAnswer(
            "columns with outliers only",
            (_variant(outliers=lambda x, threshold: (np.abs(x) >= threshold).all(axis=0)),),
            "You take out a column only if *every* token has an outlier there. One is enough: `.any(axis=0)`.",
        ),
        WrongAnswer(
            "mean magnitude of a column",
            (
                _variant(outliers=lambda x, threshold: np.abs(x).mean(axis=0) >= threshold),
                _variant(outliers=lambda x, threshold: np.abs(x.mean(axis=0)) >= threshold),
            ),
            "The mean hides a single outlier. A column is out as soon as any token reaches the threshold.",
        ),
        WrongAnswer(
            "forgot negative outliers",
            (
                _variant(outliers=lambda x, threshold: (x >= threshold).any(axis=0)),
                _variant(outliers=lambda x, threshold: x.max(axis=0) >= threshold),
            ),
            "Outliers may be negative: compare `np.abs(x)` with the threshold.",
        ),
        WrongAnswer(
            "beyond the threshold only",
            (_variant(outliers=lambda x, threshold: (np.abs(x) > threshold).any(axis=0)),),
            "Nearly: a value that lies just on the threshold is an outlier, too: `>=`.",
        ),
        WrongAnswer(
            "the threshold is always 6",
            (_variant(outliers=lambda x, threshold: (np.abs(x) >= 6.0).any(axis=0)),),
            "Your threshold is 6 whatever is asked for: use the argument.",
        ),
        WrongAnswer(
            "clipped the outliers",
            (_clipped,),
            "You cut the outliers off at the threshold. They carry a lot of the output: keep them, in float.",
        ),
        WrongAnswer(
            "the scale before the outliers were out",
            (_variant(scaled_by=lambda x, ordinary, threshold: np.abs(x).max(axis=1, keepdims=True)),),
            "Your outlier columns are out, but they still set the scale. Take the largest magnitude of what is *left* "
            "of each token.",
        ),
        WrongAnswer(
            "the scale from outlier columns' small values",
            (_variant(scaled_by=_bitsandbytes),),
            "In your scale only the outliers themselves are missing; the small values of their columns still count. "
            "(bitsandbytes does the same. Here, take the scale from the columns that are left.)",
        ),
        WrongAnswer(
            "one scale for all tokens",
            (_variant(scaled_by=lambda x, ordinary, threshold: np.abs(ordinary).max(keepdims=True)),),
            "All tokens share one scale. Give each its own: `.max(axis=1, keepdims=True)`.",
        ),
        WrongAnswer(
            "a scale for each column",
            (
                _variant(
                    scaled_by=lambda x, ordinary, threshold: np.abs(ordinary).max(axis=0, keepdims=True),
                    rescale=lambda y, scale, w_scale: y * scale.max() * w_scale.T,
                ),
            ),
            "Your scales belong to columns of `x`, but the product sums over these, and no scale can come out of a "
            "sum. Give each token its own: `axis=1`.",
        ),
        WrongAnswer(
            "nothing left to take the maximum of",
            (_cut_out,),
            "Every column may hold an outlier. Then nothing is left, and NumPy has no maximum of nothing: empty the "
            "columns with `np.where(outlier, 0, x)`, or give `max` an `initial=0`.",
        ),
        WrongAnswer(
            "no guard against zeros",
            (_variant(guarded=False, dtype=np.float64),),  # as integers, 0 / 0 becomes some number times scale 0
            "Where nothing but zeros is left of a token, its scale is 0, and 0 / 0 is not a number: give it scale 1.",
        ),
        WrongAnswer(
            "multiplied in int8",
            (_variant(dtype=np.int8),),
            "Your products are int8, and wrap around beyond 127. Make both codes int32 before you multiply.",
        ),
        WrongAnswer(
            "cut the fractions off",
            (_variant(rounding=np.trunc), _variant(rounding=np.floor)),
            "You cut the fractions off: round to the nearest code, `np.round`.",
        ),
        WrongAnswer(
            "another number of codes",
            (_variant(largest=128), _variant(largest=127.5), _variant(largest=255)),
            "The largest magnitude that is left of a token lands on 127: its scale is that magnitude over 127.",
        ),
        WrongAnswer(
            "forgot the scale of the tokens",
            (_variant(rescale=lambda y, scale, w_scale: y * w_scale.T),),
            "Your int8 product still counts in steps of the activations: multiply by their scale, (tokens, 1).",
        ),
        WrongAnswer(
            "forgot w_scale in the int8 product",
            (_variant(rescale=lambda y, scale, w_scale: y * scale),),
            "Your int8 product still counts in steps of the weights: multiply by `w_scale.T`, (1, out).",
        ),
        WrongAnswer(
            "w_scale along the tokens",
            (
                _variant(rescale=lambda y, scale, w_scale: y * scale * w_scale),
                _variant(rescale=lambda y, scale, w_scale: y * (scale * w_scale)),
            ),
            "`w_scale` has the shape (out, 1), so it scales rows, but the rows of the product are tokens. Turn it: "
            "`w_scale.T` is (1, out).",
        ),
        WrongAnswer(
            "forgot to transpose the weights",
            (_not_transposed,),
            "The weights are (out, in), and the sum runs over the inputs, the last axis of both: use `w_codes.T`.",
        ),
        WrongAnswer(
            "codes for weights in the float product",
            (_variant(weight=lambda w_codes, w_scale: w_codes),),
            "In the float product your weights are bare codes. They stand for `w_codes * w_scale`.",
        ),
        WrongAnswer(
            "returned sums of codes",
            (
                _variant(rescale=lambda y, scale, w_scale: y, weight=lambda w_codes, w_scale: w_codes),
                _variant(rescale=lambda y, scale, w_scale: y),
            ),
            "These are bare sums of codes: multiply the int8 product by both scales.",
        ),
    ),
)

"""Exercise: AWQ's search, which power of the inputs' size scales the columns best (notebook 09)."""

import numpy as np

import quantlab_helpers as ql

from .base import Exercise, WrongAnswer


def choose_alpha(weight, inputs, num_bits, group_size, alphas):
    """Return (alpha, scales): the one of `alphas` whose scales give the smallest output error, and these scales."""
    magnitude = np.abs(inputs).mean(axis=0)  # (in,)
    y = ql.linear_forward(inputs, weight)
    best, smallest = None, np.inf
    for alpha in alphas:
        scales = np.maximum(magnitude**alpha, 1e-4)
        restored = ql.fake_quantize(weight * scales, num_bits, symmetric=False, per="group", group_size=group_size)
        error = np.mean((ql.linear_forward(inputs, restored / scales) - y) ** 2)
        if error < smallest:
            best, smallest = (alpha, scales), error
    return best


_WEIGHT = np.array([[0.31, -0.82, 0.46, 0.94], [-0.55, 0.27, 0.73, -0.12]])
EXAMPLES = (
    (_WEIGHT, np.array([[9.0, 0.2, -0.4, 0.1], [-7.0, 0.3, 0.6, 0.2]]), 3, 4, np.array([0.0, 0.5, 1.0])),
    (
        _WEIGHT,
        np.array([[-0.6, 1.8, -0.2, -2.0], [1.3, -3.2, 0.1, 2.7], [2.2, -2.1, 0.3, 1.5], [0.3, 5.4, 1.1, 1.9]]),
        3,
        2,
        np.array([0.0, 0.5, 0.9]),
    ),
    (_WEIGHT, np.array([[12.0, 0.0, -0.4, 0.1], [-8.0, 0.0, 0.6, 0.2]]), 3, 4, np.array([0.0, 0.4, 0.8])),
    (np.zeros((2, 4)), np.array([[9.0, 0.2, -0.4, 0.1]]), 4, 2, np.array([0.5, 0.0, 0.25])),
)


def cases(rng):
    inputs = _inputs(rng)
    yield rng.normal(size=(6, 24)), inputs, 3, 8, np.arange(0, 1, 0.25)
    against = rng.normal(size=(6, 24)) / np.abs(inputs).mean(axis=0) ** 0.6  # large weights meet small inputs
    yield against, inputs, 4, 12, np.array([0.9, 0.3, 0.0, 0.6])
    yield rng.normal(size=(5, 24)), _inputs(rng), 2, 24, np.array([0.2, 0.5, 0.8])
    quiet = _inputs(rng)
    quiet[:, rng.choice(24, 3, replace=False)] = 0  # inputs that are never used
    weight = rng.normal(size=(6, 24)).astype(np.float32)
    yield weight, quiet.astype(np.float32), 4, 8, np.array([0.0, 0.35, 0.7, 1.0])


def _inputs(rng):
    """Tokens whose channels differ by a factor of a hundred; signs as they come, so that their mean is near 0."""
    return rng.normal(size=(24, 24)) * np.exp(1.3 * rng.normal(size=24)) * np.where(rng.random(24) < 0.1, 10, 1)


# What a search is made of; a known mistake replaces one of the parts.


def _mean_magnitude(weight, inputs):
    return np.abs(inputs).mean(axis=0)


def _power(magnitude, alpha):
    return np.maximum(magnitude**alpha, 1e-4)


def _rounded(weight, num_bits, group_size):
    return ql.fake_quantize(weight, num_bits, symmetric=False, per="group", group_size=group_size)


def _scaled_back(weight, scales, quantize):
    return quantize(weight * scales) / scales


def _squared(inputs, restored, weight):
    return np.mean((inputs @ (restored - weight).T) ** 2)


def _smallest(alphas, errors):
    return int(np.argmin(errors))


def _search(
    size=_mean_magnitude,
    scales_of=_power,
    quantize=_rounded,
    restore=_scaled_back,
    error_of=_squared,
    pick=_smallest,
    returned=lambda alpha, scales, i, errors, all_scales: (alpha, scales),
):
    def function(weight, inputs, num_bits, group_size, alphas):
        magnitude = size(weight, inputs)
        all_scales = [scales_of(magnitude, alpha) for alpha in alphas]
        restored = [restore(weight, s, lambda w: quantize(w, num_bits, group_size)) for s in all_scales]
        errors = np.array([error_of(inputs, r, weight) for r in restored])
        i = pick(alphas, errors)
        return returned(alphas[i], all_scales[i], i, errors, all_scales)

    return function


def _last_smallest(alphas, errors):
    return len(errors) - 1 - int(np.argmin(errors[::-1]))


def _first_improvement(alphas, errors):
    """Stops as soon as it gets worse."""
    i = 0
    while i + 1 < len(errors) and errors[i + 1] < errors[i]:
        i += 1
    return i


def _normalized(magnitude, alpha):
    scales = _power(magnitude, alpha)
    return scales / np.sqrt(scales.max() * scales.min())


def _per_token_codes(weight, scales, quantize):
    return quantize(weight / scales) * scales


EXERCISE = Exercise(
    reference=choose_alpha,
    outputs=("alpha", "scales"),
    checked="2 to 4 bits, groups of 2 to 24, three or four alphas in any order, inputs of one to 24 tokens, channels "
    "that are always 0, a tie, float32 and float64",
    examples=EXAMPLES,
    cases=cases,
    hints=(
        "A search is a loop: for each alpha make the scales, scale the columns, round, scale back, and measure. Keep "
        "the alpha and the scales of the smallest error so far.",
        "`magnitude = np.abs(inputs).mean(axis=0)` once, before the loop. In it `scales = np.maximum(magnitude**alpha, "
        "1e-4)`, and `restored = ql.fake_quantize(weight * scales, ...) / scales`.",
        "The error is `np.mean((inputs @ restored.T - inputs @ weight.T) ** 2)`. Start with `smallest = np.inf`, and "
        "`if error < smallest: best, smallest = (alpha, scales), error`. Return `best`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "no abs",
            (
                _search(lambda weight, inputs: inputs.mean(axis=0)),
                _search(lambda weight, inputs: np.abs(inputs.mean(axis=0))),
            ),
            "Take the magnitudes before the mean: `np.abs(inputs).mean(axis=0)`. Where signs differ, the mean of an "
            "input is near 0 however large it is.",
        ),
        WrongAnswer(
            "largest instead of mean magnitude",
            (
                _search(lambda weight, inputs: np.abs(inputs).max(axis=0)),
                _search(lambda weight, inputs: inputs.max(axis=0) - inputs.min(axis=0)),
            ),
            "You take the largest magnitude of each input. AWQ takes the mean, `np.abs(inputs).mean(axis=0)`: one odd "
            "token should not decide.",
        ),
        WrongAnswer(
            "root mean square, median or variance",
            (
                _search(lambda weight, inputs: np.sqrt((inputs**2).mean(axis=0))),
                _search(lambda weight, inputs: np.median(np.abs(inputs), axis=0)),
                _search(lambda weight, inputs: (inputs**2).mean(axis=0)),
                _search(lambda weight, inputs: inputs.std(axis=0)),
            ),
            "That is another average of the inputs. AWQ's is the mean magnitude, `np.abs(inputs).mean(axis=0)`.",
        ),
        WrongAnswer(
            "sum instead of mean",
            (
                _search(lambda weight, inputs: np.abs(inputs).sum(axis=0)),
                _search(lambda weight, inputs: np.linalg.norm(inputs, axis=0)),
            ),
            "Your magnitudes grow with the number of tokens. Take the mean over the tokens, not a sum.",
        ),
        WrongAnswer(
            "mean over the channels",
            (
                _search(lambda weight, inputs: np.abs(inputs).mean(axis=1)),
                _search(lambda weight, inputs: np.abs(inputs).mean(axis=-1)),
            ),
            "You average over the channels, so there is one number for each token. There should be one for each "
            "*input*: over the tokens, `axis=0`.",
        ),
        WrongAnswer(
            "one number for all channels",
            (
                _search(lambda weight, inputs: np.abs(inputs).mean()),
                _search(lambda weight, inputs: np.full(inputs.shape[1], np.abs(inputs).mean())),
            ),
            "All your scales are equal, and a factor that all columns share changes nothing. Average over the tokens "
            "only: `axis=0`.",
        ),
        WrongAnswer(
            "the weight's size instead of the inputs'",
            (
                _search(lambda weight, inputs: np.abs(weight).mean(axis=0)),
                _search(lambda weight, inputs: np.abs(weight).max(axis=0)),
                _search(lambda weight, inputs: np.linalg.norm(weight, axis=0)),
            ),
            "Your scales come from the weight. What counts is how large the *inputs* are: "
            "`np.abs(inputs).mean(axis=0)`.",
        ),
        WrongAnswer(
            "not scaled back",
            (
                _search(restore=lambda weight, scales, quantize: quantize(weight * scales)),
                _search(
                    restore=lambda weight, scales, quantize: quantize(weight * scales),
                    error_of=lambda inputs, restored, weight: np.mean((inputs @ restored.T - inputs @ weight.T) ** 2),
                ),
            ),
            "You compare the scaled weight with the original. Divide by the scales again after rounding, or the inputs "
            "by them: `ql.fake_quantize(weight * scales, ...) / scales`.",
        ),
        WrongAnswer(
            "divided before rounding, multiplied after",
            (_search(restore=_per_token_codes), _search(restore=lambda w, s, quantize: quantize(w * (1 / s)) * s)),
            "You make the important columns *smaller* before rounding, so they lose more. Multiply by the scales, "
            "round, then divide.",
        ),
        WrongAnswer(
            "never scaled",
            (
                _search(restore=lambda weight, scales, quantize: quantize(weight)),
                _search(restore=lambda weight, scales, quantize: quantize(weight) * scales / scales),
                _search(restore=lambda weight, scales, quantize: weight * scales / scales, pick=lambda a, e: 0),
                lambda weight, inputs, num_bits, group_size, alphas: (
                    alphas[0],
                    _power(_mean_magnitude(weight, inputs), alphas[0]),
                ),
            ),
            "Your first alpha always wins. Does each alpha really scale the columns *before* they are rounded, and is "
            "its error measured after?",
        ),
        WrongAnswer(
            "rows scaled instead of columns",
            (
                _search(
                    restore=lambda weight, scales, quantize: (
                        quantize(weight * scales[: len(weight), None]) / scales[: len(weight), None]
                    )
                ),
                _search(restore=lambda weight, scales, quantize: quantize(weight * scales[:, None]) / scales[:, None]),
            ),
            "You scale the rows, which are the outputs. There is a scale for each input, and input j meets column j: "
            "`weight * scales`, without another axis.",
        ),
        WrongAnswer(
            "error of the weight instead of the output",
            (
                _search(error_of=lambda inputs, restored, weight: np.mean((restored - weight) ** 2)),
                _search(error_of=lambda inputs, restored, weight: np.mean(np.abs(restored - weight))),
                _search(error_of=lambda inputs, restored, weight: np.abs(restored - weight).max()),
            ),
            "You measure the error of the *weight*, which does not know the inputs. Compare outputs: "
            "`inputs @ restored.T` with `inputs @ weight.T`.",
        ),
        WrongAnswer(
            "another measure of the output's error",
            (
                _search(error_of=lambda inputs, restored, weight: np.mean(np.abs(inputs @ (restored - weight).T))),
                _search(error_of=lambda inputs, restored, weight: np.abs(inputs @ (restored - weight).T).max()),
            ),
            "You measure the output's error in another way, and so may choose another alpha. Here it is the mean of "
            "the *squares*.",
        ),
        WrongAnswer(
            "signed errors",
            (
                _search(error_of=lambda inputs, restored, weight: np.mean(inputs @ (restored - weight).T)),
                _search(error_of=lambda inputs, restored, weight: np.abs(np.mean(inputs @ (restored - weight).T))),
                _search(error_of=lambda inputs, restored, weight: np.sum(inputs @ (restored - weight).T) ** 2),
            ),
            "Your errors have signs and cancel each other. Square each one before you take the mean.",
        ),
        WrongAnswer(
            "outputs compared with outputs of scaled inputs",
            (
                _search(error_of=lambda inputs, restored, weight: np.mean((inputs @ restored.T) ** 2)),
                _search(error_of=lambda inputs, restored, weight: np.linalg.norm(inputs @ restored.T)),
            ),
            "You measure the output, not its error. Subtract what it should be: `inputs @ weight.T`.",
        ),
        WrongAnswer(
            "the largest error",
            (
                _search(pick=lambda alphas, errors: int(np.argmax(errors))),
                _search(error_of=lambda inputs, restored, weight: ql.sqnr_db(inputs @ weight.T, inputs @ restored.T)),
            ),
            "You keep the *worst* alpha. The smallest error wins (with SQNR, the largest).",
        ),
        WrongAnswer(
            "the last of equals",
            (
                _search(pick=_last_smallest),
                _search(pick=lambda alphas, errors: max(range(len(errors)), key=lambda i: (-errors[i], i))),
            ),
            "Where two alphas are equally good, the first counts. Compare with `<`, not `<=`.",
        ),
        WrongAnswer(
            "the smallest alpha of equals",
            (_search(pick=lambda alphas, errors: min(range(len(errors)), key=lambda i: (errors[i], alphas[i]))),),
            "Where two alphas are equally good, the first *in the order given* counts, which need not be the smallest.",
        ),
        WrongAnswer(
            "stops at the first that is worse",
            (_search(pick=_first_improvement),),
            "You stop as soon as an alpha is worse than the one before. The curve has bumps, and alphas may come in "
            "any order: try all.",
        ),
        WrongAnswer(
            "scales of the last alpha",
            (
                _search(returned=lambda alpha, scales, i, errors, all_scales: (alpha, all_scales[-1])),
                _search(returned=lambda alpha, scales, i, errors, all_scales: (alpha, all_scales[0])),
            ),
            "The alpha is right, but the scales belong to another: keep them together, `best = (alpha, scales)`.",
        ),
        WrongAnswer(
            "always the last alpha",
            (
                lambda weight, inputs, num_bits, group_size, alphas: (
                    alphas[-1],
                    _power(_mean_magnitude(weight, inputs), alphas[-1]),
                ),
                _search(pick=lambda alphas, errors: int(np.argmax(alphas))),
                _search(pick=lambda alphas, errors: int(np.argmin(alphas))),
            ),
            "You return the alpha at one end of the list. Keep the best so far, and replace it only where the error is "
            "smaller.",
        ),
        WrongAnswer(
            "index or error instead of alpha",
            (
                _search(returned=lambda alpha, scales, i, errors, all_scales: (i, scales)),
                _search(returned=lambda alpha, scales, i, errors, all_scales: (errors[i], scales)),
            ),
            "The scales are right. In front of them belongs the alpha itself, not its place in the list or its error.",
        ),
        WrongAnswer(
            "only one of the two returned",
            (
                _search(returned=lambda alpha, scales, i, errors, all_scales: alpha),
                _search(returned=lambda alpha, scales, i, errors, all_scales: scales),
            ),
            "Return both, the best alpha and its scales: `return alpha, scales`.",
        ),
        WrongAnswer(
            "more than the two returned",
            (
                _search(returned=lambda alpha, scales, i, errors, all_scales: (alpha, scales, errors[i])),
                _search(returned=lambda alpha, scales, i, errors, all_scales: (alpha, scales, errors)),
            ),
            "Return two values, the best alpha and its scales. The error was only needed to find them.",
        ),
        WrongAnswer(
            "no guard for inputs that are always 0",
            (
                _search(scales_of=lambda magnitude, alpha: magnitude**alpha),
                _search(scales_of=lambda magnitude, alpha: np.exp(alpha * np.log(magnitude))),
            ),
            "An input that is always 0 has magnitude 0, and so would have scale 0: no column can be divided by that. "
            "At least 1e-4: `np.maximum(magnitude**alpha, 1e-4)`.",
        ),
        WrongAnswer(
            "another guard",
            (
                _search(scales_of=lambda magnitude, alpha: np.maximum(magnitude, 1e-4) ** alpha),
                _search(scales_of=lambda magnitude, alpha: (magnitude + 1e-4) ** alpha),
                _search(scales_of=lambda magnitude, alpha: magnitude**alpha + 1e-4),
                _search(scales_of=lambda magnitude, alpha: np.where(magnitude == 0, 1, magnitude**alpha)),
                _search(scales_of=lambda magnitude, alpha: np.maximum(magnitude**alpha, 1e-8)),
            ),
            "Your guard against 0 is another one. Raise to the power first, and then let no *scale* be less than 1e-4: "
            "`np.maximum(magnitude**alpha, 1e-4)`.",
        ),
        WrongAnswer(
            "times alpha instead of to the power",
            (
                _search(scales_of=lambda magnitude, alpha: np.maximum(magnitude * alpha, 1e-4)),
                _search(scales_of=lambda magnitude, alpha: np.maximum(1 + alpha * magnitude, 1e-4)),
                _search(scales_of=lambda magnitude, alpha: np.maximum(alpha**magnitude, 1e-4)),
            ),
            "Alpha is an exponent: `magnitude**alpha`. At 0 all scales are 1, at 1 they are the magnitudes.",
        ),
        WrongAnswer(
            "to the power 1 - alpha, or minus alpha",
            (
                _search(scales_of=lambda magnitude, alpha: np.maximum(magnitude ** (1 - alpha), 1e-4)),
                _search(scales_of=lambda magnitude, alpha: np.maximum(np.maximum(magnitude, 1e-8) ** -alpha, 1e-4)),
            ),
            "Your exponent runs the wrong way. `magnitude**alpha`: at alpha 0 all scales are 1, and they spread as it "
            "grows.",
        ),
        WrongAnswer(
            "scales up to a factor",
            (
                _search(scales_of=_normalized),
                _search(scales_of=lambda m, alpha: _power(m, alpha) / _power(m, alpha).mean()),
                _search(scales_of=lambda m, alpha: _power(m / (m.max() or 1), alpha)),
            ),
            "Your scales are the right ones up to a factor that all share. It cancels, since each group's step grows "
            "with it: leave it out, `np.maximum(magnitude**alpha, 1e-4)`.",
        ),
        WrongAnswer(
            "symmetric",
            (
                _search(
                    quantize=lambda w, num_bits, group_size: ql.fake_quantize(
                        w, num_bits, per="group", group_size=group_size
                    )
                ),
            ),
            "You round to symmetric codes, where other alphas may be best. Say `symmetric=False`.",
        ),
        WrongAnswer(
            "no groups",
            (
                _search(quantize=lambda w, b, group_size: ql.fake_quantize(w, b, symmetric=False, per="channel")),
                _search(quantize=lambda w, b, group_size: ql.fake_quantize(w, b, symmetric=False)),
            ),
            'Your steps are not per group. Hand both on: `per="group", group_size=group_size`.',
        ),
        WrongAnswer(
            "always 4 or 8 bits",
            (
                _search(quantize=lambda w, num_bits, group_size: _rounded(w, 4, group_size)),
                _search(quantize=lambda w, num_bits, group_size: _rounded(w, 8, group_size)),
            ),
            "You round to the same number of bits whatever `num_bits` says.",
        ),
    ),
)

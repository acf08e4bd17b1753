"""Exercise: how far a model's predictions moved from those of a baseline (notebook 06)."""

import numpy as np

from .base import Exercise, WrongAnswer


def kl_divergence(baseline_logits, logits):
    """Return the mean over tokens of sum(p * (log p - log q)), in nats: p is the baseline, q the other model."""

    def log_softmax(x):
        shifted = x - x.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    log_p, log_q = log_softmax(baseline_logits), log_softmax(logits)  # (tokens, vocab)
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean()


# In every case some tokens differ: were all divergences 0, a right answer's rounding errors would be all there is.
EXAMPLES = (
    (np.zeros((2, 3)), np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 1.0]])),
    (np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]]), np.array([[1.0, 0.0, 2.0], [4.0, 5.0, 7.0]])),
    (np.array([[1.0, -1.0], [0.0, 0.5]], dtype=np.float32), np.array([[0.0, 2.0], [-1.0, -3.0]], dtype=np.float32)),
    (
        np.array([[1000.0, 998.0, 999.0], [0.0, 1.0, 2.0]], dtype=np.float32),
        np.array([[998.0, 1000.0, 999.0], [-999.0, -998.0, -1000.0]], dtype=np.float32),
    ),
    (np.array([[0.0, 1.0], [0.0, 2.0]]), np.array([[1000.0, 0.0], [1.0, 0.0]])),  # q underflows
    (np.array([[1000.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])),  # p underflows
    (np.array([[3.0, 1.0, 2.0]]), np.array([[1.0, 1.0, 4.0]])),
)


def cases(rng):
    for tokens, vocab, noise, dtype in (
        (5, 5, 0.5, np.float64),
        (7, 4, 2.0, np.float32),
        (3, 12, 1.0, np.float32),
        (4, 4, 5.0, np.float64),
    ):
        yield _random(rng, tokens, vocab, noise, dtype)
    baseline, logits = _random(rng, 4, 7, 1.0, np.float64)  # each row shifted, which changes no probability
    yield baseline + rng.uniform(-1200, 1200, size=(4, 1)), logits + rng.uniform(-1200, 1200, size=(4, 1))
    baseline, logits = _random(rng, 6, 5, 2.0, np.float32)
    yield baseline + np.float32(rng.uniform(900, 1100)), logits + np.float32(rng.uniform(900, 1100))
    baseline, logits = _random(rng, 5, 6, 2.0, np.float32)
    yield baseline, 200 * logits  # some of q underflow


def _random(rng, tokens, vocab, noise, dtype):
    baseline = rng.normal(rng.uniform(-2, 2), 2, size=(tokens, vocab))
    return baseline.astype(dtype), (baseline + noise * rng.normal(size=baseline.shape)).astype(dtype)


def _log_softmax(logits, axis=1):
    shifted = logits - logits.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _softmax(logits, axis=1):
    e = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _mean_of(term, reduce=lambda terms: terms.sum(axis=1).mean()):
    """Another term for each token and entry of the vocabulary, from the right log p and log q."""
    return lambda baseline, logits: reduce(term(_log_softmax(baseline), _log_softmax(logits)))


def _divergence(log_p, log_q):
    return np.exp(log_p) * (log_p - log_q)


def _reduced(reduce):
    """The right terms, brought together in another way."""
    return _mean_of(_divergence, reduce)


def _from_logs(log_of):
    """The reference with another log softmax, for both models."""
    return lambda baseline, logits: _divergence(log_of(baseline), log_of(logits)).sum(axis=1).mean()


def _from_probabilities(result):
    """What `result` makes of the right probabilities (p, q), of which some are 0."""
    return lambda baseline, logits: result(_softmax(baseline), _softmax(logits))


def _by_ratio(p, q):
    return (p * np.log(p / q)).sum(axis=1).mean()


def _where_positive(p, q):
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / q), 0).sum(axis=1).mean()


def _where_both_positive(p, q):
    terms = np.where((p > 0) & (q > 0), p * np.log(p / q), 0)
    return terms.sum(axis=1).mean()


def _shifted(logits):
    return logits - logits.max(axis=1, keepdims=True)


def _unguarded(logits):
    e = np.exp(logits)
    return np.log(e / e.sum(axis=1, keepdims=True))


def _unguarded_log_sum(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _unguarded_ratio(baseline, logits):
    p, q = np.exp(baseline), np.exp(logits)
    return _by_ratio(p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True))


def _in_float64(function):
    return lambda *arrays: function(*(array.astype(np.float64) for array in arrays))


def _no_column_for_the_maximum(logits):
    return _unguarded_log_sum(logits - logits.max(axis=1))


def _no_column_for_the_sum(logits):
    return _shifted(logits) - np.log(np.exp(_shifted(logits)).sum(axis=1))


def _no_columns(logits):
    shifted = logits - logits.max(axis=1)
    return shifted - np.log(np.exp(shifted).sum(axis=1))


def _maximum_left_out(logits):
    return logits - np.log(np.exp(_shifted(logits)).sum(axis=1, keepdims=True))


def _maximum_left_out_of_the_sum(logits):
    return _shifted(logits) - np.log(np.exp(logits).sum(axis=1, keepdims=True))


_EPSILONS = (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15, 1e-16)


def _with_epsilon(epsilon):
    def added(p, q):
        return (p * (np.log(p + epsilon) - np.log(q + epsilon))).sum(axis=1).mean()

    def added_below(p, q):
        return (p * np.log(p / (q + epsilon) + epsilon)).sum(axis=1).mean()

    def clipped(p, q):
        return _by_ratio(np.maximum(p, epsilon), np.maximum(q, epsilon))

    return tuple(map(_from_probabilities, (added, added_below, clipped)))


def _exchanged(baseline, logits):
    return kl_divergence(logits, baseline)


def _jensen_shannon(p, q):
    half = (p + q) / 2
    with_zeros = [np.where(a > 0, a * np.log(np.where(a > 0, a, 1) / half), 0) for a in (p, q)]
    return (with_zeros[0] + with_zeros[1]).sum(axis=1).mean() / 2


def _at_the_likeliest(log_p, log_q):
    best = log_p.argmax(axis=1)[:, None]
    return np.take_along_axis(log_p, best, axis=1), np.take_along_axis(log_q, best, axis=1)


def _of_mean_predictions(p, q):
    p, q = p.mean(axis=0), q.mean(axis=0)
    return np.sum(p * np.log(p / q))


EXERCISE = Exercise(
    reference=kl_divergence,
    outputs=("kl",),
    checked="one token and more, vocabularies of 2 to 12, float32 and float64, tokens on which both models agree, "
    "logits shifted by a constant, probabilities too small for a float",
    examples=EXAMPLES,
    cases=cases,
    rtol=1e-4,  # float32 logits near 1000 hold no more than 1e-4 / 2 after the point
    hints=(
        "Two tables of log-probabilities, one for each model, by the log softmax of the last exercise. Write it once, "
        "as a function inside yours.",
        "With both tables nothing has to be divided: log(p / q) is `log_p - log_q`, and p is `np.exp(log_p)`.",
        "`np.exp(log_p) * (log_p - log_q)` is (tokens, vocab). Sum over the vocabulary, `axis=1`, then take the mean "
        "over the tokens.",
    ),
    wrong_answers=(
        WrongAnswer(
            "baseline and other model exchanged",
            (_exchanged,),
            "You have the two models the wrong way round. The baseline is p: its probabilities weight the differences, "
            "and they are log p - log q.",
        ),
        WrongAnswer(
            "weighted by the other model",
            (
                _mean_of(lambda log_p, log_q: np.exp(log_q) * (log_p - log_q)),
                _mean_of(lambda log_p, log_q: (np.exp(log_p) + np.exp(log_q)) / 2 * (log_p - log_q)),
            ),
            "You weight log p - log q by q. The weights are the baseline's probabilities, `np.exp(log_p)`.",
        ),
        WrongAnswer(
            "the sign",
            (_mean_of(lambda log_p, log_q: np.exp(log_p) * (log_q - log_p)),),
            "Your divergence is negative, and none can be. It is p * (log p - log q), in this order.",
        ),
        WrongAnswer(
            "no weights",
            (
                _mean_of(lambda log_p, log_q: log_p - log_q),
                _mean_of(lambda log_p, log_q: log_p - log_q, np.mean),
                _mean_of(lambda log_p, log_q: log_q - log_p),
                _mean_of(lambda log_p, log_q: log_q - log_p, np.mean),
            ),
            "Every entry of the vocabulary counts the same in your sum. Weight each difference by the baseline's "
            "probability, `np.exp(log_p)`.",
        ),
        WrongAnswer(
            "made symmetric",
            (
                lambda baseline, logits: kl_divergence(baseline, logits) + _exchanged(baseline, logits),
                lambda baseline, logits: (kl_divergence(baseline, logits) + _exchanged(baseline, logits)) / 2,
                _from_probabilities(_jensen_shannon),
            ),
            "You treat both models alike. The KL divergence is one-sided: sum(p * (log p - log q)), weighted by the "
            "baseline alone.",
        ),
        WrongAnswer(
            "averaged over the vocabulary",
            (_reduced(np.mean), _reduced(lambda terms: terms.sum() / terms.shape[1])),
            "You average over the vocabulary. Over it goes a sum, whose weights p add up to 1 already: "
            "`.sum(axis=1)`; the mean is over the tokens.",
        ),
        WrongAnswer(
            "summed over the tokens",
            (_reduced(np.sum),),
            "You sum over the tokens too, so a longer text has more divergence. Take the mean over the tokens.",
        ),
        WrongAnswer(
            "one value for each token or entry",
            (
                _reduced(lambda terms: terms.sum(axis=1)),
                _reduced(lambda terms: terms.mean(axis=1)),
                _reduced(lambda terms: terms.sum(axis=0)),
                _reduced(lambda terms: terms.mean(axis=0)),
                _reduced(lambda terms: terms),
            ),
            "You return an array. Return one number: sum over the vocabulary, `axis=1`, then the mean over the tokens.",
        ),
        WrongAnswer(
            "logarithm of another base",
            (
                _reduced(lambda terms: terms.sum(axis=1).mean() / np.log(2)),
                _reduced(lambda terms: terms.sum(axis=1).mean() / np.log(10)),
            ),
            "Your logarithm has another base: `np.log2` gives bits. Nats come from the natural one, `np.log`.",
        ),
        WrongAnswer(
            "no brackets",
            (_mean_of(lambda log_p, log_q: np.exp(log_p) * log_p - log_q),),
            "Mind the brackets: p weights the whole difference, `np.exp(log_p) * (log_p - log_q)`.",
        ),
        WrongAnswer(
            "one model twice",
            (
                lambda baseline, logits: kl_divergence(baseline, baseline),
                lambda baseline, logits: kl_divergence(logits, logits),
            ),
            "You compare a model with itself, which always gives 0. `log_p` comes from `baseline_logits`, `log_q` from "
            "`logits`.",
        ),
        WrongAnswer(
            "cross-entropy",
            (
                _mean_of(lambda log_p, log_q: -np.exp(log_p) * log_q),
                _mean_of(lambda log_p, log_q: np.exp(log_p) * log_q),
                _mean_of(lambda log_p, log_q: -np.exp(log_q) * log_p),
                _mean_of(lambda log_p, log_q: np.exp(log_p) * (log_p + log_q)),
            ),
            "That is not 0 where both models agree: part of it is the baseline's own uncertainty. Take that off: "
            "log p - log q, weighted by p.",
        ),
        WrongAnswer(
            "entropy",
            (
                _mean_of(lambda log_p, log_q: -np.exp(log_p) * log_p),
                _mean_of(lambda log_p, log_q: np.exp(log_p) * log_p),
                _mean_of(lambda log_p, log_q: -np.exp(log_q) * log_q),
                _mean_of(lambda log_p, log_q: np.exp(log_p) * log_p - np.exp(log_q) * log_q),
                _mean_of(lambda log_p, log_q: np.exp(log_q) * log_q - np.exp(log_p) * log_p),
            ),
            "That is an entropy, or the difference of two. KL keeps the weights p for both logarithms: "
            "p * log p - p * log q.",
        ),
        WrongAnswer(
            "a ratio without its logarithm",
            (
                _from_probabilities(lambda p, q: (p * p / q).sum(axis=1).mean()),
                _from_probabilities(lambda p, q: (p * (p - q)).sum(axis=1).mean()),
                _from_probabilities(lambda p, q: (p / q).sum(axis=1).mean()),
            ),
            "There is no logarithm in your sum. Compare logarithms of probabilities, log p - log q, weighted by p.",
        ),
        WrongAnswer(
            "quotient of logarithms",
            (
                _mean_of(lambda log_p, log_q: np.exp(log_p) * log_p / log_q),
                _mean_of(lambda log_p, log_q: np.exp(log_p) * np.log(np.abs(log_p / log_q))),
                _mean_of(lambda log_p, log_q: np.exp(log_p) * np.log(log_p / log_q)),
            ),
            "You divide one logarithm by the other. The logarithm of a quotient is a difference: log p - log q.",
        ),
        WrongAnswer(
            "logits taken for probabilities",
            (
                lambda baseline, logits: (baseline * np.log(baseline / logits)).sum(axis=1).mean(),
                lambda baseline, logits: (baseline * (np.log(baseline) - np.log(logits))).sum(axis=1).mean(),
                lambda baseline, logits: (baseline * (baseline - logits)).sum(axis=1).mean(),
                lambda baseline, logits: (np.exp(baseline) * (baseline - logits)).sum(axis=1).mean(),
                _from_logs(_shifted),
                _from_logs(lambda logits: np.log(logits / logits.sum(axis=1, keepdims=True))),
            ),
            "Logits are not yet probabilities, nor their logarithms: softmax makes them so, for both models. In "
            "logarithms, subtract `log(sum(exp(row)))` from each row.",
        ),
        WrongAnswer(
            "difference of the logits",
            (
                lambda baseline, logits: (_softmax(baseline) * (baseline - logits)).sum(axis=1).mean(),
                lambda baseline, logits: (
                    (_softmax(baseline) * (_shifted(baseline) - _shifted(logits))).sum(axis=1).mean()
                ),
            ),
            "Your weights are right, but what you subtract is logits. A shift of a row changes its logits and no "
            "probability: subtract from each its own `log(sum(exp(row)))`, then take `log_p - log_q`.",
        ),
        WrongAnswer(
            "softmax twice",
            (_from_logs(lambda logits: _log_softmax(_softmax(logits))),),
            "You apply softmax twice, to logits and then to the probabilities. Once is enough; then the logarithm.",
        ),
        WrongAnswer(
            "magnitudes of the differences",
            (
                _mean_of(lambda log_p, log_q: np.exp(log_p) * np.abs(log_p - log_q)),
                _mean_of(lambda log_p, log_q: np.abs(log_p - log_q)),
                _mean_of(lambda log_p, log_q: np.abs(log_p - log_q), np.mean),
            ),
            "Keep the signs of log p - log q: where one probability rises others fall, and KL weighs both.",
        ),
        WrongAnswer(
            "difference of the probabilities",
            (
                _from_probabilities(lambda p, q: np.abs(p - q).sum(axis=1).mean()),
                _from_probabilities(lambda p, q: np.abs(p - q).sum(axis=1).mean() / 2),
                _from_probabilities(lambda p, q: np.abs(p - q).mean()),
                _from_probabilities(lambda p, q: np.abs(p - q).max(axis=1).mean()),
                _from_probabilities(lambda p, q: (p - q).sum(axis=1).mean()),
            ),
            "You compare probabilities by subtracting. From 0.1 to 0.001 is a small difference but a large ratio: "
            "KL compares logarithms.",
        ),
        WrongAnswer(
            "squared errors",
            (
                _from_probabilities(lambda p, q: ((p - q) ** 2).mean()),
                _from_probabilities(lambda p, q: ((p - q) ** 2).sum(axis=1).mean()),
                _mean_of(lambda log_p, log_q: (log_p - log_q) ** 2, np.mean),
                _mean_of(lambda log_p, log_q: np.exp(log_p) * (log_p - log_q) ** 2),
                lambda baseline, logits: np.mean((baseline - logits) ** 2),
            ),
            "That is a squared error. KL squares nothing: it is the mean of log p - log q, weighted by p.",
        ),
        WrongAnswer(
            "softmax over the tokens or over everything",
            (
                _from_logs(lambda logits: _log_softmax(logits, axis=0)),
                _from_logs(lambda logits: _log_softmax(logits, axis=(0, 1))),
                lambda baseline, logits: _divergence(_log_softmax(baseline, 0), _log_softmax(logits, 0)).sum(0).mean(),
                _from_logs(lambda logits: logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())),
            ),
            "Each row is one prediction, so its probabilities add up to 1 over the vocabulary: `axis=1, keepdims=True` "
            "in the maximum and in the sum.",
        ),
        WrongAnswer(
            "logarithm of a probability that is 0",
            (
                _from_probabilities(_by_ratio),
                _from_probabilities(_where_positive),
                _from_probabilities(_where_both_positive),
                _from_probabilities(lambda p, q: np.nansum(p * np.log(p / q), axis=1).mean()),
                _from_logs(lambda logits: np.log(_softmax(logits))),
            ),
            "Very unlikely tokens get the probability 0 in floats, and log 0 is minus infinity. Never take the "
            "logarithm of softmax: log softmax is `shifted - np.log(np.exp(shifted).sum(...))`.",
        ),
        WrongAnswer(
            "a small number added to the probabilities",
            tuple(f for epsilon in _EPSILONS for f in _with_epsilon(epsilon)),
            "A small number inside the logarithm hides how unlikely a token was. None is needed: in "
            "`shifted - np.log(np.exp(shifted).sum(...))` no logarithm sees a 0.",
        ),
        WrongAnswer(
            "no maximum subtracted",
            (
                _from_logs(_unguarded_log_sum),
                _from_logs(_unguarded),
                _unguarded_ratio,
                _from_logs(_in_float64(_unguarded_log_sum)),
                _from_logs(_in_float64(_unguarded)),
                _in_float64(_unguarded_ratio),
            ),
            "Right for small logits, but exp(1000) overflows to infinity, and exp(-1000) is 0. Subtract each row's "
            "maximum first: `x - x.max(axis=1, keepdims=True)`. No probability changes.",
        ),
        WrongAnswer(
            "one maximum for all tokens",
            (
                _from_logs(lambda logits: _unguarded_log_sum(logits - logits.max())),
                _from_logs(lambda logits: _unguarded(logits - logits.max())),
                lambda baseline, logits: _unguarded_ratio(baseline - baseline.max(), logits - logits.max()),
            ),
            "You subtract the largest logit of all. Rows that lie far below it then get exp(...) = 0 everywhere: "
            "subtract from each row its own, `x.max(axis=1, keepdims=True)`.",
        ),
        WrongAnswer(
            "the maximum subtracted in one place only",
            (
                _from_logs(_maximum_left_out),
                _from_logs(_maximum_left_out_of_the_sum),
                lambda baseline, logits: (
                    _divergence(
                        _log_softmax(baseline), _unguarded_log_sum(logits - baseline.max(axis=1, keepdims=True))
                    )
                    .sum(axis=1)
                    .mean()
                ),
            ),
            "You subtract a maximum in one place and not, or another, in the next. Each model has its own: take it off "
            "once, `shifted = x - x.max(axis=1, keepdims=True)`, and go on with `shifted` only.",
        ),
        WrongAnswer(
            "no column for the maximum or for the sum",
            tuple(map(_from_logs, (_no_column_for_the_maximum, _no_column_for_the_sum, _no_columns))),
            "A maximum or sum over `axis=1` has shape (tokens,), and NumPy lines that up with the columns. "
            "`keepdims=True` makes it a column, (tokens, 1).",
        ),
        WrongAnswer(
            "only the likeliest token",
            (
                _mean_of(lambda log_p, log_q: np.subtract(*_at_the_likeliest(log_p, log_q))),
                _mean_of(lambda log_p, log_q: _divergence(*_at_the_likeliest(log_p, log_q))),
            ),
            "You look at the likeliest token only. KL sums over the whole vocabulary.",
        ),
        WrongAnswer(
            "how often both choose the same token",
            (
                lambda baseline, logits: np.mean(baseline.argmax(axis=1) == logits.argmax(axis=1)),
                lambda baseline, logits: np.mean(baseline.argmax(axis=1) != logits.argmax(axis=1)),
            ),
            "You count how often both models prefer the same token. KL compares their whole predictions: "
            "sum(p * (log p - log q)).",
        ),
        WrongAnswer(
            "averaged the predictions first",
            (_from_probabilities(_of_mean_predictions),),
            "You average the predictions of all tokens and compare the averages, where errors cancel. Compare token by "
            "token, then average.",
        ),
        WrongAnswer(
            "exp at the end",
            (_reduced(lambda terms: np.exp(terms.sum(axis=1).mean())),),
            "You take exp at the end, as for perplexity. A divergence stays in nats: leave it out.",
        ),
        WrongAnswer(
            "float16",
            (
                lambda baseline, logits: kl_divergence(baseline.astype(np.float16), logits.astype(np.float16)),
                lambda baseline, logits: np.float16(kl_divergence(baseline, logits)),
            ),
            "float16 has only three digits, and near 1000 its steps are 0.5. Leave the logits as they are.",
        ),
        WrongAnswer(
            "rounded for printing, or text",
            (
                *(lambda p, q, d=d: np.round(kl_divergence(p, q), d) for d in (0, 1, 2, 3)),
                *(lambda p, q, d=d: f"{kl_divergence(p, q):.{d}f}" for d in (2, 3, 4)),
            ),
            "Return the number as it is: rounding and text are for printing.",
        ),
    ),
)

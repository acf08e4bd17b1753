"""Exercise: the perplexity of a language model, from its logits and what really came next (notebook 06)."""

import numpy as np

from .base import Exercise, WrongAnswer


def perplexity(logits, targets):
    """Return exp of the mean of -log p(target): among how many equally likely tokens the model seems to choose."""
    shifted = logits - logits.max(axis=1, keepdims=True)  # the largest is 0 now, so no exp overflows
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))  # (tokens, vocab)
    log_p_targets = log_p[np.arange(len(targets)), targets]  # (tokens,)
    return np.exp(-log_p_targets.mean())


EXAMPLES = (
    (np.zeros((2, 4)), np.array([2, 0])),
    (np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]]), np.array([0, 1])),
    (np.array([[1.0, -1.0], [-2.0, 1.0], [0.0, 0.5]], dtype=np.float32), np.array([0, 1, 0])),
    (np.array([[1000.0, 998.0, 999.0], [1003.0, 1004.0, 1001.0]], dtype=np.float32), np.array([1, 0])),
    (np.array([[0.0, 2.0, 1.0], [1000.0, 998.0, 999.0]]), np.array([1, 2])),
    (np.array([[-1000.0, -998.0], [-999.0, -1000.0]]), np.array([1, 1])),
    (np.array([[0.0, 40.0, 1.0], [3.0, 0.0, 1.0]], dtype=np.float32), np.array([0, 0])),
    (np.array([[3.0, 1.0, 0.0]]), np.array([1])),
)


def cases(rng):
    for tokens, vocab, dtype in ((5, 5, np.float64), (9, 4, np.float32), (3, 12, np.float32), (4, 4, np.float32)):
        yield _random(rng, tokens, vocab, dtype)
    yield _random(rng, 1000, 8, np.float64)  # the product of so many probabilities is too small for a float
    logits, targets = _random(rng, 6, 5, np.float32)
    yield logits + np.float32(rng.uniform(900, 1100)), targets
    logits, targets = _random(rng, 4, 7, np.float64)
    yield logits + rng.uniform(-1200, 1200, size=(4, 1)), targets


def _random(rng, tokens, vocab, dtype):
    """Logits, and targets of which the likely ones are more frequent, as in a text that a model knows a little."""
    logits = rng.normal(rng.uniform(-2, 2), 2, size=(tokens, vocab))
    return logits.astype(dtype), (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def _log_softmax(logits, axis=1):
    shifted = logits - logits.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _softmax(logits, axis=1):
    e = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _at(table, targets):
    return table[np.arange(len(targets)), targets]


def _from_losses(result):
    """What `result` makes of the right -log p of each token."""
    return lambda logits, targets: result(-_at(_log_softmax(logits), targets))


def _from_probabilities(result):
    """What `result` makes of the right probability of each target."""
    return lambda logits, targets: result(_at(_softmax(logits), targets))


def _from_log_p(log_p_of):
    """The reference with another (tokens, vocab) table of logarithms."""
    return lambda logits, targets: np.exp(-_at(log_p_of(logits), targets).mean())


def _from_table(choose):
    """The right table of log p, but other places of it."""
    return lambda logits, targets: np.exp(-choose(_log_softmax(logits), targets).mean())


def _unguarded(logits):
    e = np.exp(logits)
    return np.log(e / e.sum(axis=1, keepdims=True))


def _unguarded_log_sum(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _in_float64(log_p_of):
    return lambda logits: log_p_of(logits.astype(np.float64))


def _shifted(logits):
    return logits - logits.max(axis=1, keepdims=True)


def _maximum_left_out(logits):
    return logits - np.log(np.exp(_shifted(logits)).sum(axis=1, keepdims=True))


def _maximum_left_out_of_the_sum(logits):
    return _shifted(logits) - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _rescaled(rescale):
    """log softmax of rescaled logits, which the shift by a maximum does not belong to."""
    return lambda logits: _unguarded_log_sum(rescale(logits))


def _clipped(limit):
    return _rescaled(lambda logits: np.clip(logits, -limit, limit))


def _maximum_along_tokens(logits):
    return logits - logits.max(axis=1)


def _sum_along_tokens(shifted):
    return shifted - np.log(np.exp(shifted).sum(axis=1))


def _no_column_for_the_maximum(logits):
    return _unguarded_log_sum(_maximum_along_tokens(logits))


def _no_column_for_the_sum(logits):
    return _sum_along_tokens(_shifted(logits))


def _no_column_for_the_sum_of_exp(logits):
    e = np.exp(_shifted(logits))
    return np.log(e / e.sum(axis=1))


def _no_columns(logits):
    return _sum_along_tokens(_maximum_along_tokens(logits))


_EPSILONS = (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15, 1e-16)


def _with_epsilon(epsilon):
    return (
        _from_log_p(lambda logits: np.log(_softmax(logits) + epsilon)),
        _from_log_p(lambda logits: np.log(np.maximum(_softmax(logits), epsilon))),
    )


def _entropy(logits, targets):
    log_p = _log_softmax(logits)
    return np.exp(-(np.exp(log_p) * log_p).sum(axis=1).mean())


def _sum_in_base_2(logits):
    return _shifted(logits) - np.log2(np.exp(_shifted(logits)).sum(axis=1, keepdims=True))


def _hits(logits, targets):
    return logits.argmax(axis=1) == targets


EXERCISE = Exercise(
    reference=perplexity,
    outputs=("perplexity",),
    checked="one token and 1000, vocabularies of 2 to 12, float32 and float64, logits up to 1000 and down to -1000, "
    "very unlikely tokens",
    examples=EXAMPLES,
    cases=cases,
    rtol=1e-4,  # float32 logits near 1000 hold no more than 1e-4 / 2 after the point
    hints=(
        "Four steps: logits become log-probabilities, each token's target is looked up, the mean, exp with a minus.",
        "log softmax of a row is `row - log(sum(exp(row)))`. exp overflows beyond 709 (in float32 beyond 88), so first "
        "subtract the row's maximum, which changes no probability: `logits.max(axis=1, keepdims=True)`.",
        "`log_p[np.arange(len(targets)), targets]` picks in each row the entry of its target. Then "
        "`np.exp(-picked.mean())`.",
    ),
    wrong_answers=(
        WrongAnswer(
            "no maximum subtracted",
            (
                _from_log_p(_unguarded),
                _from_log_p(_unguarded_log_sum),
                _from_log_p(_in_float64(_unguarded)),
                _from_log_p(_in_float64(_unguarded_log_sum)),
            ),
            "Right for small logits, but exp(1000) overflows to infinity, and exp(-1000) is 0. Subtract each row's "
            "maximum first: `logits - logits.max(axis=1, keepdims=True)`. No probability changes.",
        ),
        WrongAnswer(
            "the maximum subtracted in one place only",
            (_from_log_p(_maximum_left_out), _from_log_p(_maximum_left_out_of_the_sum)),
            "You subtract the maximum in one place and not in the other, so it stays in the result. Take it off once, "
            "`shifted = logits - logits.max(axis=1, keepdims=True)`, and go on with `shifted` only.",
        ),
        WrongAnswer(
            "one maximum for all tokens",
            (
                _from_log_p(lambda logits: _unguarded(logits - logits.max())),
                _from_log_p(lambda logits: _unguarded_log_sum(logits - logits.max())),
            ),
            "You subtract the largest logit of all. Rows that lie far below it then get exp(...) = 0 everywhere: "
            "subtract from each row its own, `logits.max(axis=1, keepdims=True)`.",
        ),
        WrongAnswer(
            "a maximum for each column",
            (
                _from_log_p(lambda logits: _unguarded(logits - logits.max(axis=0))),
                _from_log_p(lambda logits: _unguarded_log_sum(logits - logits.max(axis=0))),
            ),
            "You subtract the maximum of each column, which changes the probabilities. Only a shift of a whole row "
            "does not: `logits.max(axis=1, keepdims=True)`.",
        ),
        WrongAnswer(
            "made smaller by division, or clipped",
            (
                _from_log_p(_rescaled(lambda logits: logits / logits.max())),
                _from_log_p(_rescaled(lambda logits: logits / np.abs(logits).max())),
                _from_log_p(_rescaled(lambda logits: logits / logits.max(axis=1, keepdims=True))),
                _from_log_p(_rescaled(lambda logits: logits / np.abs(logits).max(axis=1, keepdims=True))),
                *(_from_log_p(_clipped(limit)) for limit in (20, 50, 80, 88, 100, 500, 700)),
            ),
            "Dividing or clipping logits changes the probabilities. Subtracting does not, as long as it is the same "
            "number in a whole row: its maximum.",
        ),
        WrongAnswer(
            "no column for the maximum or for the sum",
            (
                _from_log_p(_no_column_for_the_maximum),
                _from_log_p(_no_column_for_the_sum),
                _from_log_p(_no_column_for_the_sum_of_exp),
                _from_log_p(_no_columns),
            ),
            "A maximum or sum over `axis=1` has shape (tokens,), and NumPy lines that up with the columns. "
            "`keepdims=True` makes it a column, (tokens, 1).",
        ),
        WrongAnswer(
            "softmax over the tokens",
            (_from_log_p(lambda logits: _log_softmax(logits, axis=0)),),
            "Your softmax runs down the columns, over the tokens. Each row is one prediction: its probabilities add up "
            "to 1 over the vocabulary, `axis=1`.",
        ),
        WrongAnswer(
            "softmax over the whole array",
            (
                _from_log_p(lambda logits: _log_softmax(logits, axis=(0, 1))),
                _from_log_p(lambda logits: logits - logits.max() - np.log(np.exp(logits).sum())),
            ),
            "Your probabilities add up to 1 over the whole array. They should in each row: give the sum `axis=1, "
            "keepdims=True`.",
        ),
        WrongAnswer(
            "logits taken for probabilities or their logarithms",
            (
                _from_log_p(lambda logits: logits),
                _from_log_p(np.log),
                _from_log_p(lambda logits: np.log(logits / logits.sum(axis=1, keepdims=True))),
                _from_log_p(_shifted),
                _from_log_p(lambda logits: logits - logits.sum(axis=1, keepdims=True)),
                _from_log_p(lambda logits: _shifted(logits) - _shifted(logits).sum(axis=1, keepdims=True)),
                _from_log_p(lambda logits: _shifted(logits) - np.exp(_shifted(logits)).sum(axis=1, keepdims=True)),
                _from_log_p(lambda logits: logits - np.log(np.abs(logits).sum(axis=1, keepdims=True))),
            ),
            "Logits are not yet probabilities, nor their logarithms: softmax makes them so. In logarithms, subtract "
            "`log(sum(exp(row)))` from each row.",
        ),
        WrongAnswer(
            "softmax twice",
            (_from_log_p(lambda logits: _log_softmax(_softmax(logits))),),
            "You apply softmax twice, to logits and then to the probabilities. Once is enough; then the logarithm.",
        ),
        WrongAnswer(
            "no exp at the end",
            (
                _from_losses(np.mean),
                _from_losses(lambda losses: np.mean(losses) / np.log(2)),
                _from_losses(lambda losses: -np.mean(losses)),
            ),
            "That is the mean logarithm, known as the cross-entropy. Perplexity is exp of it (of -log p, so that it is "
            "at least 1).",
        ),
        WrongAnswer(
            "forgot the minus",
            (
                _from_losses(lambda losses: np.exp(-np.mean(losses))),
                _from_losses(lambda losses: -np.exp(-np.mean(losses))),
                _from_losses(lambda losses: -np.exp(np.mean(losses))),
            ),
            "The minus belongs inside the exp: log p is negative, -log p is the surprise. A perplexity is at least 1.",
        ),
        WrongAnswer(
            "logarithm and power of different bases",
            (
                _from_losses(lambda losses: np.exp(np.mean(losses) / np.log(2))),
                _from_losses(lambda losses: np.exp(np.mean(losses) / np.log(10))),
                _from_losses(lambda losses: 2 ** np.mean(losses)),
                _from_losses(lambda losses: 10 ** np.mean(losses)),
                _from_log_p(_sum_in_base_2),
            ),
            "Your logarithm and your power have different bases. `np.log` goes with `np.exp`; `np.log2` would go with "
            "`2 **`.",
        ),
        WrongAnswer(
            "averaged the probabilities",
            (
                _from_probabilities(lambda p: 1 / np.mean(p)),
                _from_probabilities(lambda p: np.mean(1 / p)),
                _from_probabilities(np.mean),
                _from_probabilities(lambda p: -np.log(np.mean(p))),
                _from_probabilities(lambda p: np.exp(-np.mean(p))),
                _from_probabilities(lambda p: np.exp(np.mean(p))),
                _from_probabilities(lambda p: np.exp(np.mean(1 / p))),
            ),
            "You average probabilities, or one over them. The mean is over the *logarithms*: -log p of each target, "
            "mean, then exp once.",
        ),
        WrongAnswer(
            "weighted by the probabilities",
            (
                _from_probabilities(lambda p: np.exp(-np.mean(p * np.log(p)))),
                _from_probabilities(lambda p: np.exp(-np.sum(p * np.log(p)) / np.sum(p))),
            ),
            "You weight each log p by p. Every token of the text counts once: take the plain mean of -log p.",
        ),
        WrongAnswer(
            "summed instead of averaged",
            (
                _from_losses(lambda losses: np.exp(np.sum(losses))),
                _from_losses(np.sum),
                _from_probabilities(lambda p: 1 / np.prod(p)),
            ),
            "You add up over the tokens, so a longer text is worse. Take the mean over the tokens.",
        ),
        WrongAnswer(
            "the root of a product",
            (
                _from_probabilities(lambda p: np.prod(p) ** (-1 / len(p))),
                _from_probabilities(lambda p: (1 / np.prod(p)) ** (1 / len(p))),
                _from_probabilities(lambda p: 1 / np.prod(p) ** (1 / len(p))),
            ),
            "Right for a few tokens, but the product of hundreds of probabilities is too small for a float and becomes "
            "0. Logarithms turn the product into a sum: exp of the mean of -log p.",
        ),
        WrongAnswer(
            "divided by something else than the number of tokens",
            (
                lambda logits, targets: np.exp(-_at(_log_softmax(logits), targets).sum() / logits.shape[1]),
                lambda logits, targets: np.exp(-_at(_log_softmax(logits), targets).sum() / logits.size),
                lambda logits, targets: np.exp(-_at(_log_softmax(logits), targets).sum() / (len(targets) - 1)),
            ),
            "Your mean is over another number than that of the tokens. There are `len(targets)`, one -log p each.",
        ),
        WrongAnswer(
            "the likeliest token in place of the target",
            (
                _from_table(lambda log_p, targets: log_p.max(axis=1)),
                _from_table(lambda log_p, targets: log_p[:, log_p.argmax(axis=1)]),
            ),
            "You look up the token that the model finds likeliest. Look up the one that really came next: `targets`.",
        ),
        WrongAnswer(
            "shifted by one",
            (
                _from_table(lambda log_p, targets: _at(log_p[:-1], targets[1:])),
                _from_table(lambda log_p, targets: _at(log_p[1:], targets[:-1])),
                _from_table(lambda log_p, targets: _at(log_p[:-1], targets[:-1])),
                _from_table(lambda log_p, targets: _at(log_p[1:], targets[1:])),
                _from_table(lambda log_p, targets: _at(log_p, np.roll(targets, -1))),
                _from_table(lambda log_p, targets: _at(log_p, np.roll(targets, 1))),
            ),
            "You shift or drop tokens. `targets[t]` already is what came after place t, so row t of the logits goes "
            "with `targets[t]`, to the last.",
        ),
        WrongAnswer(
            "each row with every target",
            (
                _from_table(lambda log_p, targets: log_p[:, targets]),
                lambda logits, targets: np.exp(-_log_softmax(logits)[:, targets].mean(axis=0)),
                lambda logits, targets: np.exp(-_log_softmax(logits)[:, targets].mean(axis=1)),
            ),
            "`log_p[:, targets]` is a (tokens, tokens) table: every row with every target. One target for each row is "
            "`log_p[np.arange(len(targets)), targets]`.",
        ),
        WrongAnswer(
            "rows looked up in place of columns",
            (
                _from_table(lambda log_p, targets: log_p[targets]),
                _from_table(lambda log_p, targets: log_p[targets, np.arange(len(targets))]),
                _from_table(lambda log_p, targets: log_p[targets, targets]),
            ),
            "Your targets choose rows. The first index is the token, the second the word of the vocabulary: "
            "`log_p[np.arange(len(targets)), targets]`.",
        ),
        WrongAnswer(
            "the whole vocabulary in place of the targets",
            (_from_table(lambda log_p, targets: log_p), _entropy),
            "Your result does not depend on `targets`. Of each row only one entry counts: that of the token that came "
            "next.",
        ),
        WrongAnswer(
            "accuracy",
            (
                lambda logits, targets: _hits(logits, targets).mean(),
                lambda logits, targets: 1 - _hits(logits, targets).mean(),
                lambda logits, targets: 1 / _hits(logits, targets).mean(),
            ),
            "You count how often the likeliest token is right. Perplexity asks how likely the right token was: "
            "-log p of each target.",
        ),
        WrongAnswer(
            "a small number added to the probabilities",
            tuple(f for epsilon in _EPSILONS for f in _with_epsilon(epsilon)),
            "A small number inside the logarithm hides how unlikely a token was. None is needed: in "
            "`shifted - np.log(np.exp(shifted).sum(...))` no logarithm sees a 0.",
        ),
        WrongAnswer(
            "one value for each token",
            (_from_losses(np.exp), _from_losses(lambda losses: losses), _from_probabilities(lambda p: p)),
            "You return a value for each token. Return one number: exp of the *mean* of -log p.",
        ),
        WrongAnswer(
            "float16",
            (
                lambda logits, targets: perplexity(logits.astype(np.float16), targets),
                lambda logits, targets: np.float16(perplexity(logits, targets)),
            ),
            "float16 has only three digits, and near 1000 its steps are 0.5. Leave the logits as they are.",
        ),
        WrongAnswer(
            "rounded for printing, or text",
            (
                *(lambda logits, targets, d=d: np.round(perplexity(logits, targets), d) for d in (0, 1, 2, 3)),
                *(lambda logits, targets, d=d: f"{perplexity(logits, targets):.{d}f}" for d in (1, 2, 3)),
            ),
            "Return the number as it is: rounding and text are for printing.",
        ),
    ),
)

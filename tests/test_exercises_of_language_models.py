"""The exercises of notebook 06: right answers in other styles pass, and a challenge has more than one right answer."""

import dataclasses
import itertools

import numpy as np
import pytest

from quantlab_helpers import exercises

PERPLEXITY, KL, MIXED = (exercises.get(name) for name in ("perplexity", "kl_divergence", "mixed_precision"))


# Perplexity


def _in_a_loop(logits, targets):
    total = 0.0
    for row, target in zip(logits.astype(float).tolist(), targets.tolist(), strict=True):
        largest = max(row)
        total += largest + np.log(sum(np.exp(x - largest) for x in row)) - row[target]
    return float(np.exp(total / len(targets)))


def _log_sum_exp_in_float32(logits, targets):
    logits = logits.astype(np.float32)
    largest = logits.max(axis=1)
    log_sum = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return np.exp(np.mean(log_sum - logits[np.arange(len(logits)), targets]))


def _by_softmax(logits, targets):
    e = np.exp(logits - logits.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    return np.exp(-np.log(p[range(len(targets)), targets]).mean())


def _taken_along_the_axis(logits, targets):
    log_sum = np.logaddexp.reduce(logits.astype(np.float64), axis=1)
    picked = np.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
    return np.exp((log_sum - picked).mean())


def _one_hot(logits, targets):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return np.exp(-np.sum(np.eye(logits.shape[1])[targets] * log_p) / len(targets))


def _in_base_2(logits, targets):
    return 2 ** (np.log(PERPLEXITY.reference(logits, targets)) / np.log(2))


@pytest.mark.parametrize(
    "another_style",
    [_in_a_loop, _log_sum_exp_in_float32, _by_softmax, _taken_along_the_axis, _one_hot, _in_base_2],
)
def test_perplexity_in_another_style_passes(another_style):
    report = PERPLEXITY.check(another_style)
    assert report.state == "passed", (report.hint, report.example)


def test_the_product_of_the_longest_text_is_too_small_for_a_float():
    long = [(logits, targets) for logits, targets in PERPLEXITY.all_cases() if len(targets) == 1000]
    assert all(np.log(PERPLEXITY.reference(*case)) * 1000 > 745 for case in long)  # exp(-745) is the last above 0
    assert len(long) == 3


def test_perplexity_counts_equally_likely_tokens():
    assert PERPLEXITY.reference(np.full((3, 7), 5.0), np.array([0, 3, 6])) == pytest.approx(7)
    certain = 1000.0 * np.eye(4)
    assert PERPLEXITY.reference(certain, np.arange(4)) == 1


def _without_a_maximum(logits, targets):
    p = np.exp(logits)
    p = p / p.sum(axis=1)[:, None]
    return np.exp(-np.log(p[np.arange(len(targets)), targets]).mean())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (_without_a_maximum, "overflows"),
        (lambda logits, t: 1.0 * _without_a_maximum(logits.astype(float), t), "overflows"),
        (lambda logits, t: np.log(_without_a_maximum(logits, t)), "cross-entropy"),
        (lambda logits, t: 1 / _without_a_maximum(logits, t), "at least 1"),
        (lambda logits, t: 2 ** np.log(_by_softmax(logits, t)), "different bases"),
        (lambda logits, t: np.exp(np.log(_by_softmax(logits, t)) * len(t)), "longer text"),
        (lambda logits, t: (logits.argmax(-1) == t).mean(), "how often"),
        (lambda logits, t: np.exp(-logits[np.arange(len(t)), t].mean()), "not yet probabilities"),
        (lambda logits, t: [_by_softmax(logits, t)], "Return one number"),
        (lambda logits, t: np.array([_by_softmax(logits, t)]), "shape is (1,)"),
    ],
)
def test_what_learners_type_for_perplexity_is_understood(wrong, told):
    report = PERPLEXITY.check(wrong)
    assert report.state == "failed"
    assert told in report.hint


# The KL divergence


def _token_by_token(baseline_logits, logits):
    total = 0.0
    for a, b in zip(baseline_logits.astype(float), logits.astype(float), strict=True):
        log_p, log_q = (row - np.logaddexp.reduce(row) for row in (a, b))
        total += sum(np.exp(x) * (x - y) for x, y in zip(log_p, log_q, strict=True))
    return total / len(logits)


def _log_sums_in_float32(baseline_logits, logits):
    a, b = np.float32(baseline_logits), np.float32(logits)
    log_p, log_q = (x - (x.max(1) + np.log(np.exp(x - x.max(1)[:, None]).sum(1)))[:, None] for x in (a, b))
    return np.einsum("tv,tv->t", np.exp(log_p), log_p - log_q).mean()


def _log_softmax(x):
    x = x - np.max(x, axis=-1, keepdims=True)
    return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))


def _cross_entropy_without_entropy(baseline_logits, logits):
    log_p = _log_softmax(baseline_logits)
    p = np.exp(log_p)
    cross_entropy = -np.sum(p * _log_softmax(logits)) / len(logits)
    return cross_entropy - -np.sum(p * log_p) / len(logits)


def _zeros_left_out(baseline_logits, logits):
    e = np.exp(baseline_logits - baseline_logits.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    terms = p * (np.log(np.where(p > 0, p, 1)) - _log_softmax(logits))
    return terms.sum(axis=1).mean()


@pytest.mark.parametrize(
    "another_style", [_token_by_token, _log_sums_in_float32, _cross_entropy_without_entropy, _zeros_left_out]
)
def test_kl_divergence_in_another_style_passes(another_style):
    report = KL.check(another_style)
    assert report.state == "passed", (report.hint, report.example)


def test_no_case_of_kl_divergence_is_all_rounding_error():
    """Results are compared by their size, so one near 0 would have to be right to the last digit."""
    assert min(KL.reference(*case) for case in KL.all_cases()) > 0.01


def test_kl_divergence_knows_no_shift_and_has_a_direction():
    x, y = np.random.default_rng(1).normal(size=(2, 5, 6))
    assert KL.reference(x, x + np.arange(5.0)[:, None]) == pytest.approx(0, abs=1e-15)
    assert KL.reference(x, y) > 0 < KL.reference(y, x) != KL.reference(x, y)


def _logarithms_of(softmax):
    return lambda b, q: (softmax(b) * (np.log(softmax(b)) - np.log(softmax(q)))).sum(axis=1).mean()


def _softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _plain_softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (_logarithms_of(_softmax), "log 0"),
        (_logarithms_of(_plain_softmax), "overflows"),
        (_logarithms_of(lambda x: _softmax(x) + 1e-10), "hides how unlikely"),
        (lambda b, q: KL.reference(q, b), "wrong way round"),
        (lambda b, q: KL.reference(b, q) / b.shape[1], "average over the vocabulary"),
        (lambda b, q: KL.reference(b, q) * len(b), "longer text"),
        (lambda b, q: np.float32(-(_softmax(b) * _log_softmax(q)).sum(1).mean()), "own uncertainty"),
        (lambda b, q: np.abs(_softmax(b) - _softmax(q)).sum(1).mean() / 2, "subtracting"),
        (lambda b, q: (_softmax(b) * (b - q)).sum(1).mean(), "A shift of a row"),
        (lambda b, q: (np.exp(_log_softmax(b)) * (_log_softmax(b) - _log_softmax(q))).sum(1), "Return one number"),
    ],
)
def test_what_learners_type_for_kl_divergence_is_understood(wrong, told):
    assert told in KL.check(wrong).hint


# The challenge: a width for each layer within a budget


def _total(divergence, bits):
    return np.sum(divergence * 4.0 ** (4 - bits))


def _filled(bits, divergence, num_weights, budget, worth):
    """`bits`, and more while any fit, always where `worth` is largest."""
    bits = np.array(bits)
    while True:
        fits = (bits < 8) & (num_weights <= 8 * budget - np.sum(num_weights * bits))
        if not fits.any():
            return bits
        gain = worth(divergence * 4.0 ** (4 - bits), num_weights)
        bits[max(np.flatnonzero(fits), key=lambda i: gain[i])] += 1


def _per_weight(gain, num_weights):
    return gain / num_weights


def _taken_away(divergence, num_weights, budget):
    bits = np.full(len(divergence), 8)
    while np.sum(num_weights * bits) > 8 * budget:
        loss = divergence * 4.0 ** (4 - bits) / num_weights
        bits[np.where(bits > 2, loss, np.inf).argmin()] -= 1
    return bits


def _taken_away_then_filled(divergence, num_weights, budget):
    bits = _taken_away(divergence, num_weights, budget)
    return _filled(bits, divergence, num_weights, budget, _per_weight)


def _by_a_threshold(divergence, num_weights, budget):
    """Every bit that gains more than a threshold per byte, found by halving; what is left goes to the largest gains."""
    low, high = -60.0, 60.0
    for _ in range(100):
        middle = (low + high) / 2
        bits = np.clip(np.round(np.log2(divergence / num_weights) / 2 - middle), 2, 8).astype(int)
        low, high = (low, middle) if np.sum(num_weights * bits) <= 8 * budget else (middle, high)
    bits = np.clip(np.round(np.log2(divergence / num_weights) / 2 - high), 2, 8).astype(int)
    return _filled(bits, divergence, num_weights, budget, lambda gain, num_weights: gain)


def _every_step_in_one_list(divergence, num_weights, budget):
    table = divergence * 4.0 ** (4 - np.arange(2, 8)[:, None]) / num_weights  # (widths, layers)
    bits, left = np.full(len(divergence), 2, dtype=np.int8), 8 * budget - 2 * num_weights.sum()
    for layer in np.argsort(-table, axis=None) % len(divergence):
        if num_weights[layer] <= left:
            bits[layer] += 1
            left -= num_weights[layer]
    return bits


def _dynamic_programming(divergence, num_weights, budget):
    """The best that there is: for each number of bits spent, the smallest total of the layers so far."""
    best = {0: (0.0, ())}
    for d, n in zip(divergence, num_weights.tolist(), strict=True):
        extended: dict = {}
        for (spent, (total, bits)), b in itertools.product(best.items(), range(2, 9)):
            size, candidate = spent + n * b, (total + d * 4.0 ** (4 - b), (*bits, b))
            if size <= 8 * budget and candidate < extended.get(size, (np.inf,)):
                extended[size] = candidate
        best = extended
    return np.array(min(best.values())[1])


def _every_combination(divergence, num_weights, budget):
    table = np.array(list(itertools.product(range(2, 9), repeat=len(divergence))))
    table = table[table @ num_weights <= 8 * budget]
    return table[(divergence * 4.0 ** (4 - table)).sum(axis=1).argmin()]


@pytest.mark.parametrize(
    "another_way", [_taken_away_then_filled, _by_a_threshold, _every_step_in_one_list, _dynamic_programming]
)
def test_mixed_precision_in_another_way_passes(another_way):
    report = MIXED.check(another_way)
    assert report.state == "passed", (report.hint, report.example)


def test_a_total_below_the_references_is_right_too():
    better = [
        _total(divergence, _dynamic_programming(divergence, num_weights, budget))
        < 0.99 * _total(divergence, MIXED.reference(divergence, num_weights, budget))
        for divergence, num_weights, budget in MIXED.all_cases()
    ]
    assert any(better)


def test_the_reference_is_the_best_in_every_example():
    """Greed is not always best; in the examples, whose answer is shown, it is."""
    for case in MIXED.examples:
        np.testing.assert_array_equal(MIXED.reference(*case), _every_combination(*case))


def test_the_reference_keeps_the_rules_and_beats_one_width_for_all():
    for divergence, num_weights, budget in MIXED.all_cases():
        bits = MIXED.reference(divergence, num_weights, budget)
        assert bits.min() >= 2 and bits.max() <= 8
        assert np.sum(num_weights * bits) / 8 <= budget
        uniform = min(int(8 * budget / num_weights.sum()), 8)
        assert _total(divergence, bits) <= _total(divergence, uniform)


def test_one_that_stops_at_the_budget_from_above_is_told_what_is_left():
    report = MIXED.check(_taken_away)
    assert "would still fit" in report.hint
    assert "from 49 bytes, where" in report.example[2]


def test_the_failing_example_is_small_and_says_which_rule_is_broken():
    undiagnosed = dataclasses.replace(MIXED, wrong_answers=())  # faster, and the example is the same
    for wrong in MIXED.wrong_answers:
        for function in wrong.functions:
            given, good, yours = undiagnosed.check(function).example
            assert given.count("]") == 2 and len(given) < 100, wrong.mistake  # at most four layers
            assert good.startswith("a good answer is ["), wrong.mistake
            assert ": " in yours or yours == "yours is ValueError", wrong.mistake


def _first_wrong(bits):
    """Right but for the first example, which is of three layers with 8 weights each and a budget of 12 bytes."""

    def function(divergence, num_weights, budget):
        return bits if budget == 12 else MIXED.reference(divergence, num_weights, budget)

    return function


@pytest.mark.parametrize(
    ("bits", "line"),
    [
        (np.array([6, 4, 3]), "yours is [6, 4, 3]: that takes 13 bytes, 1 over the budget"),
        (np.array([9, 1, 2]), "yours is [9, 1, 2]: every layer gets from 2 to 8 bits"),
        (np.array([4, 5, 3]), "yours is [4, 5, 3]: a predicted total of 0.405 from 12 bytes, where 0.255 is possible"),
        (np.array([5.0, 4.0, 3.0]), "yours is [5., 4., 3.]: not an array of whole numbers, one for each layer"),
        (np.array([5, 4]), "yours is [5, 4]: not an array of whole numbers, one for each layer"),
        ([5, 4, 3], "yours is [5, 4, 3]: not an array of whole numbers, one for each layer"),
        (None, "yours is None: not an array of whole numbers, one for each layer"),
    ],
)
def test_an_answer_that_breaks_a_rule_is_told_which(bits, line):
    assert MIXED.check(_first_wrong(bits)).example == (
        "For divergence = [0.3 , 0.1 , 0.02], num_weights = [8, 8, 8], budget = 12",
        "a good answer is [5, 4, 3]",
        line,
    )


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_bits_may_come_in_any_dtype_of_whole_numbers(dtype):
    assert MIXED.check(lambda *arguments: MIXED.reference(*arguments).astype(dtype)).state == "passed"


def test_a_good_answer_that_spoils_its_input_does_not_pass():
    def spoils(divergence, num_weights, budget):
        bits = _dynamic_programming(divergence, num_weights, budget)
        divergence /= 4
        return bits

    report = MIXED.check(spoils)
    assert "changes the array" in report.hint
    assert not report.example[2].count(":")


def test_an_error_is_no_answer_to_object_to():
    def stops(divergence, num_weights, budget):
        return MIXED.reference(divergence, num_weights, budget) if budget != 12 else divergence[12]

    report = MIXED.check(stops)
    assert "IndexError" in report.hint
    assert report.example[2] == "yours is IndexError"


@pytest.mark.parametrize("name", [name for name in exercises.names() if exercises.get(name).objection is None])
def test_where_one_answer_is_right_the_example_says_what_was_expected(name):
    report = exercises.get(name).check(exercises.get(name).wrong_answers[0].functions[0])
    assert report.example[1].startswith("expected ")

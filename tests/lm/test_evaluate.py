"""Perplexity, divergence and recall against slow computations that are plainly right."""

import copy
import pickle

import numpy as np
import pytest
from small_model import Letters

from quantlab_helpers.lm import evaluate
from quantlab_helpers.lm.evaluate import (
    Divergence,
    Perplexity,
    Recall,
    Yardstick,
    kl_divergence,
    perplexity,
    recall_accuracy,
)
from quantlab_helpers.lm.model import LanguageModel, LlamaConfig
from quantlab_helpers.lm.texts import Question, Tale

pytestmark = pytest.mark.filterwarnings("error")

TEXT = "The quick brown fox jumps over the lazy dog."
# Logits here reach 10 and have gone through some hundred roundings of 2**-24, whose sum grows like a random walk.
CLOSE = {"rel": 0, "abs": 10 * 10 * 2**-24}
WINDOWS = [(64, None), (43, None), (42, None), (8, None), (8, 8), (8, 3), (8, 1), (11, 10), (1, None), (43, 5), (64, 9)]


def make_model(seed=0, ffn_width=24, spread=1.0, **options):
    """A small model with random weights; `spread` multiplies its logits."""
    sizes = dict(vocab_size=128, width=16, ffn_width=ffn_width, num_layers=2, num_heads=4, num_kv_heads=2, head_size=4)
    config = LlamaConfig(**{**sizes, "max_context": 64, **options})
    rng = np.random.default_rng(seed)
    shapes = {"embedding": (config.vocab_size, 16), **config.linear_shapes(), "head": (config.vocab_size, 16)}
    weights = {name: rng.normal(size=shape).astype(np.float32) / 2 for name, shape in shapes.items()}
    weights["head"] *= np.float32(spread)
    norms = {name: np.ones(16, np.float32) for name in config.norm_names()}
    return LanguageModel(config, weights, norms, Letters(), name=f"model {seed}")


def contexts(num_tokens, window, stride=None):
    """For each token but the first, where what the model sees of it begins: the definition, one token at a time."""
    stride = stride or window
    for token in range(1, num_tokens):
        start = 0
        while token > start + window:  # the window at `start` is over before this token
            start += stride
        yield start, token


def log_probabilities(model, text, window, stride=None):
    """(tokens - 1, vocab_size) in float64: each token predicted by itself from its context."""
    tokens = model.tokenizer.encode_prompt(text)
    logits = np.array([model.logits(tokens[a:b])[-1] for a, b in contexts(len(tokens), window, stride)], np.float64)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), np.array(tokens[1:])


def losses_of(model, text, window, stride=None):
    log_p, targets = log_probabilities(model, text, window, stride)
    return -log_p[np.arange(len(targets)), targets]


# --- perplexity -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "stride"), WINDOWS)
def test_perplexity_is_that_of_one_token_at_a_time(window, stride):
    model = make_model()
    result = perplexity(model, TEXT, window=window, stride=stride)
    losses = losses_of(model, TEXT, window, stride)
    assert np.log(result) == pytest.approx(losses.mean(), **CLOSE)
    assert result.standard_error / result == pytest.approx(losses.std(ddof=1) / np.sqrt(len(losses)), **CLOSE)
    assert result.num_tokens == len(TEXT)  # the token in front is not predicted
    assert losses.std() > 1  # otherwise the order would not matter


@pytest.mark.parametrize("length", range(2, 30))
def test_every_token_but_the_first_is_predicted_once_with_the_context_promised(length):
    model = make_model()
    for window, stride in [(8, 8), (8, 5), (8, 1), (3, 2)]:
        windows = evaluate._windows(model, "abcdefghijklmnopqrstuvwxyz.,!"[: length - 1], window, stride)
        tokens = np.array(model.tokenizer.encode_prompt("abcdefghijklmnopqrstuvwxyz.,!"[: length - 1]))
        np.testing.assert_array_equal(windows.targets[windows.counts], tokens[1:])
        _, before = np.nonzero(windows.counts)
        assert (before[windows.counts[0].sum() :] >= window - stride).all()
        assert windows.inputs.size < len(tokens) or len(windows.inputs) > 1  # one window is not padded
        for inputs, targets, counts in zip(windows.inputs, windows.targets, windows.counts, strict=True):
            assert counts.any()  # no window is read in vain
            start = tokens.tolist().index(inputs[0])
            last = np.flatnonzero(counts)[-1]
            np.testing.assert_array_equal(inputs[: last + 1], tokens[start : start + last + 1])
            np.testing.assert_array_equal(targets[: last + 1], tokens[start + 1 : start + last + 2])


def test_a_window_is_512_tokens_unless_told():
    model = make_model(max_context=1024)
    text = TEXT * 14
    assert perplexity(model, text) == pytest.approx(perplexity(model, text, window=512, stride=512), **CLOSE)
    assert abs(perplexity(model, text) - perplexity(model, text, window=500)) > 1e-3


def test_a_model_that_knows_nothing_chooses_among_the_whole_vocabulary():
    model = make_model()
    ignorant = model.replace({"head": np.zeros_like(model.weights["head"])})
    result = perplexity(ignorant, TEXT, window=64)
    assert result == pytest.approx(128, rel=2**-20)  # log(128) = 4.85 is rounded to a float32
    assert result.standard_error == pytest.approx(0, abs=1e-12)
    assert kl_divergence(ignorant, ignorant, TEXT, window=64) == 0


def test_the_shortest_text_has_one_token_to_predict():
    model = make_model()
    result = perplexity(model, "a", window=64)
    assert result == pytest.approx(np.exp(losses_of(model, "a", 64)[0]), rel=CLOSE["abs"])
    assert result.num_tokens == 1
    assert result.standard_error == np.inf


def test_known_values():
    ours = Perplexity(np.array([1.0, 3.0]))
    assert (ours, ours.standard_error) == pytest.approx((np.e**2, np.e**2))  # the standard error of the mean is 1
    assert isinstance(ours, float)
    divergence = Divergence(np.array([1.0, 3.0]), np.array([True, False]))
    assert (divergence, divergence.standard_error, divergence.top1_agreement) == (2, 1, 0.5)
    recall = Recall(np.array([1.0, 0.0, 1.0, 1.0]), ["who", "who", "colour", "colour"])
    assert (recall, recall.num_questions) == (0.75, 4)
    assert recall.standard_error == pytest.approx(np.sqrt(0.75 * 0.25 / 3))
    assert recall.by_kind == {"colour": 1, "who": 0.5}
    assert list(recall.by_kind) == ["colour", "who"]


@pytest.mark.parametrize("spread", [30, 100])
def test_large_logits_do_not_overflow(spread):
    model, other = make_model(spread=spread), make_model(1, spread=spread)
    assert np.abs(model.logits([1, 2, 3])).max() > np.log(np.finfo(np.float32).max)  # exp of it is infinite
    ours, theirs = (log_probabilities(m, TEXT, 64)[0] for m in (other, model))
    measured = Yardstick(model, TEXT, window=64).measure(other)
    assert np.log(measured.perplexity) == pytest.approx(losses_of(other, TEXT, 64).mean(), abs=spread * CLOSE["abs"])
    # Errors of the baseline's logits change p as well: by as much, relative to p, and p multiplies 20 times `spread`.
    divergence = (np.exp(theirs) * (theirs - ours)).sum(axis=1).mean()
    assert measured.divergence == pytest.approx(divergence, abs=20 * spread * spread * CLOSE["abs"])


def test_perplexities_beyond_float64_are_infinite():
    assert Perplexity(np.array([1000.0, 2000.0])) == np.inf


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda result: pickle.loads(pickle.dumps(result))])
def test_results_can_be_copied_and_stored(duplicate):
    losses, flags = np.array([1.0, 3.0]), np.array([True, False])
    for result in (Perplexity(losses), Divergence(losses, flags), Recall(losses, ["who", "where"])):
        same = duplicate(result)
        assert (type(same), same, vars(same)) == (type(result), result, vars(result))


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("", {}, ValueError, "text must have at least 2 tokens, one to read and one to predict, not 1"),
        (TEXT, {"window": 0}, ValueError, "window must be from 1 to 64, not 0"),
        (TEXT, {"window": 65}, ValueError, "window must be from 1 to 64, not 65"),
        (TEXT, {"window": 8.0}, TypeError, "window must be a whole number"),
        (TEXT, {"window": 8, "stride": 0}, ValueError, "stride must be from 1 to 8, not 0"),
        (TEXT, {"window": 8, "stride": 9}, ValueError, "stride must be from 1 to 8, not 9"),
        (TEXT, {"window": 8, "stride": "4"}, TypeError, "stride must be a whole number"),
    ],
)
def test_refuses(text, options, error, message):
    model = make_model()
    options = {"window": 64, **options}
    for measure in (lambda: perplexity(model, text, **options), lambda: kl_divergence(model, model, text, **options)):
        with pytest.raises(error, match=message):
            measure()


# --- divergence -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "stride"), WINDOWS)
def test_divergence_is_that_of_one_token_at_a_time(window, stride):
    model, baseline = make_model(1), make_model(2)
    result = kl_divergence(model, baseline, TEXT, window=window, stride=stride)
    (ours, _), (theirs, _) = (log_probabilities(m, TEXT, window, stride) for m in (model, baseline))
    divergences = (np.exp(theirs) * (theirs - ours)).sum(axis=1)
    assert result == pytest.approx(divergences.mean(), **CLOSE)
    assert result.standard_error == pytest.approx(divergences.std(ddof=1) / np.sqrt(len(divergences)), **CLOSE)
    assert result.top1_agreement == (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()
    assert result.num_tokens == len(TEXT)
    assert abs(result - kl_divergence(baseline, model, TEXT, window=window, stride=stride)) > 0.01  # not symmetric


def test_a_model_does_not_diverge_from_itself():
    result = kl_divergence(make_model(), make_model(), TEXT, window=8, stride=3)
    assert result == pytest.approx(0, **CLOSE)
    assert result.top1_agreement == 1


def test_a_small_divergence_is_not_lost_in_rounding():
    model = make_model()
    near = model.replace({"head": model.weights["head"] + np.float32(1e-4) * make_model(5).weights["head"]})
    theirs, ours = (m.logits([0, *map(ord, TEXT[:-1])]).astype(np.float64) for m in (model, near))
    theirs, ours = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True) for logits in (theirs, ours))
    divergence = (np.exp(theirs) * (theirs - ours)).sum(axis=1).mean()
    assert 0 < divergence < 1e-7
    assert kl_divergence(near, model, TEXT, window=64) == pytest.approx(divergence, rel=0.01)


def test_top1_agreement_counts_tokens():
    model = make_model(spread=3)
    near = model.replace({"head": model.weights["head"] + np.float32(0.5) * make_model(5).weights["head"]})
    assert 0 < kl_divergence(near, model, TEXT, window=64).top1_agreement < 1


def test_a_yardstick_measures_many_models_as_if_each_were_alone():
    baseline, models = make_model(), [make_model(1), make_model(2), make_model()]
    yardstick = Yardstick(baseline, TEXT, window=8, stride=3)
    for model in models:
        measured = yardstick.measure(model)
        alone = perplexity(model, TEXT, window=8, stride=3)
        assert np.log(measured.perplexity) == pytest.approx(np.log(alone), **CLOSE)
        assert measured.perplexity.standard_error == pytest.approx(alone.standard_error, rel=CLOSE["abs"])
        assert measured.divergence == pytest.approx(kl_divergence(model, baseline, TEXT, window=8, stride=3), **CLOSE)


def test_the_baseline_reads_the_text_once(monkeypatch):
    baseline, model = make_model(), make_model(1)
    yardstick = Yardstick(baseline, TEXT, window=8)
    monkeypatch.setattr(baseline, "hidden_states", None)
    yardstick.measure(model)


def test_a_small_baseline_predicts_once_and_a_large_one_each_time(monkeypatch):
    baseline, models = make_model(), [make_model(1), make_model(2, ffn_width=96), make_model(3)]
    monkeypatch.setattr(evaluate, "BLOCK", 1000)  # models of another width are read in other blocks
    kept = Yardstick(baseline, TEXT, window=8)
    monkeypatch.setattr(evaluate, "KEPT_BYTES", 0)
    anew = Yardstick(baseline, TEXT, window=8)
    for model in models:
        assert kept.measure(model).divergence == anew.measure(model).divergence
    monkeypatch.setattr(baseline, "head", None)
    assert kept.measure(models[0]).divergence > 0
    with pytest.raises(TypeError):
        anew.measure(models[0])


@pytest.mark.parametrize("block", [1, 500, 1000])
def test_blocks_change_nothing(monkeypatch, block):
    model, baseline = make_model(1), make_model(2)
    before = Yardstick(baseline, TEXT, window=8, stride=3).measure(model)
    monkeypatch.setattr(evaluate, "BLOCK", block)
    after = Yardstick(baseline, TEXT, window=8, stride=3).measure(model)
    assert np.log(after.perplexity) == pytest.approx(np.log(before.perplexity), **CLOSE)
    assert after.divergence == pytest.approx(before.divergence, **CLOSE)
    assert after.divergence.top1_agreement == before.divergence.top1_agreement
    assert np.log(perplexity(model, TEXT, window=8, stride=3)) == pytest.approx(np.log(before.perplexity), **CLOSE)


def test_a_model_of_another_size_is_measured_too(monkeypatch):
    model, baseline = make_model(1, ffn_width=48, num_layers=1), make_model(2)
    before = kl_divergence(model, baseline, TEXT, window=8)
    monkeypatch.setattr(evaluate, "BLOCK", 8 * 24 * 3)  # 3 windows of the baseline at a time, but 1 of the model
    assert kl_divergence(model, baseline, TEXT, window=8) == pytest.approx(before, **CLOSE)


def test_another_vocabulary_is_refused():
    with pytest.raises(ValueError, match="model must have the baseline's vocabulary of 128 tokens, not 130"):
        kl_divergence(make_model(vocab_size=130), make_model(), TEXT, window=8)


# --- progress ---------------------------------------------------------------------------------------------


def test_only_much_work_shows_a_progress_bar(monkeypatch, capsys):
    model = make_model()
    products = model.num_parameters * 48  # 45 tokens, in 6 windows of 8
    for many, shows in ((products + 1, False), (products, True)):
        monkeypatch.setattr(evaluate, "MANY_PRODUCTS", many)
        perplexity(model, TEXT, window=8)
        assert ("model 0" in capsys.readouterr().err) is shows
        kl_divergence(make_model(3), model, TEXT, window=8)
        error = capsys.readouterr().err
        assert ("baseline" in error) is ("model 3" in error) is shows


# --- recall -----------------------------------------------------------------------------------------------


class Parrot:
    """A fake model that knows every next token, but never says `forbidden`; it keeps what it was given to read."""

    def __init__(self, forbidden=""):
        self.tokenizer, self.encode, self.forbidden = Letters(), Letters().encode, forbidden
        self.config, self.read = make_model().config, []

    def hidden_states(self, tokens):
        self.read += list(tokens)
        following = np.roll(tokens, -1, axis=-1)
        return np.where(np.isin(following, self.encode(self.forbidden)), 1, following)[..., None].astype(np.float32)

    def head(self, hidden):
        return np.float32(np.arange(128) == hidden)  # 1 at the token that it says


TALES = [
    Tale("Tom had a red hat.", (Question("colour", "what colour is the hat?", "red"),)),
    Tale(
        "Ann gave Mia three figs. Mia went to the lake.",
        (
            Question("who", "who has the figs?", "Mia"),
            Question("where", "where is Mia?", "lake"),
            Question("colour", "what colour is the lake?", "blue"),
        ),
    ),
]


@pytest.mark.parametrize(
    ("forbidden", "by_kind"),
    [
        ("", {"colour": 1, "where": 1, "who": 1}),
        ("T.\n:Q?", {"colour": 1, "where": 1, "who": 1}),  # what stands round an answer is not asked for
        (" ", {"colour": 0, "where": 0, "who": 0}),  # the first letter of each answer
        ("d", {"colour": 0.5, "where": 1, "who": 1}),  # the last of one
        ("b", {"colour": 0.5, "where": 1, "who": 1}),
        ("k", {"colour": 1, "where": 0, "who": 1}),
        ("M", {"colour": 1, "where": 1, "who": 0}),
        ("ad", {"colour": 0.5, "where": 0, "who": 0}),
        ("l", {"colour": 0.5, "where": 0, "who": 1}),
    ],
)
def test_an_answer_counts_if_all_its_tokens_are_right(forbidden, by_kind):
    result = recall_accuracy(Parrot(forbidden), TALES)
    assert result.by_kind == by_kind
    assert result == (2 * by_kind["colour"] + by_kind["where"] + by_kind["who"]) / 4
    assert result.num_questions == 4


@pytest.mark.parametrize("block", [1, evaluate.BLOCK])
def test_the_model_reads_a_story_and_one_question(monkeypatch, block):
    monkeypatch.setattr(evaluate, "BLOCK", block)
    model = Parrot()
    assert recall_accuracy(model, TALES) == 1
    asked = [(tale, question) for tale in TALES for question in tale.questions]
    for row, (tale, question) in zip(model.read, asked, strict=True):
        text = Tale(tale.story, (question,)).text.removesuffix(".")
        np.testing.assert_array_equal(row[: len(text) + 1], model.tokenizer.encode_prompt(text))


@pytest.mark.parametrize("tales", [[], [Tale("The end.", ())]])
def test_without_a_question_there_is_no_recall(tales):
    with pytest.raises(ValueError, match="tales must hold at least one question"):
        recall_accuracy(Parrot(), tales)


def test_a_tale_is_answered_alike_beside_longer_ones():
    model = make_model(max_context=256)
    told = [Tale("I see a dog.", (Question("who", "who?", "a"),)), *TALES]
    best = model.logits(model.tokenizer.encode_prompt(told[0].story + told[0].questions[0].asked)).argmax(axis=-1)[-1]
    model.tokenizer.encode = lambda text: [best] if text == " a" else [ord(letter) for letter in text]
    assert recall_accuracy(model, told[:1]) == 1  # the answer is what the model says
    assert recall_accuracy(model, told).by_kind["who"] == 0.5

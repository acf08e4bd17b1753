"""How good is a language model? Perplexity, divergence from a baseline, and recall, always on one fixed text.

Perplexity is exp of the mean negative log-likelihood of each next token: among how many equally likely tokens the
model seems to choose. The Kullback-Leibler divergence compares the whole prediction with a baseline's, token by token;
it is steadier, because it does not depend on how surprising the text is.

    perplexity = exp(mean(-log p(token)))
    KL = mean(sum(p_baseline * (log p_baseline - log p)))        in nats a token

Standard errors take tokens for independent, which flatters a little: read them as lower bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from ..validation import one_of, whole_number
from .cache import CACHE_FORMATS, KVCache
from .model import LanguageModel
from .texts import Tale

# Tokens x width of the feed-forward layer (or x vocabulary) that are worked on at a time: 16 MB of float32.
BLOCK = 1 << 22
# Multiplications from which on a progress bar is shown, about two seconds' worth: by work and not by the clock, so
# that a small model never shows one, however slow the machine.
MANY_PRODUCTS = 10**11
# A yardstick keeps the baseline's predictions where they are not larger than this: SmolLM2's would be.
KEPT_BYTES = 1 << 27


class _Result(float):
    """A number with others about it, which can be copied and pickled."""

    def __reduce__(self):
        return _restored, (type(self), float(self), vars(self))


def _restored(cls, value: float, others: dict):
    self = float.__new__(cls, value)
    vars(self).update(others)
    return self


class Perplexity(_Result):
    """A perplexity, which is a number, with its standard error and the number of tokens that were predicted."""

    standard_error: float
    num_tokens: int

    def __new__(cls, losses: np.ndarray):
        """Take the negative log-likelihood of each token."""
        with np.errstate(over="ignore"):  # infinite for a model that is ruined altogether
            value = float(np.exp(losses.mean()))
        self = super().__new__(cls, value)
        self.num_tokens = losses.size
        self.standard_error = value * _standard_error(losses)
        return self


class Divergence(_Result):
    """A mean KL divergence in nats a token, with its standard error and how often both predict the same token."""

    standard_error: float
    top1_agreement: float
    num_tokens: int

    def __new__(cls, divergences: np.ndarray, agrees: np.ndarray):
        self = super().__new__(cls, divergences.mean())
        self.num_tokens = divergences.size
        self.standard_error = _standard_error(divergences)
        self.top1_agreement = float(agrees.mean())
        return self


class Recall(_Result):
    """The share of right answers, with its standard error and the share for each kind of question."""

    standard_error: float
    num_questions: int
    by_kind: dict[str, float]

    def __new__(cls, right: np.ndarray, kinds: list[str]):
        self = super().__new__(cls, right.mean())
        self.num_questions = right.size
        self.standard_error = _standard_error(right)
        self.by_kind = {kind: float(right[np.array(kinds) == kind].mean()) for kind in sorted(set(kinds))}
        return self


@dataclass(frozen=True)
class Measurement:
    """What `Yardstick.measure` found of a model."""

    perplexity: Perplexity
    divergence: Divergence


class Yardstick:
    """A text and a baseline to measure many models against; the baseline reads the text just once.

    window  tokens that the model sees at a time
    stride  how far the window moves; every token but the first is predicted once, with at least window - stride
            tokens before it (from the second window on). None: as far as the window, so that nothing is read twice

    >>> yardstick = Yardstick(model, text)                                                           # doctest: +SKIP
    >>> yardstick.measure(quantize_model(model, num_bits=4)).divergence                              # doctest: +SKIP
    """

    def __init__(self, baseline: LanguageModel, text: str, *, window: int = 512, stride: int | None = None):
        self.baseline = baseline
        self.windows = _windows(baseline, text, window, stride)
        self._hidden = np.concatenate([hidden for hidden, _ in _read(baseline, self.windows, "baseline")])
        self._keeps = 8 * len(self._hidden) * baseline.config.vocab_size <= KEPT_BYTES
        self._kept = {}

    def measure(self, model: LanguageModel) -> Measurement:
        """Return the perplexity of `model`, which has the baseline's tokens, and its divergence from the baseline."""
        if model.config.vocab_size != self.baseline.config.vocab_size:
            raise ValueError(
                f"model must have the baseline's vocabulary of {self.baseline.config.vocab_size} tokens, "
                f"not {model.config.vocab_size}"
            )
        losses, divergences, agrees, done = [], [], [], 0
        for hidden, targets in _read(model, self.windows, model.name):
            for rows in _blocks(len(targets), model.config.vocab_size):
                ours = _log_softmax(model.head(hidden[rows]))
                theirs = self._predictions(done, len(ours))
                done += len(ours)
                losses.append(-ours[np.arange(len(ours)), targets[rows]])
                agrees.append(ours.argmax(axis=-1) == theirs.argmax(axis=-1))
                divergences.append(np.einsum("tv,tv->t", np.exp(theirs), theirs - ours))
        losses, divergences, agrees = map(np.concatenate, (losses, divergences, agrees))
        return Measurement(Perplexity(losses), Divergence(divergences, agrees))

    def _predictions(self, start: int, count: int) -> np.ndarray:
        """The baseline's log-probabilities (count, vocab_size) from the token `start` on."""
        if (start, count) in self._kept:
            return self._kept[start, count]
        log_p = _log_softmax(self.baseline.head(self._hidden[start : start + count]))
        if self._keeps:
            self._kept[start, count] = log_p
        return log_p


def perplexity(
    model: LanguageModel,
    text: str,
    *,
    window: int = 512,
    stride: int | None = None,
    cache_format: str | None = None,
) -> Perplexity:
    """Return the perplexity of `model` on a text. `window` and `stride` are those of `Yardstick`.

    cache_format  None, or a format of `KVCache`: what tokens see of earlier ones, and of themselves, goes through a
                  cache of that format, as it does when a text is written token by token

    The result is a float with `standard_error` and `num_tokens`. Raises ValueError for a text of less than two tokens
    and for a window beyond the model's context.
    """
    if cache_format is not None:
        one_of(cache_format, "cache_format", CACHE_FORMATS)
    losses = []
    for hidden, targets in _read(model, _windows(model, text, window, stride), model.name, cache_format):
        for rows in _blocks(len(targets), model.config.vocab_size):
            log_p = _log_softmax(model.head(hidden[rows]))
            losses.append(-log_p[np.arange(len(log_p)), targets[rows]])
    return Perplexity(np.concatenate(losses))


def kl_divergence(
    model: LanguageModel, baseline: LanguageModel, text: str, *, window: int = 512, stride: int | None = None
) -> Divergence:
    """Return how far the predictions of `model` are from those of `baseline`, which has the same tokens.

    The result is a float, in nats a token, with `standard_error`, `top1_agreement` and `num_tokens`. To compare several
    models with one baseline, a `Yardstick` is faster. Raises what `perplexity` raises.
    """
    return Yardstick(baseline, text, window=window, stride=stride).measure(model).divergence


def recall_accuracy(model: LanguageModel, tales: list[Tale]) -> Recall:
    """Return the share of questions about tales that the model answers rightly, all tokens of the answer.

    The model reads a tale and one question; the answer counts if, at each of its tokens, the model would have chosen
    that token. The result is a float with `standard_error`, `num_questions` and `by_kind`.
    """
    asked, answers, kinds = [], [], []
    for tale in tales:
        story = model.tokenizer.encode_prompt(tale.story)
        for question in tale.questions:
            asked.append(story + model.encode(question.asked))
            answers.append(model.encode(f" {question.answer}"))
            kinds.append(question.kind)
    if not asked:
        raise ValueError("tales must hold at least one question")
    right = []
    for some in _blocks(len(asked), max(map(len, asked)) * model.config.ffn_width):
        right += _answers_rightly(model, asked[some], answers[some])
    return Recall(np.array(right, np.float64), kinds)


def _answers_rightly(model: LanguageModel, asked: list[list[int]], answers: list[list[int]]) -> list[bool]:
    """Whether the likeliest tokens after each of `asked` are those of its answer."""
    tokens = [a + b for a, b in zip(asked, answers, strict=True)]
    padded = np.zeros((len(tokens), max(map(len, tokens))), np.int64)
    for row, sequence in zip(padded, tokens, strict=True):
        row[: len(sequence)] = sequence  # what stands behind the end is never looked at
    hidden = model.hidden_states(padded)
    spans = [range(len(a) - 1, len(sequence) - 1) for a, sequence in zip(asked, tokens, strict=True)]
    likeliest = model.head(np.concatenate([row[span] for row, span in zip(hidden, spans, strict=True)])).argmax(axis=-1)
    ends = np.cumsum([len(answer) for answer in answers])
    return [np.array_equal(part, answer) for part, answer in zip(np.split(likeliest, ends[:-1]), answers, strict=True)]


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else float("inf")


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log(softmax(logits)) over the last axis in float64: in float32, divergences below 1e-6 would be noise."""
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logits


def _blocks(count: int, width: int) -> Iterator[slice]:
    """Cut `count` rows of `width` numbers into blocks that fit in the cache."""
    step = max(1, BLOCK // width)
    return (slice(start, start + step) for start in range(0, count, step))


@dataclass(frozen=True)
class _Windows:
    """A text cut into windows: the tokens that are read, those that come next, and which of these count."""

    inputs: np.ndarray  # (windows, time); the last one may be padded at its end
    targets: np.ndarray  # (windows, time)
    counts: np.ndarray  # (windows, time) bool: every token but the first, in just one window


def _windows(model: LanguageModel, text: str, window: int, stride: int | None) -> _Windows:
    window = whole_number(window, "window", 1, model.config.max_context)
    stride = window if stride is None else whole_number(stride, "stride", 1, window)
    tokens = np.array(model.tokenizer.encode_prompt(text))
    if len(tokens) < 2:
        raise ValueError(f"text must have at least 2 tokens, one to read and one to predict, not {len(tokens)}")
    window = min(window, len(tokens) - 1)
    starts = np.arange(0, max(len(tokens) - 1 - window, 0) + stride, stride)
    places = starts[:, None] + np.arange(window)  # of each input
    is_new = np.arange(window) >= np.where(starts == 0, 0, window - stride)[:, None]
    counts = is_new & (places < len(tokens) - 1)
    padded = np.pad(tokens, (0, places.max() + 2 - len(tokens)))
    return _Windows(padded[places], padded[places + 1], counts)


def _read(
    model: LanguageModel, windows: _Windows, name: str, cache_format: str | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read window after window; yield what the head needs, (tokens, width), and the tokens to predict, (tokens,)."""
    step = max(1, BLOCK // (windows.inputs.shape[1] * model.config.ffn_width))
    is_quick = model.num_parameters * windows.inputs.size < MANY_PRODUCTS
    for first in tqdm(range(0, len(windows.inputs), step), desc=name, disable=is_quick, leave=False):
        some = slice(first, first + step)
        counts = windows.counts[some]
        inputs, cache = windows.inputs[some], None
        if cache_format is not None:
            cache = KVCache(model.config, inputs.shape[1], batch=len(inputs), format=cache_format)
        yield model.hidden_states(inputs, cache)[counts], windows.targets[some][counts]

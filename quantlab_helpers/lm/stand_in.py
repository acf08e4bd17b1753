"""A model that is large enough to measure speed on, whatever is on this computer."""

from __future__ import annotations

from .checkpoint import load
from .download import is_available
from .model import LanguageModel
from .shapes import KNOWN_SHAPES, random_model


def smollm2_or_stand_in() -> LanguageModel:
    """Return SmolLM2-135M if it is on this computer; else a model of its shape with random weights.

    The stand-in has the size and the speed of the real one, and writes words of TinyTales without any sense, for ever.
    """
    if is_available("smollm2-135m"):
        return load("smollm2-135m")
    model = random_model(KNOWN_SHAPES["SmolLM2-135M"])
    return LanguageModel(model.config, model.weights, model.norms, _Words(load("tinytales").tokenizer), model.name)


class _Words:
    """A tokenizer for more tokens than another has words: its words are told over and over."""

    stop_tokens = frozenset()

    def __init__(self, tokenizer):
        self.encode, self.encode_prompt = tokenizer.encode, tokenizer.encode_prompt
        self._tokenizer = tokenizer
        everything = set(range(tokenizer.vocab_size)) - tokenizer.stop_tokens
        self._words = [token for token in sorted(everything) if tokenizer.decode([token]).strip().isalpha()]

    def decode(self, tokens) -> str:
        return self._tokenizer.decode([self._words[token % len(self._words)] for token in tokens])

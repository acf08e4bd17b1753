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
    """A tokenizer for any number of tokens: each word becomes a token, and each token becomes a word of TinyTales."""

    stop_tokens = frozenset()

    def __init__(self, tokenizer):
        everything = (tokenizer.decode([token]) for token in range(tokenizer.vocab_size))
        self._words = [word for word in everything if word.startswith(" ") and word[1:].isalpha()]

    def encode(self, text: str) -> list[int]:
        return list(range(len(text.split())))

    encode_prompt = encode

    def decode(self, tokens) -> str:
        # Random weights soon repeat one token for ever. Its place counts, too, so that there is something to read.
        return "".join(self._words[(token + 37 * place) % len(self._words)] for place, token in enumerate(tokens))

"""The shapes of known small language models, and a model of any shape with random weights.

What a model takes in memory and how fast it writes depend on its shape alone: so both can be calculated for a model
that is not on this computer, and measured with weights that were drawn at random.

All are Llamas without biases. Source: `config.json` of each in its repository at https://huggingface.co.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..validation import whole_number
from .model import LanguageModel, LlamaConfig


@dataclass(frozen=True)
class ModelShape:
    """A configuration, and whether the model's output matrix is its embedding ("tied") or a matrix of its own.

    >>> KNOWN_SHAPES["SmolLM2-135M"].num_parameters
    134515008
    """

    config: LlamaConfig
    tied: bool

    @classmethod
    def of(cls, model: LanguageModel) -> ModelShape:
        """Return the shape of a model."""
        return cls(model.config, tied="head" not in model.weights)

    def matrices(self) -> dict[str, tuple[int, int]]:
        """The name and the shape (out, in) of every matrix."""
        vocabulary = (self.config.vocab_size, self.config.width)
        head = {} if self.tied else {"head": vocabulary}
        return {"embedding": vocabulary, **self.config.linear_shapes(), **head}

    @property
    def num_parameters(self) -> int:
        norms = len(self.config.norm_names()) * self.config.width
        return norms + sum(rows * columns for rows, columns in self.matrices().values())


def _shape(vocab_size, width, ffn_width, layers, heads, kv_heads, head_size, context, rope_base, *, tied=True):
    sizes = LlamaConfig(vocab_size, width, ffn_width, layers, heads, kv_heads, head_size, context, rope_base)
    return ModelShape(sizes, tied)


# vocabulary, width, feed-forward width, layers, heads of queries, heads of keys, head size, context, RoPE base
KNOWN_SHAPES: dict[str, ModelShape] = {
    "SmolLM2-135M": _shape(49152, 576, 1536, 30, 9, 3, 64, 8192, 1e5),
    "SmolLM2-360M": _shape(49152, 960, 2560, 32, 15, 5, 64, 8192, 1e5),
    "TinyLlama-1.1B": _shape(32000, 2048, 5632, 22, 32, 4, 64, 2048, 1e4, tied=False),
    "Llama-3.2-1B": _shape(128256, 2048, 8192, 16, 32, 8, 64, 131072, 5e5),
    "SmolLM2-1.7B": _shape(49152, 2048, 8192, 24, 32, 32, 64, 8192, 1.3e5),
    "Llama-3.2-3B": _shape(128256, 3072, 8192, 28, 24, 8, 128, 131072, 5e5),
    "Llama-3.1-8B": _shape(128256, 4096, 14336, 32, 32, 8, 128, 131072, 5e5, tied=False),
}


def random_model(shape: ModelShape, seed: int = 0) -> LanguageModel:
    """Return a model with normally distributed float32 weights. It has no tokenizer: give it tokens, not text.

    Raises TypeError or ValueError for another kind of shape or seed.

    >>> random_model(KNOWN_SHAPES["SmolLM2-135M"]).nbytes                                            # doctest: +SKIP
    538060032
    """
    if not isinstance(shape, ModelShape):
        raise TypeError(f"shape must be a ModelShape, as in KNOWN_SHAPES, not {type(shape).__name__}")
    rng = np.random.default_rng(whole_number(seed, "seed", 0, 2**63 - 1))
    weights = {
        # Rows of length 1: what goes through a layer keeps its size, and deep models stay finite.
        name: rng.standard_normal(size, np.float32) / np.float32(np.sqrt(size[1]))
        for name, size in shape.matrices().items()
    }
    norms = {name: np.ones(shape.config.width, np.float32) for name in shape.config.norm_names()}
    return LanguageModel(shape.config, weights, norms, name="random weights")

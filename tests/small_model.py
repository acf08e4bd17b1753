"""A small model with random weights, for tests that need no trained one."""

import numpy as np

from quantlab_helpers.lm.model import LanguageModel, LlamaConfig


class Letters:
    """A tokenizer: 0, then a token for each character."""

    stop_tokens = frozenset([10])

    def encode(self, text):
        return [ord(letter) for letter in text]

    def encode_prompt(self, text):
        return [0, *self.encode(text)]

    def decode(self, tokens):
        return "".join(map(chr, tokens))


def make_model(tied=False, width=32, max_context=64):
    """A small model with random weights, which nobody may write to."""
    sizes = dict(width=width, ffn_width=2 * width, num_heads=width // 8, num_kv_heads=width // 16, head_size=8)
    config = LlamaConfig(vocab_size=128, num_layers=2, max_context=max_context, **sizes)
    rng = np.random.default_rng(0)
    shapes = {"embedding": (128, width), **config.linear_shapes(), **({} if tied else {"head": (128, width)})}
    weights = {name: rng.normal(size=shape).astype(np.float32) / 4 for name, shape in shapes.items()}
    norms = {name: np.ones(width, np.float32) for name in config.norm_names()}
    for array in (*weights.values(), *norms.values()):
        array.flags.writeable = False
    return LanguageModel(config, weights, norms, Letters(), name="small")

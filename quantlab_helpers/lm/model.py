"""A Llama in NumPy float32: the architecture of Llama, SmolLM2, TinyLlama and many others.

    x = embedding[tokens]
    for each layer:   x += attention(norm(x)),   x += feed_forward(norm(x))
    logits = norm(x) @ head.T

RMSNorm: Zhang and Sennrich, arXiv 1910.07467. Rotary position embedding (RoPE): Su et al., arXiv 2104.09864. SwiGLU:
Shazeer, arXiv 2002.05202. Grouped-query attention: Ainslie et al., arXiv 2305.13245. Llama: Touvron et al.,
arXiv 2302.13971. The layer names are those of Hugging Face's `LlamaForCausalLM`, shortened.

A weight matrix is a float32 array (out, in), a `PackedTensor`, or any object with `shape` and `nbytes` that is called
on activations (..., in) and gives (..., out): so every layer can be replaced by name, and quantization methods plug in.
Where all are `KernelLinear`s, single tokens go through compiled code (`decode.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..kernel_linear import KernelLinear
from ..kernels import compiled_loops
from ..validation import integer_array, one_of, positive_number, whole_number
from .cache import CACHE_FORMATS, KVCache
from .threads import fitting_threads

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # of each layer
# Tokens worked on at a time: few enough for temporaries to stay in the cache, and, in attention, to leave out most of
# the scores of queries with keys that come later.
QUERY_BLOCK = 64
ROW_BLOCK = 64


@dataclass(frozen=True)
class LlamaConfig:
    """The sizes of a Llama and its few constants."""

    vocab_size: int
    width: int  # of the residual stream
    ffn_width: int  # of the feed-forward layer between gate/up and down
    num_layers: int
    num_heads: int  # of queries
    num_kv_heads: int  # of keys and values; each serves num_heads / num_kv_heads heads of queries
    head_size: int
    max_context: int  # tokens that the model was made for
    rope_base: float = 10000.0
    # Which two numbers of a query or key are turned together: i and i + head_size/2 ("half", as in safetensors of
    # Hugging Face) or 2i and 2i + 1 ("interleaved", as in GGUF, which stores the rows of q and k in that order).
    rope_layout: str = "half"
    rope_factors: tuple[float, ...] | None = None  # each of the head_size/2 frequencies is divided by its factor
    norm_eps: float = 1e-5
    # What config.json says of these factors, if the model comes from there: kept for those who export it.
    rope_scaling: Mapping | None = field(default=None, compare=False)

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """The name and the shape (out, in) of every linear layer, in the order in which they are used."""
        queries, keys = self.num_heads * self.head_size, self.num_kv_heads * self.head_size
        width, ffn = self.width, self.ffn_width
        outs_and_ins = (
            *((queries, width), (keys, width), (keys, width), (width, queries)),
            *((ffn, width), (ffn, width), (width, ffn)),
        )
        return {
            f"layers.{i}.{name}": shape
            for i in range(self.num_layers)
            for name, shape in zip(LINEARS, outs_and_ins, strict=True)
        }

    def norm_names(self) -> list[str]:
        """The names of the norms; each is a vector of `width` numbers."""
        return [f"layers.{i}.{part}_norm" for i in range(self.num_layers) for part in ("attention", "ffn")] + ["norm"]


class LanguageModel:
    """A Llama that reads and writes text.

    config     LlamaConfig
    weights    name -> matrix: "embedding" (vocab_size, width), each name of `config.linear_shapes()`, and "head"
               (vocab_size, width) where the output matrix is not the embedding
    norms      name -> float32 (width,) for each name of `config.norm_names()`
    tokenizer  turns text into tokens and back, see `tokenizer.py`; None is enough for `logits`

    Raises ValueError where names or shapes do not fit the configuration.
    """

    def __init__(self, config: LlamaConfig, weights: Mapping, norms: Mapping, tokenizer=None, name: str = ""):
        expected = {"embedding": (config.vocab_size, config.width), **config.linear_shapes()}
        if "head" in weights:
            expected["head"] = expected["embedding"]
        _check_shapes(weights, expected)
        _check_shapes(norms, dict.fromkeys(config.norm_names(), (config.width,)))
        self.config, self.weights, self.norms = config, dict(weights), dict(norms)
        self.tokenizer, self.name = tokenizer, name

    @property
    def linears(self) -> dict:
        """The linear layers of all blocks by name: what quantization is about. Embedding and head are apart."""
        return {name: self.weights[name] for name in self.config.linear_shapes()}

    def replace(self, weights: Mapping, norms: Mapping | None = None) -> LanguageModel:
        """Return a model that has the given matrices and norms, by name, in place of its own; it shares all others."""
        norms = norms or {}
        for kind, given, own in (("matrix", weights, self.weights), ("norm", norms, self.norms)):
            if unknown := set(given) - set(own):
                raise ValueError(f"the model has no {kind} {sorted(unknown)[0]!r}; it has {', '.join(own)}")
        weights, norms = {**self.weights, **weights}, {**self.norms, **norms}
        return LanguageModel(self.config, weights, norms, self.tokenizer, self.name)

    def expanded(self) -> LanguageModel:
        """Return a model that computes the same, from float32 in place of packed matrices: faster token by token.

        What computes from its packed weights itself, as `KernelLinear` does, stays as it is.
        """
        packed = {name: w for name, w in self.weights.items() if hasattr(w, "dequantize") and not callable(w)}
        return self.replace({name: w.dequantize() for name, w in packed.items()}) if packed else self

    @property
    def nbytes(self) -> int:
        """Bytes that all weights take as they are held now."""
        return sum(array.nbytes for array in (*self.weights.values(), *self.norms.values()))

    @property
    def num_parameters(self) -> int:
        return sum(int(np.prod(array.shape)) for array in (*self.weights.values(), *self.norms.values()))

    @property
    def bits_per_weight(self) -> float:
        """Bits held for each parameter of the whole model."""
        return 8 * self.nbytes / self.num_parameters

    def __repr__(self) -> str:
        sizes = f"{self.num_parameters:,} parameters, {self.nbytes / 1e6:.2f} MB, {self.bits_per_weight:.2f} bits each"
        return f"LanguageModel {self.name}: {self.config.num_layers} layers of width {self.config.width}, {sizes}"

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        return self.tokenizer.encode(text)

    def decode(self, tokens) -> str:
        """Return the text of tokens: that of `encode`, to the letter."""
        return self.tokenizer.decode(tokens)

    def logits(self, tokens, cache: KVCache | None = None) -> np.ndarray:
        """Return the logits of each next token: float32 (..., time, vocab_size) for tokens (time,) or (batch, time).

        With a `cache` the tokens go on where the cached ones ended, and are added to it.
        Raises TypeError or ValueError for tokens that are none of the vocabulary's, or too many.
        """
        return self.head(self.hidden_states(tokens, cache))

    def head(self, hidden: np.ndarray) -> np.ndarray:
        """Return the logits (..., vocab_size) of what `hidden_states` gave, or of a part of it."""
        with fitting_threads(self.config.width):
            return apply_linear(self.weights.get("head", self.weights["embedding"]), hidden)

    def hidden_states(self, tokens, cache: KVCache | None = None) -> np.ndarray:
        """Return what the head turns into logits: float32 (..., time, width), after the last norm."""
        start = cache.length if cache else 0
        tokens = self._checked(tokens, start)
        if cache and tokens.size == 1 and self._has_kernels:
            from .decode import next_hidden_state  # imports numba

            return next_hidden_state(self, int(tokens.reshape(())), cache).reshape(*tokens.shape, -1)
        x = self._rows(np.atleast_2d(tokens))  # (batch, time, width)
        turns = self._turns(start, x.shape[1])
        with fitting_threads(self.config.width):
            for i in range(self.config.num_layers):
                x += self._attention(i, self._norm(f"layers.{i}.attention_norm", x), turns, cache)
                x += self._feed_forward(i, self._norm(f"layers.{i}.ffn_norm", x))
        if cache:
            cache.length += x.shape[1]
        return self._norm("norm", x).reshape(*tokens.shape, -1)

    def _checked(self, tokens, start: int) -> np.ndarray:
        tokens = integer_array(tokens, "tokens")
        if tokens.ndim not in (1, 2) or tokens.size == 0:
            raise ValueError(f"tokens must have shape (time,) or (batch, time), not {tokens.shape}")
        if tokens.min() < 0 or tokens.max() >= self.config.vocab_size:
            allowed = f"from 0 to {self.config.vocab_size - 1}"
            raise ValueError(f"tokens must be {allowed}, not {tokens.min()} to {tokens.max()}")
        if start + tokens.shape[-1] > self.config.max_context:
            at_most = f"at most {self.config.max_context}, the context that the model was made for"
            raise ValueError(f"tokens must be {at_most}, not {start + tokens.shape[-1]}")
        return tokens

    @cached_property
    def _has_kernels(self) -> bool:
        """Whether every linear layer computes from packed weights by compiled code."""
        return all(isinstance(weight, KernelLinear) for weight in self.linears.values()) and bool(compiled_loops())

    def _rows(self, tokens: np.ndarray) -> np.ndarray:
        """Return the vectors of the tokens, a new float32 array (..., width)."""
        embedding = self.weights["embedding"]
        return embedding[tokens] if isinstance(embedding, np.ndarray) else embedding.rows(tokens)

    def _norm(self, name: str, x: np.ndarray) -> np.ndarray:
        mean_square = np.einsum("...i,...i->...", x, x)[..., None] / np.float32(x.shape[-1])
        return x / np.sqrt(mean_square + np.float32(self.config.norm_eps)) * self.norms[name]

    def _turns(self, start: int, time: int) -> tuple[np.ndarray, np.ndarray]:
        """Cosine and sine of the angle by which each pair of numbers turns: (time, 1, head_size/2)."""
        size = self.config.head_size
        frequencies = self.config.rope_base ** (-np.arange(0, size, 2) / size)
        if self.config.rope_factors is not None:
            frequencies /= self.config.rope_factors
        angles = np.arange(start, start + time)[:, None, None] * frequencies
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def _attention(self, layer: int, x: np.ndarray, turns, cache: KVCache | None) -> np.ndarray:
        config, (batch, time, _) = self.config, x.shape
        q, k, v = (apply_linear(self.weights[f"layers.{layer}.{name}"], x) for name in ("q_proj", "k_proj", "v_proj"))
        q = rotate(q.reshape(batch, time, -1, config.head_size), *turns, config.rope_layout)
        k = rotate(k.reshape(batch, time, -1, config.head_size), *turns, config.rope_layout)
        v = v.reshape(batch, time, -1, config.head_size)
        if cache:
            k, v = cache.extend(layer, k, v)
        q *= np.float32(config.head_size**-0.5)
        mixed = causal_attention(q, k, v).reshape(batch, time, -1)
        return apply_linear(self.weights[f"layers.{layer}.o_proj"], mixed)

    def _feed_forward(self, layer: int, x: np.ndarray) -> np.ndarray:
        gate, up = (apply_linear(self.weights[f"layers.{layer}.{name}"], x) for name in ("gate_proj", "up_proj"))
        return apply_linear(self.weights[f"layers.{layer}.down_proj"], swiglu(gate, up))

    def generate(self, prompt: str, max_tokens: int = 40, **options) -> str:
        """Return the text with which the model goes on after `prompt`; the options are those of `stream`."""
        return self.decode(list(self.stream(prompt, max_tokens, **options)))

    def stream(
        self, prompt: str, max_tokens: int = 40, *, temperature: float = 0.0, rng=None, cache_format: str = "float32"
    ) -> Iterator[int]:
        """Yield the tokens with which the model goes on after `prompt`, each as soon as it is known.

        max_tokens    stop after so many tokens, or where the model ends its text, or where its context is full
        temperature   0: always the likeliest token ("greedy"). Above 0: draw from softmax(logits / temperature), for
                      which `rng`, a np.random.Generator, is needed
        cache_format  in which the keys and values of earlier tokens are held: see `KVCache`
        """
        one_of(cache_format, "cache_format", CACHE_FORMATS)
        max_tokens = whole_number(max_tokens, "max_tokens", 1, self.config.max_context)
        if temperature != 0:
            positive_number(temperature, "temperature")
            if not isinstance(rng, np.random.Generator):
                raise TypeError(f"rng must be a np.random.Generator where temperature is above 0, not {rng!r}")
        return self._continuation(prompt, max_tokens, temperature, rng, cache_format)

    def _continuation(self, prompt, max_tokens, temperature, rng, cache_format) -> Iterator[int]:
        model, tokens = self.expanded(), self.tokenizer.encode_prompt(prompt)
        cache = KVCache(self.config, min(len(tokens) + max_tokens, self.config.max_context), format=cache_format)
        for _ in range(max_tokens):
            scores = model.head(model.hidden_states(tokens, cache)[-1])
            if temperature:  # the highest of logits with Gumbel noise is a draw from their softmax
                scores = scores / temperature + rng.gumbel(size=scores.shape)
            token = int(scores.argmax())
            if token in self.tokenizer.stop_tokens:
                return
            yield token
            if cache.length == self.config.max_context:
                return
            tokens = [token]


def apply_linear(weight, x: np.ndarray) -> np.ndarray:
    """Return the output (..., out) of a layer for x (..., in); see the top of this file for what a weight may be."""
    if callable(weight):
        return weight(x)
    matrix = weight if isinstance(weight, np.ndarray) else weight.dequantize()
    return (x.reshape(-1, x.shape[-1]) @ matrix.T).reshape(*x.shape[:-1], -1)  # one product for the whole batch


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, layout: str) -> np.ndarray:
    """Turn each pair of numbers of queries or keys (batch, time, heads, head_size) by the angle of its place.

    The result has one order for both layouts: all first numbers of the pairs, then all second ones. Products of
    queries with keys do not depend on the order.
    """
    half = x.shape[-1] // 2
    first, second = (x[..., :half], x[..., half:]) if layout == "half" else (x[..., 0::2], x[..., 1::2])
    return np.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


def causal_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return, for each query, the mean of the values weighted by softmax(q @ k.T), keys that come later left out.

    q (batch, time, heads, size), scaled already; k and v (batch, total, kv_heads, size), of which the last `time` are
    the queries' own tokens. Returns (batch, time, heads, size).
    """
    batch, time, heads, size = q.shape
    kv_heads, before = k.shape[2], k.shape[1] - time
    q = q.reshape(batch, time, kv_heads, heads // kv_heads, size).transpose(0, 2, 3, 1, 4)  # (b, kv, group, time, size)
    k, v = (array.transpose(0, 2, 1, 3)[:, :, None] for array in (k, v))  # (b, kv, 1, total, size)
    mixed = np.empty((batch, time, kv_heads, heads // kv_heads, size), np.float32)
    for start in range(0, time, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, time)
        seen = before + stop
        scores = q[:, :, :, start:stop] @ k[..., :seen, :].swapaxes(-1, -2)  # (b, kv, group, block, seen)
        scores[..., before + start :] += _later_keys(stop - start)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        block = scores @ v[..., :seen, :]
        block /= scores.sum(axis=-1, keepdims=True)
        mixed[:, start:stop] = block.transpose(0, 3, 1, 2, 4)
    return mixed.reshape(batch, time, heads, size)


def _later_keys(count: int) -> np.ndarray:
    """What is added to the scores of `count` queries with their own tokens' keys: -inf where the key comes later."""
    return np.triu(np.full((count, count), -np.inf, np.float32), 1)


def swiglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return gate * sigmoid(gate) * up, both of shape (..., ffn_width). Overwrites `gate`."""
    flat_gate, flat_up = (a.reshape(-1, a.shape[-1]) for a in (gate, up))
    with np.errstate(over="ignore"):  # exp(-gate) may be infinite: then the result is 0, as it should be
        for start in range(0, len(flat_gate), ROW_BLOCK):
            some = flat_gate[start : start + ROW_BLOCK]
            denominator = np.exp(-some)
            denominator += 1
            some /= denominator
            some *= flat_up[start : start + ROW_BLOCK]
    return flat_gate.reshape(gate.shape)


def _check_shapes(arrays: Mapping, expected: dict) -> None:
    if missing := [name for name in expected if name not in arrays]:
        raise ValueError(f"the model needs {missing[0]!r}, which is missing")
    if unknown := [name for name in arrays if name not in expected]:
        raise ValueError(f"the model has no place for {unknown[0]!r}")
    for name, shape in expected.items():
        if tuple(arrays[name].shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, not {tuple(arrays[name].shape)}")

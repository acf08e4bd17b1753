"""The KV cache: the keys and values of the tokens read so far, so that each new token costs one token's work.

It grows with every token, and in a long conversation it outgrows the weights: so it, too, is held in fewer bits.

    float32    as they are computed
    float16    half the bytes; an error of at most 2**-11 of each number
    int8       a quarter, and a float32 scale for each token and head: an error of at most half a step
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..affine import SMALLEST_SCALE
from ..validation import one_of, whole_number

if TYPE_CHECKING:
    from .model import LlamaConfig

CACHE_FORMATS = ("float32", "float16", "int8")
_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


class KVCache:
    """The keys and values of a batch of texts.

    capacity  tokens that fit in
    batch     texts that are read at a time
    format    one of CACHE_FORMATS

    Raises TypeError or ValueError for sizes that are no whole numbers above 0, and for another format.

    >>> from quantlab_helpers.lm import LlamaConfig
    >>> config = LlamaConfig(128, 32, 64, num_layers=2, num_heads=4, num_kv_heads=2, head_size=8, max_context=64)
    >>> [KVCache(config, capacity=10, format=format).nbytes for format in CACHE_FORMATS]
    [2560, 1280, 960]
    """

    def __init__(self, config: LlamaConfig, capacity: int, batch: int = 1, *, format: str = "float32"):
        capacity = whole_number(capacity, "capacity", 1, 2**31 - 1)
        batch = whole_number(batch, "batch", 1, 2**31 - 1)
        one_of(format, "format", CACHE_FORMATS)
        shape = (config.num_layers, batch, capacity, config.num_kv_heads, config.head_size)
        self.capacity, self.batch, self.format = capacity, batch, format
        self.keys, self.values = _Held(shape, format), _Held(shape, format)
        self.length = 0

    def __bool__(self) -> bool:  # an empty cache is a cache
        return True

    @property
    def nbytes(self) -> int:
        """Bytes that are held for all that fits in."""
        return self.keys.nbytes + self.values.nbytes

    def extend(self, layer: int, keys, values) -> tuple[np.ndarray, np.ndarray]:
        """Add the new tokens of one layer, float32 (batch, time, kv_heads, head_size).

        Returns all keys and values that there are, as float32: the new ones, too, as the format holds them.
        """
        end = self.length + keys.shape[1]
        if len(keys) != self.batch:
            raise ValueError(f"the cache is for a batch of {self.batch}, not {len(keys)}: make it with batch=...")
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} tokens, not {end}: make it with a larger capacity")
        for held, new in ((self.keys, keys), (self.values, values)):
            held.put(layer, slice(self.length, end), new)
        return self.keys.get(layer, end), self.values.get(layer, end)


class _Held:
    """Numbers (layers, batch, capacity, kv_heads, head_size) in one of the formats."""

    def __init__(self, shape: tuple[int, ...], format: str):
        self.codes = np.empty(shape, format)
        self.scale = np.empty((*shape[:-1], 1), np.float32) if format == "int8" else None

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def put(self, layer: int, where: slice, x: np.ndarray) -> None:
        if self.scale is not None:
            absmax = np.abs(x).max(axis=-1, keepdims=True)
            scale = np.where(absmax == 0, np.float32(1), np.maximum(absmax / np.float32(127), SMALLEST_SCALE))
            self.scale[layer, :, where] = scale
            x = np.rint(x / scale)
        elif self.codes.dtype == np.float16:
            x = x.clip(-_LARGEST_FLOAT16, _LARGEST_FLOAT16)
        self.codes[layer, :, where] = x

    def get(self, layer: int, end: int) -> np.ndarray:
        x = self.codes[layer, :, :end].astype(np.float32, copy=False)
        return x if self.scale is None else x * self.scale[layer, :, :end]

"""A matrix in one of the block formats of GGUF files, as llama.cpp, Ollama and LM Studio read them.

The `gguf` package, which llama.cpp's authors maintain, does the arithmetic here: formats of 32 neighbours to a block
can be written and read, the "K" formats, with 256 to a block and scales that are quantized themselves, only read. For
the two simplest, gguf_blocks.py shows in a few lines how it is done.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..validation import float32_array, one_of

BLOCK = 32
# Written by the gguf package. Bits per weight: 8.5, 6, 5.5, 5, 4.5 and 4.25.
GGUF_TYPES = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "MXFP4")


def gguf_quantize(weight, type: str) -> GgufTensor:
    """Hold a matrix (out, in) in a block format of GGUF_TYPES; 32 must divide in.

    Raises ValueError or TypeError for NaN, infinity, another shape or type, and for weights so large that a scale is
    beyond float16's range (MXFP4 has others).

    >>> gguf_quantize(np.eye(64), "Q4_1")
    GgufTensor(shape=(64, 64), Q4_1, 2,560 bytes, 5 bits per weight)
    """
    weight = float32_array(weight, "weight")
    if weight.ndim != 2:
        raise ValueError(f"weight must have 2 axes, (out, in), but its shape is {weight.shape}")
    if weight.shape[1] % BLOCK:
        raise ValueError(f"weight must have a last axis that {BLOCK} divides, but its shape is {weight.shape}")
    number = _numbers()[one_of(type, "type", GGUF_TYPES)]
    from gguf.quants import quantize

    with np.errstate(all="ignore"):  # what is beyond float16 is found below
        data = quantize(weight, number)
    tensor = GgufTensor(data, weight.shape, type)
    if not np.isfinite(tensor.dequantize()).all():
        raise ValueError(f"weight must fit in {type}, whose scales are float16, but reaches {np.abs(weight).max():g}")
    return tensor


@dataclass(frozen=True, eq=False, repr=False)
class GgufTensor:
    """A matrix (out, in) as the bytes of a GGUF file. Make one with `gguf_quantize`.

    data   uint8 (out, bytes of a row)
    shape  (out, in)
    type   the name of a type that the gguf package can read, such as "Q4_1" or "Q4_K"
    """

    data: np.ndarray
    shape: tuple[int, int]
    type: str

    def dequantize(self) -> np.ndarray:
        """Return the matrix that the bytes stand for: float32 (out, in)."""
        return self.rows(slice(None))

    def rows(self, which) -> np.ndarray:
        """Return some rows, float32 (..., in): `which` is whatever NumPy takes for an index of the first axis."""
        from gguf.quants import dequantize

        data = self.data[which]
        with np.errstate(all="ignore"):
            real = dequantize(data.reshape(-1, self.data.shape[1]), _numbers()[self.type])
        return real.reshape(*data.shape[:-1], self.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes held, scales included."""
        return self.data.nbytes

    @property
    def bits_per_weight(self) -> float:
        """Bits held for each weight, scales included."""
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])

    def __repr__(self) -> str:
        size = f"{self.nbytes:,} bytes, {self.bits_per_weight:g} bits per weight"
        return f"GgufTensor(shape={self.shape}, {self.type}, {size})"


def _numbers():
    """The numbers of the types in the file format, by name."""
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType.__members__

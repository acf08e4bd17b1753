"""NF4 and FP4 as bitsandbytes holds weights: sixteen levels between -1 and 1, and a scale for each block of 64.

    absmax = max(abs(block))
    code   = number of the level that is nearest to w / absmax          4 bits each
    w      = level of the code * absmax

A float32 absmax for each 64 weights costs half a bit per weight. Double quantization takes the absmaxes, less their
mean, for numbers to be quantized and does the same to them: 256 levels, the "dynamic map", and a float32 for each
block of 256. That leaves 8/64 + 32/(64*256) = 0.127 bits.

NF4 and double quantization: Dettmers et al., "QLoRA", arXiv 2305.14314. The dynamic map: Dettmers, "8-Bit
Approximations for Parallelism in Deep Learning", arXiv 1511.04561. Codes and values are those of bitsandbytes 0.50, to
the bit, in its reference implementation: its C++ kernel finds a level next to the nearest one for a few absmaxes in a
thousand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..number_formats import NF4_LEVELS
from ..validation import boolean, float32_array, one_of, whole_number

# In the order of the codes, whose highest bit is the sign. OCP's FP4 E2M1 has the same magnitudes, in another unit and
# order, but for one: it has 1 where bitsandbytes has 1/16.
_FP4_MAGNITUDES = np.float32([0, 1 / 16, 8, 12, 4, 6, 2, 3]) / np.float32(12)
LEVELS = {
    "nf4": np.float32(NF4_LEVELS),
    "fp4": np.concatenate([_FP4_MAGNITUDES, 0 - _FP4_MAGNITUDES]),
}
ABSMAX_BLOCK = 256  # absmaxes that share a scale in double quantization
LARGEST_BLOCK = 4096  # as in bitsandbytes
_SMALLEST = np.float32(1e-38)  # a smaller absmax has no reciprocal in float32


def nf4_quantize(weight, block_size: int = 64, double_quant: bool = False, *, table: str = "nf4") -> Nf4Tensor:
    """Quantize `weight`, of any shape, to the 4-bit levels of a table, with a scale for each block.

    block_size    how many neighbours share a scale: an even number from 2 to 4096. Blocks follow each other in C order,
                  from one row into the next; the last one may be short
    double_quant  hold the scales in 8 bits each, too
    table         "nf4", or "fp4": that of bitsandbytes, not OCP's FP4 E2M1

    A tie goes to the lower level. Raises ValueError or TypeError for NaN, infinity, values beyond float32's range, an
    empty weight and options out of range.

    >>> weight = np.random.default_rng(0).normal(size=(256, 64))
    >>> nf4_quantize(weight)
    Nf4Tensor(shape=(256, 64), nf4, blocks of 64, 9216 bytes, 4.5 bits per weight)
    >>> nf4_quantize(weight, double_quant=True)
    Nf4Tensor(shape=(256, 64), nf4, blocks of 64, double quantization, 8456 bytes, 4.12891 bits per weight)
    """
    weight = float32_array(weight, "weight")
    block_size = whole_number(block_size, "block_size", 2, LARGEST_BLOCK)
    if block_size % 2:
        raise ValueError(f"block_size must be even, so that a block fills whole bytes, not {block_size}")
    one_of(table, "table", LEVELS)
    codes, absmax = _quantize_blocks(weight.reshape(-1), block_size, LEVELS[table])
    codes = codes[: weight.size + weight.size % 2]  # in an odd number of weights, one more code fills the last byte
    packed = codes[0::2] << 4 | codes[1::2]
    scales = DoubleQuantized.from_float(absmax) if boolean(double_quant, "double_quant") else absmax
    return Nf4Tensor(packed, scales, weight.shape, block_size, table)


@dataclass(frozen=True, eq=False, repr=False)
class Nf4Tensor:
    """Weights in 4-bit codes, with what it takes to turn them back. Make one with `nf4_quantize`.

    packed      uint8 (bytes,): two codes a byte in C order, the first in the high nibble
    scales      the absmax of each block, as held: float32 (blocks,) or DoubleQuantized
    shape       of the weight
    block_size  weights that share an absmax
    table       "nf4" or "fp4"
    """

    packed: np.ndarray
    scales: np.ndarray | DoubleQuantized
    shape: tuple[int, ...]
    block_size: int
    table: str

    @property
    def absmax(self) -> np.ndarray:
        """The absmax of each block by which the levels are multiplied: float32 (blocks,)."""
        return self.scales.dequantize() if isinstance(self.scales, DoubleQuantized) else self.scales

    def dequantize(self) -> np.ndarray:
        """Return level * absmax: float32, in the shape of the weight."""
        values = _levels_of_bytes(self.table)[self.packed].reshape(-1)  # from (bytes, 2)
        return _dequantize_blocks(values[: math.prod(self.shape)], self.absmax, self.block_size).reshape(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes held: the packed codes and the scales."""
        return self.packed.nbytes + self.scales.nbytes

    @property
    def bits_per_weight(self) -> float:
        """Bits held for each weight, scales included."""
        return 8 * self.nbytes / math.prod(self.shape)

    def __repr__(self) -> str:
        double = ", double quantization" if isinstance(self.scales, DoubleQuantized) else ""
        return (
            f"Nf4Tensor(shape={self.shape}, {self.table}, blocks of {self.block_size}{double}, "
            f"{self.nbytes} bytes, {self.bits_per_weight:g} bits per weight)"
        )


@dataclass(frozen=True, eq=False)
class DoubleQuantized:
    """The absmaxes of a weight's blocks in 8 bits each: offset + level of the dynamic map * scale of its block of 256.

    codes   uint8 (n,)
    scales  float32 (ceil(n / 256),): the largest magnitude in each block, less the offset
    offset  float32, the mean of all
    """

    codes: np.ndarray
    scales: np.ndarray
    offset: np.float32

    @classmethod
    def from_float(cls, absmax: np.ndarray) -> DoubleQuantized:
        """Quantize float32 (n,)."""
        offset = np.float32(absmax.mean(dtype=np.float64))
        codes, scales = _quantize_blocks(absmax - offset, ABSMAX_BLOCK, dynamic_map())
        return cls(codes[: absmax.size], scales, offset)

    def dequantize(self) -> np.ndarray:
        """Return the absmaxes: float32 (n,)."""
        return _dequantize_blocks(dynamic_map()[self.codes], self.scales, ABSMAX_BLOCK) + self.offset

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes + self.offset.nbytes


@lru_cache
def dynamic_map() -> np.ndarray:
    """The 256 levels of 8-bit "dynamic" quantization: float32, sorted, from -0.993 to 1. Read-only.

    Seven decades, from 1e-7 up to 1, are cut into 1, 2, 4, ... 64 intervals of equal width, and the middle of each is a
    level, with either sign: the larger a number, the more precisely it is held. 0 and 1 make them 256.
    """
    levels = [np.float32([0, 1])]
    low, width = np.float32(0.1), np.float32(0.9)
    for decade in range(7):
        place = np.arange(2**decade + 1) / 2**decade  # of each edge, from 0 to 1
        # Edges are counted from the nearer end, as torch.linspace does: where they are rounded shows in the last bit.
        edges = np.where(place < 0.5, low + width * place, 1 - width * (1 - place)).astype(np.float32)
        middles = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - 6)
        levels += [middles, -middles]
    levels = np.sort(np.concatenate(levels))
    levels.flags.writeable = False
    return levels


def _quantize_blocks(values: np.ndarray, block_size: int, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes (blocks * block_size,) of the levels nearest to values / absmax, and the absmaxes (blocks,).

    values is float32 (n,). A last, short block is filled up with zeros.
    """
    blocks = _blocks(values, block_size)
    absmax = np.abs(blocks).max(axis=1)
    unit = blocks * (1 / np.maximum(absmax, _SMALLEST))[:, None]  # of magnitude 1 at most
    if values.size % block_size:  # where bitsandbytes divides, which may round otherwise
        absmax[-1] = np.maximum(absmax[-1], _SMALLEST)
        unit[-1] = blocks[-1] / absmax[-1]
    order = np.argsort(levels, kind="stable")
    midpoints = (levels[order][:-1] + levels[order][1:]) / 2
    places = np.zeros(unit.shape, np.uint8)  # in the sorted levels
    for midpoint in midpoints:  # 15 times faster for 16 levels than np.searchsorted
        places += unit > midpoint
    return order.astype(np.uint8)[places.reshape(-1)], absmax


def _dequantize_blocks(levels: np.ndarray, absmax: np.ndarray, block_size: int) -> np.ndarray:
    """Return each of the levels (n,) times the absmax of its block: float32 (n,)."""
    return (_blocks(levels, block_size) * absmax[:, None]).reshape(-1)[: levels.size]


def _blocks(values: np.ndarray, block_size: int) -> np.ndarray:
    """Return values (n,) as (blocks, block_size), with zeros at the end of the last block where n does not fill it."""
    missing = -values.size % block_size
    return (np.pad(values, (0, missing)) if missing else values).reshape(-1, block_size)


@lru_cache
def _levels_of_bytes(table: str) -> np.ndarray:
    """The two levels that each byte stands for: float32 (256, 2)."""
    byte = np.arange(256)
    return LEVELS[table][np.stack([byte >> 4, byte & 15], axis=1)]

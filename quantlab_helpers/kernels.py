"""Matrix-vector products that read packed weights directly: what makes a quantized model write faster.

To write one token, a model reads every weight once and does two operations with it: the time goes into reading. A
product that restores the floats first reads *more* than a float model; these read the packed bytes and nothing else.

float32_matvec    weight @ x
int8_matvec       (scale * codes) @ x                       "weight-only": 8-bit weights, float activations
int8_int8_matvec  scale * x_scale * (codes @ x_codes)       W8A8: integers, summed in int32
int4_matvec       (scale * (codes - zero_point)) @ x        scales of groups
int4_int8_matvec  the same with 8-bit activations           W4A8: integers up to each group's scale

The loops are compiled by numba (`kernels_compiled.py`) when they are first called. Where numba is not installed NumPy
computes the same numbers, slowly: integers alike to the last bit, floats but for float32's rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .affine import SMALLEST_SCALE, quantize
from .linear import MAX_TERMS, int8_matmul
from .packed import PackedTensor

# Whoever changes these two must delete numba's cache of kernels_compiled.py, which does not notice.
BLOCK_ROWS = 64  # rows of a block of int4 codes: one cache line of bytes for each pair of columns
TILE = 16  # columns that are summed before they are scaled: 16 * 15 * 127 still fits in int16
# Bytes of weights from which on all threads take part: fewer are read by one before it pays to wake the others up.
MANY_BYTES = 400_000
_EVERY_8 = 0x88  # two codes of 8 in a byte: flips the sign bits of two's complement, which makes -8..7 0..15


@cache
def compiled_loops():
    """Return the module of compiled loops, or None where numba cannot be imported."""
    try:
        from . import kernels_compiled
    except ImportError:  # not installed, or not for this Python or NumPy
        return None
    return kernels_compiled


@dataclass(frozen=True, eq=False)
class Int4Blocks:
    """A matrix (out, in) of 4-bit codes in groups, in the layout that the kernels read. Make one with `from_packed`.

    data        uint8 (blocks, in/2, 64): a block is 64 rows, the last one filled up. A byte holds the codes 0..15 of
                two neighbouring columns, the first in its low nibble. The bytes of 64 rows lie side by side, so that
                64 sums grow at once and none needs adding up across a vector
    scale       float32 (blocks, groups, 64)
    zero_point  uint8 like scale, or None: 8 everywhere (symmetric)
    num_rows    out

    >>> from quantlab_helpers import quantize
    >>> from quantlab_helpers.packed import pack_integers
    >>> Int4Blocks.from_packed(pack_integers(quantize(np.eye(64), 4, per="group", group_size=32))).shape
    (64, 64)
    """

    data: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray | None
    num_rows: int

    @classmethod
    def from_packed(cls, packed: PackedTensor) -> Int4Blocks:
        """Lay out what `pack_integers` packed: 4 bits, in groups of a multiple of 16 (else ValueError)."""
        if not isinstance(packed, PackedTensor):
            raise TypeError(f"packed must be a PackedTensor, not {type(packed).__name__}")
        if packed.format not in ("INT4", "UINT4") or len(packed.scale) != packed.shape[0]:
            raise ValueError(f"packed must hold 4-bit integers with scales of each row's own, not {packed}")
        columns, groups = packed.shape[1], packed.scale.shape[1]
        if columns % (groups * TILE):
            raise ValueError(f"packed must have groups of a multiple of {TILE} columns, not of {columns // groups}")
        data = packed.data if packed.format == "UINT4" else packed.data ^ np.uint8(_EVERY_8)
        zero_point = None if packed.zero_point is None else _in_blocks(packed.zero_point.astype(np.uint8))
        return cls(_in_blocks(data), _in_blocks(packed.scale), zero_point, packed.shape[0])

    def to_packed(self) -> PackedTensor:
        """Return what `from_packed` laid out."""
        data, scale = _in_rows(self.data, self.num_rows), _in_rows(self.scale, self.num_rows)
        if self.zero_point is None:
            return PackedTensor(data ^ np.uint8(_EVERY_8), scale, None, 4, self.shape, "INT4")
        return PackedTensor(data, scale, _in_rows(self.zero_point, self.num_rows), 4, self.shape, "UINT4")

    @property
    def shape(self) -> tuple[int, int]:
        return self.num_rows, 2 * self.data.shape[1]

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """Everything that is held."""
        return tuple(array for array in (self.data, self.scale, self.zero_point) if array is not None)

    def integers(self, which) -> np.ndarray:
        """Return codes - zero_point of some rows: int8 (rows, in)."""
        block, row = np.divmod(np.arange(self.num_rows)[which], BLOCK_ROWS)
        pairs = self.data[block, :, row]  # (rows, in/2)
        codes = np.stack([pairs & 15, pairs >> 4], axis=-1).view(np.int8).reshape(len(pairs), -1, self._group_size)
        codes -= np.int8(8) if self.zero_point is None else self.zero_point[block, :, row].view(np.int8)[..., None]
        return codes.reshape(len(pairs), -1)

    def row_scales(self, which) -> np.ndarray:
        """Return the scales of some rows: float32 (rows, groups)."""
        block, row = np.divmod(np.arange(self.num_rows)[which], BLOCK_ROWS)
        return self.scale[block, :, row]

    @property
    def _group_size(self) -> int:
        return 2 * self.data.shape[1] // self.scale.shape[1]


def _in_blocks(array: np.ndarray) -> np.ndarray:
    """Lay (out, n) out as (blocks, n, 64), filled up with zeros."""
    filled = np.pad(array, ((0, -len(array) % BLOCK_ROWS), (0, 0)))
    return np.ascontiguousarray(filled.reshape(-1, BLOCK_ROWS, array.shape[1]).transpose(0, 2, 1))


def _in_rows(blocks: np.ndarray, num_rows: int) -> np.ndarray:
    """The inverse of `_in_blocks`."""
    return np.ascontiguousarray(blocks.transpose(0, 2, 1).reshape(-1, blocks.shape[1])[:num_rows])


def float32_matvec(weight, x) -> np.ndarray:
    """Return weight @ x: float32 (out,) for float32 weight (out, in) and x (in,). It is here to compare with.

    Raises TypeError for another dtype and ValueError for another shape or memory order, as all of these do.
    """
    _check("weight", weight, np.float32, (None, None))
    _check("x", x, np.float32, weight.shape[1:])
    if (loops := compiled_loops()) is None:
        return weight @ x
    y = np.empty(len(weight), np.float32)
    _fitting(loops.float32, weight)(weight, x, y)
    return y


def int8_matvec(codes, scale, x) -> np.ndarray:
    """Return (scale * codes) @ x: float32 (out,) for int8 codes (out, in), float32 scale (out,) and x (in,).

    >>> int8_matvec(np.array([[1, -2]], np.int8), np.float32([0.5]), np.float32([3, 1]))
    array([0.5], dtype=float32)
    """
    _check_int8(codes, scale)
    _check("x", x, np.float32, codes.shape[1:])
    return int8_product(codes, scale, x)


def int8_int8_matvec(codes, scale, x_codes, x_scale) -> np.ndarray:
    """Return scale * x_scale * (codes @ x_codes), summed in int32: float32 (out,).

    codes and x_codes are int8, (out, in) and (in,), of at most 131,071 columns; scale is float32 (out,) and x_scale a
    number: see `quantize_vector`.
    """
    _check_int8(codes, scale)
    _check("x_codes", x_codes, np.int8, codes.shape[1:])
    return int8_int8_product(codes, scale, x_codes, np.float32(x_scale))


def int4_matvec(matrix: Int4Blocks, x) -> np.ndarray:
    """Return (scale * (codes - zero_point)) @ x: float32 (out,) for float32 x (in,)."""
    _check("x", x, np.float32, matrix.shape[1:])
    return int4_product(matrix, x)


def int4_int8_matvec(matrix: Int4Blocks, x_codes, x_scale) -> np.ndarray:
    """Return the same for activations x_scale * x_codes, with int8 x_codes (in,): integers within each group."""
    _check("x_codes", x_codes, np.int8, matrix.shape[1:])
    return int4_int8_product(matrix, x_codes, np.float32(x_scale))


def quantize_vector(x) -> tuple[np.ndarray, np.float32]:
    """Return the codes, int8 (in,), and the scale of float32 x (in,): those of `quantize(x, 8)`.

    >>> quantize_vector(np.float32([-1.27, 0.5]))
    (array([-127,   50], dtype=int8), np.float32(0.01))
    """
    _check("x", x, np.float32, (None,))
    if (loops := compiled_loops()) is None:
        quantized = quantize(x, 8)
        return quantized.codes, quantized.scale[()]
    codes = np.empty(len(x), np.int8)
    return codes, np.float32(loops.quantize_int8(x, np.float32(SMALLEST_SCALE), codes))


# The same products for layers, which call them some hundred times a token with arrays that they know: unchecked.


def int8_product(codes, scale, x) -> np.ndarray:
    if (loops := compiled_loops()) is None:
        return scale * np.concatenate([codes[rows].astype(np.float32) @ x for rows in row_pieces(codes.shape)])
    y = np.empty(len(codes), np.float32)
    _fitting(loops.int8, codes)(codes, scale, x, y)
    return y


def int8_int8_product(codes, scale, x_codes, x_scale) -> np.ndarray:
    if (loops := compiled_loops()) is None:
        sums = np.concatenate([int8_matmul(x_codes, codes[rows]) for rows in row_pieces(codes.shape)])
        return sums.astype(np.float32) * scale * x_scale
    y = np.empty(len(codes), np.float32)
    _fitting(loops.int8_int8, codes)(codes, scale, x_codes, x_scale, y)
    return y


def int4_product(matrix: Int4Blocks, x) -> np.ndarray:
    if (loops := compiled_loops()) is None:
        return _sums_of_groups(matrix, x)
    y = np.empty((len(matrix.data), BLOCK_ROWS), np.float32)
    _fitting(loops.int4, matrix.data)(matrix.data, matrix.scale, matrix.zero_point, x, y)
    return y.reshape(-1)[: matrix.num_rows]


def int4_int8_product(matrix: Int4Blocks, x_codes, x_scale) -> np.ndarray:
    if (loops := compiled_loops()) is None:
        return _sums_of_groups(matrix, x_codes.astype(np.float32)) * x_scale
    y = np.empty((len(matrix.data), BLOCK_ROWS), np.float32)
    _fitting(loops.int4_int8, matrix.data)(matrix.data, matrix.scale, matrix.zero_point, x_codes, x_scale, y)
    return y.reshape(-1)[: matrix.num_rows]


def _sums_of_groups(matrix: Int4Blocks, x: np.ndarray) -> np.ndarray:
    """Sum each group, of integers where x holds any (which float32 adds without rounding), and scale the sums."""
    y = np.empty(matrix.num_rows, np.float32)
    groups = matrix.scale.shape[1]
    for rows in row_pieces(matrix.shape):
        integers = matrix.integers(rows).astype(np.float32)
        sums = np.einsum("rgi,gi->rg", integers.reshape(len(integers), groups, -1), x.reshape(groups, -1))
        y[rows] = (sums * matrix.row_scales(rows)).sum(axis=1)
    return y


def row_pieces(shape: tuple[int, int]) -> list[slice]:
    """Cut rows into pieces whose float32 copies fit in the cache."""
    step = max(1, (1 << 18) // shape[1])
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def _fitting(loop, weights: np.ndarray):
    return loop.on_all_threads if weights.nbytes >= MANY_BYTES else loop.on_one_thread


def _check_int8(codes, scale) -> None:
    _check("codes", codes, np.int8, (None, None))
    _check("scale", scale, np.float32, codes.shape[:1])
    if codes.shape[1] > MAX_TERMS:
        raise ValueError(f"codes must have at most {MAX_TERMS} columns, so that int32 holds their sums")


def _check(name: str, array, dtype, shape: tuple) -> None:
    """Refuse what a compiled loop would read wrongly, or read beyond its end. None stands for any length above 0."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        given = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name} must be an array of {np.dtype(dtype)}, not {given}")
    if array.ndim != len(shape) or not all(
        n == m or (m is None and n) for n, m in zip(array.shape, shape, strict=True)
    ):
        expected = "(" + ", ".join("1 or more" if m is None else str(m) for m in shape) + ")"
        raise ValueError(f"{name} must have shape {expected}, not {array.shape}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} must be contiguous in memory, in C order: see np.ascontiguousarray")

"""A linear layer that computes from packed weights with the kernels of `kernels.py`, and never holds the floats.

A few tokens go through a kernel one by one, which reads the packed weights once for each. For many, it pays off to
restore pieces of the matrix, which BLAS multiplies with all tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .affine import quantize
from .kernels import (
    Int4Blocks,
    int4_int8_product,
    int4_product,
    int8_int8_product,
    int8_product,
    quantize_vector,
    row_pieces,
)
from .packed import PackedTensor

FEW_TOKENS = 32  # up to which restoring the weights was measured to take longer than reading them for each token


@dataclass(frozen=True, eq=False)
class Int8Rows:
    """A matrix (out, in) of int8 codes with a scale for each row: codes int8 (out, in), scale float32 (out,)."""

    codes: np.ndarray
    scale: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """Everything that is held."""
        return self.codes, self.scale

    def to_packed(self) -> PackedTensor:
        return PackedTensor(self.codes.view(np.uint8), self.scale[:, None], None, 8, self.shape, "INT8")

    def integers(self, which) -> np.ndarray:
        return self.codes[which]

    def row_scales(self, which) -> np.ndarray:
        return self.scale[which][..., None]


@dataclass(frozen=True, eq=False)
class KernelLinear:
    """A linear layer of packed 8-bit or 4-bit weights. Call it on activations of shape (..., in).

    matrix            Int8Rows or Int4Blocks
    quantizes_inputs  False: float32 activations. True: those of each token are quantized to int8, with a scale of their
                      own, and multiplied as integers

    >>> from quantlab_helpers import quantize
    >>> from quantlab_helpers.packed import pack_integers
    >>> weight = np.array([[1.0, -1.0], [0.5, 0.25]], np.float32)
    >>> layer = KernelLinear.from_packed(pack_integers(quantize(weight, 8, per="channel")))
    >>> layer(np.float32([2.0, 1.0])).round(2), layer.nbytes
    (array([1.  , 1.25], dtype=float32), 12)
    """

    matrix: Int8Rows | Int4Blocks
    quantizes_inputs: bool = False

    @classmethod
    def from_packed(cls, packed: PackedTensor, *, quantizes_inputs: bool = False) -> KernelLinear:
        """Take what `pack_integers` packed; its arrays are shared where their layout is that of the kernels.

        There are kernels for symmetric integers of 8 bits, per channel or per tensor, and for 4 bits, symmetric or
        affine, in groups of a multiple of 16, such as 32 or 64: ValueError for all else. Unsigned codes whose zero
        points are all 128, which GPTQ gives, count as symmetric.
        """
        if not isinstance(packed, PackedTensor):
            raise TypeError(f"packed must be a PackedTensor, as pack_integers gives, not {type(packed).__name__}")
        if packed.format in ("INT4", "UINT4"):
            return cls(Int4Blocks.from_packed(packed), quantizes_inputs)
        is_offset = packed.format == "UINT8" and (packed.zero_point == 128).all()
        if (packed.format == "INT8" or is_offset) and packed.scale.shape[1] == 1:
            codes = (packed.data ^ np.uint8(128) if is_offset else packed.data).view(np.int8)
            scale = np.ascontiguousarray(np.broadcast_to(packed.scale[:, 0], packed.shape[:1]))
            return cls(Int8Rows(codes, scale), quantizes_inputs)
        raise ValueError(
            "packed must be symmetric integers of 8 bits per channel, or integers of 4 bits in groups, for which there "
            f"are kernels, not {packed}"
        )

    def to_packed(self) -> PackedTensor:
        """Return the weights as `pack_integers` packs them: the inverse of `from_packed`."""
        return self.matrix.to_packed()

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that are held."""
        return sum(array.nbytes for array in self.matrix.arrays)

    @property
    def bits_per_weight(self) -> float:
        """Bits held for each weight, scales and zero points included."""
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])

    def rows(self, which) -> np.ndarray:
        """Return some rows as floats, float32 (..., in): `which` is what NumPy takes for an index of the first axis."""
        numbers = np.arange(self.shape[0])[which]
        flat = numbers.reshape(-1)
        scales = self.matrix.row_scales(flat)  # (rows, groups)
        real = self.matrix.integers(flat).astype(np.float32).reshape(*scales.shape, -1)
        real *= scales[..., None]
        return real.reshape(*numbers.shape, self.shape[1])

    def dequantize(self) -> np.ndarray:
        """Return the matrix that the codes stand for: float32 (out, in)."""
        return self.rows(slice(None))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the output, float32 (..., out), for float32 x (..., in)."""
        rows, columns = self.shape
        if x.shape[-1:] != (columns,):
            raise ValueError(f"x must have {columns} values along its last axis, but its shape is {x.shape}")
        tokens = np.ascontiguousarray(x, np.float32).reshape(-1, columns)
        y = self._few(tokens) if len(tokens) <= FEW_TOKENS else self._many(tokens)
        return y.reshape(*x.shape[:-1], rows)

    def product(self, x: np.ndarray) -> np.ndarray:
        """Return the output (out,) for one token (in,), which must be float32 and contiguous: it is not checked."""
        matrix = self.matrix
        if self.quantizes_inputs:
            codes, scale = quantize_vector(x)
            if isinstance(matrix, Int8Rows):
                return int8_int8_product(matrix.codes, matrix.scale, codes, scale)
            return int4_int8_product(matrix, codes, scale)
        return int8_product(matrix.codes, matrix.scale, x) if isinstance(matrix, Int8Rows) else int4_product(matrix, x)

    def _few(self, x: np.ndarray) -> np.ndarray:
        y = np.empty((len(x), self.shape[0]), np.float32)
        for token, result in zip(x, y, strict=True):
            result[:] = self.product(token)
        return y

    def _many(self, x: np.ndarray) -> np.ndarray:
        if self.quantizes_inputs:
            x = quantize(x, 8, per="channel").dequantize()  # the floats that the integers stand for
        y = np.empty((len(x), self.shape[0]), np.float32)
        for rows in row_pieces(self.shape):
            y[:, rows] = x @ self.rows(rows).T
        return y

    def __repr__(self) -> str:
        kind = "int8" if isinstance(self.matrix, Int8Rows) else "int4"
        inputs = "int8" if self.quantizes_inputs else "float32"
        return (
            f"KernelLinear(shape={self.shape}, {kind} weights, {inputs} activations, {self.nbytes:,} bytes, "
            f"{self.bits_per_weight:g} bits per weight)"
        )

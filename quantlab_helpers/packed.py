"""A weight matrix as it is held in memory: packed codes and their scales, and nothing else.

`QuantizedTensor` keeps each code in a byte of its own, which is quick to look at. Here codes of 4 bits take half a
byte, so that what a model needs can be read off its arrays: `nbytes` adds them up.

    real = scale * (code - zero_point)      integers
    real = scale * value_of(code)           other number formats: FP8, FP4, NF4, BF16, ...

The MX formats are those of the OCP Microscaling Formats (MX) Specification 1.0: FP8, FP6 or FP4 in groups of 32 with a
power of two for a scale, whose exponent is floor(log2(absmax)) less that of the format's largest value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import ml_dtypes
import numpy as np

from .affine import QuantizedTensor, choose_qparams
from .number_formats import FORMATS, cast
from .packing import pack, unpack
from .validation import LARGEST, float32_array, one_of

# Formats that a matrix can be held in. Integers are quantized by `quantize`, which has more options.
PLAIN_FORMATS = ("FP16", "BF16", "FP8_E4M3", "FP8_E5M2", "FP6_E2M3", "FP6_E3M2", "FP4_E2M1", "NF4")
MX_FORMATS = {f"MX{name}": name for name in ("FP8_E4M3", "FP8_E5M2", "FP6_E2M3", "FP6_E3M2")} | {"MXFP4": "FP4_E2M1"}
PACKED_FORMATS = (*PLAIN_FORMATS, *MX_FORMATS)
MX_GROUP = 32
BLOCK = 1 << 18  # weights restored at a time: 1 MB of float32, which stays in the cache


@dataclass(frozen=True, eq=False, repr=False)
class PackedTensor:
    """A matrix (out, in) in packed codes. Make one with `pack_integers` or `pack_format`.

    data        uint8 (out, bytes of a row): each row's codes packed, so that rows can be restored on their own
    scale       broadcasts to (out, groups): float32, or float8_e8m0fnu (powers of two) in MX; None for a plain cast
    zero_point  uint8 or uint16, shaped like scale; None if symmetric
    num_bits    bits of a code
    shape       (out, in)
    format      the name of the number format, "INT4" or the like for symmetric integers, "UINT4" for affine ones
    """

    data: np.ndarray
    scale: np.ndarray | None
    zero_point: np.ndarray | None
    num_bits: int
    shape: tuple[int, int]
    format: str

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that are held."""
        return sum(array.nbytes for array in (self.data, self.scale, self.zero_point) if array is not None)

    @property
    def bits_per_weight(self) -> float:
        """Bits held for each weight, scales and zero points included."""
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])

    def dequantize(self) -> np.ndarray:
        """Return the matrix that the codes stand for: float32 (out, in)."""
        return self.rows(slice(None))

    def rows(self, which) -> np.ndarray:
        """Return some rows, float32 (..., in): `which` is whatever NumPy takes for an index of the first axis."""
        numbers = np.arange(self.shape[0])[which]
        real = np.empty((numbers.size, self.shape[1]), np.float32)
        step = max(1, BLOCK // self.shape[1])
        for start in range(0, numbers.size, step):
            real[start : start + step] = self._restore(numbers.reshape(-1)[start : start + step])
        return real.reshape(*numbers.shape, self.shape[1])

    def _restore(self, rows: np.ndarray) -> np.ndarray:
        signed = self.format.startswith("INT")
        codes = _unpack_rows(self.data[rows], self.num_bits, self.shape[1], signed)
        is_integer = signed or self.format.startswith("UINT")
        real = codes.astype(np.float32) if is_integer else _values(self.format)[codes]
        if self.scale is not None:
            groups = real.reshape(len(rows), self.scale.shape[1], -1)
            if self.zero_point is not None:
                groups -= self._of_rows(self.zero_point, rows).astype(np.float32)[..., None]
            with np.errstate(over="ignore"):  # the code nearest to the largest float32 may stand for a little more
                groups *= self._of_rows(self.scale, rows).astype(np.float32)[..., None]
            np.clip(real, -LARGEST, LARGEST, out=real)
        return real

    @staticmethod
    def _of_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return array[rows] if len(array) > 1 else array  # one scale for the whole matrix serves every row

    def __repr__(self) -> str:
        return (
            f"PackedTensor(shape={self.shape}, {self.format}, {0 if self.scale is None else self.scale.size:,} scales, "
            f"{self.nbytes:,} bytes, {self.bits_per_weight:g} bits per weight)"
        )


def pack_integers(quantized: QuantizedTensor) -> PackedTensor:
    """Return what `quantize` made of a matrix, with its codes packed row by row.

    >>> from quantlab_helpers import quantize
    >>> pack_integers(quantize(np.eye(4), 4, per="channel"))
    PackedTensor(shape=(4, 4), INT4, 4 scales, 24 bytes, 12 bits per weight)
    """
    if len(quantized.shape) != 2:
        raise ValueError(f"quantized must be a matrix, (out, in), but its shape is {quantized.shape}")
    num_bits, symmetric = quantized.num_bits, quantized.symmetric
    scale = np.atleast_2d(quantized.scale)
    zero_point = None if symmetric else np.atleast_2d(quantized.zero_point).astype(quantized.codes.dtype)
    name = f"{'INT' if symmetric else 'UINT'}{num_bits}"
    data = _pack_rows(quantized.codes, num_bits if num_bits <= 8 else 16)
    return PackedTensor(data, scale, zero_point, num_bits if num_bits <= 8 else 16, quantized.shape, name)


def pack_format(weight, format: str, *, per: str = "tensor", group_size: int | None = None) -> PackedTensor:
    """Hold a matrix (out, in) in a number format of PACKED_FORMATS.

    FP16 and BF16 are plain casts. In the others the largest magnitude of the tensor, channel or group lands on the
    format's largest value; `per` and `group_size` are those of `quantize`. The MX formats have groups of 32 and scales
    that are powers of two, whatever `per`. Raises what `quantize` raises.

    >>> pack_format(np.eye(64), "NF4", per="group", group_size=64).bits_per_weight
    4.5
    """
    weight = float32_array(weight, "weight")
    if weight.ndim != 2:
        raise ValueError(f"weight must have 2 axes, (out, in), but its shape is {weight.shape}")
    one_of(format, "format", PACKED_FORMATS)
    number_format = FORMATS[MX_FORMATS.get(format, format)]
    if number_format.bits == 16:
        codes = cast(weight, number_format).astype(number_format.dtype).view(np.uint16)
        return PackedTensor(_pack_rows(codes, 16), None, None, 16, weight.shape, format)
    if format in MX_FORMATS:
        per, group_size = "group", MX_GROUP
    # At 2 bits qmax is 1, so that the scale is the largest magnitude itself (1 where all are zero).
    absmax, _ = choose_qparams(weight, 2, per=per, group_size=group_size)
    if format in MX_FORMATS:
        # Of x = mantissa * 2**exponent, with a mantissa from 0.5 up to 1.
        exponent = np.frexp(absmax)[1] - np.frexp(number_format.max)[1]
        scale = np.ldexp(np.float32(1), np.maximum(exponent, -126)).astype(ml_dtypes.float8_e8m0fnu)
    else:
        scale = absmax / np.float32(number_format.max)
    scale = np.atleast_2d(scale)
    steps = weight.reshape(len(weight), scale.shape[1], -1) / scale.astype(np.float32)[..., None]
    codes = _codes(cast(steps, number_format), number_format).reshape(weight.shape)
    return PackedTensor(_pack_rows(codes, number_format.bits), scale, None, number_format.bits, weight.shape, format)


def _codes(values: np.ndarray, number_format) -> np.ndarray:
    """Return the bit patterns of values that a format of at most 8 bits holds exactly."""
    if number_format.levels:
        return np.searchsorted(np.array(number_format.levels, np.float32), values).astype(np.uint8)
    return values.astype(number_format.dtype).view(np.uint8)


@lru_cache
def _values(format: str) -> np.ndarray:
    """The value of each code of a format, which may be a NaN where no finite value has that code."""
    number_format = FORMATS[MX_FORMATS.get(format, format)]
    if number_format.levels:
        return np.array(number_format.levels, np.float32)
    codes = np.arange(2**number_format.bits, dtype=np.uint16 if number_format.bits == 16 else np.uint8)
    return codes.view(number_format.dtype).astype(np.float32)


def _pack_rows(codes: np.ndarray, num_bits: int) -> np.ndarray:
    """Pack each row (out, in) into whole bytes of its own: (out, bytes)."""
    if num_bits == 16:
        return codes.astype(codes.dtype.newbyteorder("<"), order="C").view(np.uint8)
    per_byte_run = 8 // np.gcd(num_bits, 8)  # so many codes fill whole bytes
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % per_byte_run)))
    return pack(padded, num_bits).reshape(len(codes), -1)


def _unpack_rows(data: np.ndarray, num_bits: int, columns: int, signed: bool) -> np.ndarray:
    """Return the codes (out, columns): 8-bit integers, or 16-bit ones at 16 bits."""
    if num_bits == 16:
        return data.view("<i2" if signed else "<u2")
    return unpack(data, num_bits, (len(data), 8 * data.shape[1] // num_bits), signed=signed)[:, :columns]

"""Scale and zero point: the map between real numbers and small integers that everything else here builds on.

    real = scale * (code - zero_point)
    code = clip(round_half_even(real / scale) + zero_point, qmin, qmax)

Symmetric: codes are signed, from -qmax to qmax = 2**(num_bits-1) - 1 (the "restricted" range, which leaves
out -2**(num_bits-1)). scale = absmax / qmax and zero_point = 0.

Affine: codes are unsigned, from 0 to qmax = 2**num_bits - 1. The range of values is widened to hold 0, so
that 0 has a code of its own, the zero point. scale = (highest - lowest) / qmax and
zero_point = round(-lowest / scale).

Both follow torchao's `choose_qparams_affine` and `quantize_affine` (SYMMETRIC with quant_min = -qmax;
ASYMMETRIC with unsigned codes) except that we divide by the scale, where torchao multiplies by its float32
reciprocal, which moves a few exact ties; and that torchao lets no scale be below 1.2e-7. The affine mapping
is from Jacob et al., arXiv 1712.05877; Wu et al., arXiv 2004.09602, compare the two.

A scale is shared by the whole tensor, by a channel (an index of axis 0: weights are `(out_features,
in_features)`) or by a group (`group_size` neighbours along the last axis):

    per        x.shape           scale.shape
    "tensor"   any               ()
    "channel"  (out, in, ...)    (out, 1, ...)               broadcasts against x
    "group"    (..., in)         (..., in / group_size)

The values that share a scale are always neighbours in C order, `x.size / scale.size` of them, a "row". So one
blocked loop serves all three.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np

from .packing import pack, packed_size, unpack
from .storage import read_file, write_file
from .validation import (
    LARGEST,
    boolean,
    float32_array,
    integer_array,
    one_of,
    positive_number,
    real_array,
    whole_number,
)

# Values worked on at a time: few enough (1 MB) for temporaries to stay in the cache, which is where the speed comes
# from, and enough to outweigh the 15 microseconds that the calls for each block take.
BLOCK = 1 << 18
# Below this a scale would be a denormal number, too coarse to be accurate.
SMALLEST_SCALE = float(np.finfo(np.float32).smallest_normal)
# NumPy takes the lowest and highest value of short rows one row at a time: up to this length, columns are faster.
SHORT_ROW = 64
_HEADER_FIELDS = ("shape", "num_bits", "symmetric", "per", "group_size")


def quantize_per_tensor(x, num_bits: int = 8) -> tuple[np.ndarray, np.float32]:
    """Quantize `x`, of any shape, with one symmetric scale. Return `(codes, scale)`.

    The codes are int8 up to 8 bits and int16 up to 16, from -qmax to qmax = 2**(num_bits-1) - 1; the scale, a
    float32, is max(abs(x)) / qmax. Raises what `quantize` raises.

    >>> codes, scale = quantize_per_tensor([-1.27, 0.5, 1.0])
    >>> codes, scale
    (array([-127,   50,  100], dtype=int8), np.float32(0.01))
    """
    quantized = quantize(x, num_bits)
    return quantized.codes, quantized.scale[()]


def dequantize(codes, scale, zero_point=0) -> np.ndarray:
    """Return scale * (codes - zero_point) as float32, in the shape of `codes`.

    `scale` and `zero_point` are numbers, or arrays that broadcast to the shape of `codes` (for scales of
    groups there is `QuantizedTensor.dequantize`). Results beyond float32's largest number saturate. Raises
    TypeError for codes that are not integers, ValueError for shapes that do not fit.

    >>> dequantize([-127, 50, 100], 0.01)
    array([-1.27,  0.5 ,  1.  ], dtype=float32)
    """
    codes = integer_array(codes, "codes")
    scale = _broadcastable(scale, "scale", codes.shape)
    zero_point = _broadcastable(zero_point, "zero_point", codes.shape)
    real = codes.astype(np.float32)  # exact: codes have at most 16 bits, float32 holds 24
    real -= zero_point
    with np.errstate(over="ignore"):  # the code nearest to the largest float32 may stand for a little more
        real *= scale
    return np.clip(real, -LARGEST, LARGEST, out=real)


def choose_qparams(
    x,
    num_bits: int,
    *,
    symmetric: bool = True,
    per: str = "tensor",
    group_size: int | None = None,
    clip: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return `(scale, zero_point)` for quantizing `x`: float32 and int32, in the shape listed at the top.

    num_bits    2 to 16
    symmetric   signed codes and zero points of 0, or (False) unsigned codes and zero points that are chosen
    per         "tensor", "channel" (2 axes or more) or "group" (1 axis or more)
    group_size  with per="group": a divisor of the last axis
    clip        a number above 0: take the range to be no wider than -clip to clip. The values beyond it will
                saturate, the others get finer steps

    All-zero values have scale 1, and no scale is below the smallest normal float32, 1.2e-38. Zero points are
    int32, wider than they need to be, so that `codes - zero_point` does not wrap around.

    Raises ValueError or TypeError for NaN, infinity, values beyond float32's range, an empty `x`, too few
    axes and options out of range.

    >>> choose_qparams([-1.0, 0.0, 3.0], 8, symmetric=False)
    (array(0.01568628, dtype=float32), array(64, dtype=int32))
    """
    x = real_array(x, "x")
    _, qmax = code_range(num_bits, symmetric)
    lowest, highest = _ranges(x, _scale_shape(x.shape, per, group_size))
    if clip is not None:
        clip = np.float32(min(max(positive_number(clip, "clip"), SMALLEST_SCALE), LARGEST))
        lowest, highest = np.maximum(lowest, -clip), np.minimum(highest, clip)
    if symmetric:
        scale = np.maximum(-lowest, highest) / np.float32(qmax)
    else:  # in halves, because highest - lowest may be beyond the largest float32
        half = np.float32(0.5)
        scale = (highest * half - lowest * half) / np.float32(qmax) / half
    scale = np.where(lowest == highest, np.float32(1), np.maximum(scale, np.float32(SMALLEST_SCALE)))
    if symmetric:
        return scale, _no_zero_points(scale.shape)
    return scale, np.asarray(np.rint(-lowest / scale), np.int32)


def quantize(
    x,
    num_bits: int = 8,
    *,
    symmetric: bool = True,
    per: str = "tensor",
    group_size: int | None = None,
    clip: float | None = None,
) -> QuantizedTensor:
    """Quantize `x` with the scale and zero point of `choose_qparams`, which has the same options and errors.

    `.dequantize()` returns every value that was within the range to half a step, scale / 2, give or take
    float32's rounding. `x` may have any float dtype and memory layout: its codes are those of a contiguous
    float32 copy.

    >>> weight = np.random.default_rng(0).normal(size=(8, 64))
    >>> quantize(weight, 4, per="group", group_size=32)
    QuantizedTensor(shape=(8, 64), 4 bits, symmetric, per group of 32, 320 bytes, 5 bits per weight)
    """
    x = real_array(x, "x")
    scale, zero_point = choose_qparams(x, num_bits, symmetric=symmetric, per=per, group_size=group_size, clip=clip)
    qmin, qmax = code_range(num_bits, symmetric)
    codes = np.empty(x.shape, code_dtype(num_bits, symmetric))
    flat_codes, scales, zero_points = codes.reshape(-1), scale.reshape(-1, 1), zero_point.reshape(-1, 1)
    may_saturate = clip is not None or not symmetric  # otherwise absmax / scale is qmax, and nothing is beyond
    with np.errstate(over="ignore"):  # far beyond `clip` a value may be infinitely many steps: it saturates
        for where, rows, block in _blocks(x, scale.size):
            steps = block / scales[rows]
            np.rint(steps, out=steps)
            if not symmetric:
                steps += zero_points[rows].astype(np.float32)
            if may_saturate:
                steps.clip(qmin, qmax, out=steps)
            flat_codes[where] = steps.reshape(-1)
    return QuantizedTensor(codes, scale, zero_point, num_bits, symmetric, group_size)


def fake_quantize(
    x,
    num_bits: int = 8,
    *,
    symmetric: bool = True,
    per: str = "tensor",
    group_size: int | None = None,
    clip: float | None = None,
) -> np.ndarray:
    """Quantize and dequantize: the float32 values, in the shape of `x`, that the codes stand for.

    A second time changes nothing if symmetric: the scale comes out the same, to the bit. If affine it may: the range
    of the rounded values can be another by up to a step, and so the scale.

    >>> fake_quantize([-1.0, 0.1, 0.3, 1.0], num_bits=3)          # steps of 1/3
    array([-1.        ,  0.        ,  0.33333334,  1.        ], dtype=float32)
    """
    return quantize(x, num_bits, symmetric=symmetric, per=per, group_size=group_size, clip=clip).dequantize()


@dataclass(frozen=True, eq=False, repr=False)
class QuantizedTensor:
    """Codes with what it takes to turn them back into real numbers.

    codes       integers in the shape of the original: int8 or int16 if symmetric, else uint8 or uint16
    scale       float32, shaped as listed at the top of this file
    zero_point  int32, shaped like scale; if symmetric, all 0 and read-only: they take no memory
    num_bits    2 to 16
    symmetric   whether the codes are signed and the zero points left out
    group_size  how many neighbours share a scale, or None for one scale per tensor or channel

    Parts that do not fit together raise ValueError or TypeError: shapes, dtypes, codes beyond `code_range`, scales
    that are not above 0.

    >>> q = quantize([[-1.0, 0.1, 0.3, 1.0]], num_bits=4)
    >>> q.codes, q.packed(), q.nbytes                    # 4 codes in 2 bytes, and 4 bytes of scale
    (array([[-7,  1,  2,  7]], dtype=int8), array([ 25, 114], dtype=uint8), 6)
    """

    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    num_bits: int
    symmetric: bool = True
    group_size: int | None = None

    def __post_init__(self):
        qmin, qmax = code_range(self.num_bits, self.symmetric)
        for name in ("codes", "scale", "zero_point"):
            if not isinstance(getattr(self, name), np.ndarray):
                raise TypeError(f"{name} must be a NumPy array, not {type(getattr(self, name)).__name__}")
        real_array(self.codes, "codes")  # refuses an empty array
        scale_shape = _scale_shape(self.shape, self.per, self.group_size)
        for name, shape, dtype in (
            ("codes", self.shape, code_dtype(self.num_bits, self.symmetric)),
            ("scale", scale_shape, np.dtype(np.float32)),
            ("zero_point", scale_shape, np.dtype(np.int32)),
        ):
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name} must be {dtype} of shape {shape}, not {array.dtype} of {array.shape}")
        highest = 0 if self.symmetric else qmax
        if self.zero_point.min() < 0 or self.zero_point.max() > highest:
            raise ValueError(f"zero_point must be from 0 to {highest}, not {self.zero_point}")
        if not 0 < self.scale.min() <= self.scale.max() < np.inf:  # NaN is not, either
            raise ValueError(f"scale must be finite and above 0, not {self.scale}")
        held = np.iinfo(self.codes.dtype)  # uint8 codes of 8 bits, say, need not be looked through
        if (held.min < qmin and self.codes.min() < qmin) or (held.max > qmax and self.codes.max() > qmax):
            raise ValueError(f"codes must be from {qmin} to {qmax}, not {self.codes.min()} to {self.codes.max()}")
        # Python's numbers: NumPy's may overflow where bytes are counted, as np.uint8(8) * 1000 does.
        group_size = None if self.group_size is None else int(self.group_size)
        vars(self).update(num_bits=int(self.num_bits), symmetric=bool(self.symmetric), group_size=group_size)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    @property
    def per(self) -> str:
        """What has a scale of its own: "tensor", "channel" or "group"."""
        if self.group_size is not None:
            return "group"
        return "channel" if self.scale.ndim else "tensor"

    def dequantize(self) -> np.ndarray:
        """Return scale * (codes - zero_point): float32, in the shape of the codes."""
        rows = self.codes.reshape(self.scale.size, -1)  # one row for each scale
        real = dequantize(rows, self.scale.reshape(-1, 1), self.zero_point.reshape(-1, 1))
        return real.reshape(self.shape)

    def packed(self) -> np.ndarray:
        """Return the codes as a 1-d uint8 array: `pack`ed up to 8 bits, two bytes each (low first) above."""
        if self.num_bits <= 8:
            return pack(self.codes, self.num_bits)
        return self.codes.astype(_stored_dtype(self.num_bits, self.symmetric)).reshape(-1).view(np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes held when packed and saved.

        The codes, 4 bytes for each scale and, if affine, 1 (above 8 bits: 2) for each zero point.
        """
        return sum(_stored_sizes(self.shape, self.num_bits, self.symmetric, self.scale.size))

    @property
    def bits_per_weight(self) -> float:
        """Bits held for each value, scales and zero points included."""
        return 8 * self.nbytes / self.codes.size

    def save(self, path) -> None:
        """Write a file of exactly `nbytes` bytes after a header of `storage.HEADER_BYTES`.

        Packed codes, then scales, then zero points if affine. Replaces an existing file, as `numpy.save`
        does.
        """
        parts = [self.packed(), self.scale.astype("<f4")]
        if not self.symmetric:
            parts.append(self.zero_point.astype(_stored_dtype(self.num_bits, self.symmetric)))
        fields = {name: getattr(self, name) for name in _HEADER_FIELDS}
        write_file(path, fields, b"".join(part.tobytes() for part in parts))

    @classmethod
    def load(cls, path) -> QuantizedTensor:
        """Read what `save` wrote. Raises ValueError if the file is of another kind, cut short or damaged."""
        fields, data = read_file(path)
        try:
            return cls._from_stored(fields, data)
        except (KeyError, TypeError, ValueError) as error:  # what a file may say that was written by other means
            raise ValueError(f"{os.fspath(path)} does not describe a quantized tensor: {error!r}") from error

    @classmethod
    def _from_stored(cls, fields: dict, data: bytes) -> QuantizedTensor:
        shape, num_bits, symmetric, per, group_size = (fields[name] for name in _HEADER_FIELDS)
        code_range(num_bits, symmetric)  # refuses what is out of range
        shape = tuple(shape)
        scale_shape = _scale_shape(shape, per, group_size)
        stored = _stored_dtype(num_bits, symmetric)
        sizes = _stored_sizes(shape, num_bits, symmetric, math.prod(scale_shape))
        if sum(sizes) != len(data):
            raise ValueError(f"the fields describe {sum(sizes)} bytes of data, not {len(data)}")
        codes, scale, zero_point = (data[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(3))
        if num_bits <= 8:
            codes = unpack(codes, num_bits, shape, signed=symmetric)
        else:
            codes = np.frombuffer(codes, stored).reshape(shape).astype(code_dtype(num_bits, symmetric))
        scale = np.frombuffer(scale, "<f4").reshape(scale_shape).astype(np.float32)
        if symmetric:
            zero_point = _no_zero_points(scale_shape)
        else:
            zero_point = np.frombuffer(zero_point, stored).reshape(scale_shape).astype(np.int32)
        return cls(codes, scale, zero_point, num_bits, symmetric, group_size)

    def __repr__(self) -> str:
        kind = "symmetric" if self.symmetric else "affine"
        per = f"group of {self.group_size}" if self.group_size else self.per
        return (
            f"QuantizedTensor(shape={self.shape}, {self.num_bits} bits, {kind}, per {per}, "
            f"{self.nbytes} bytes, {self.bits_per_weight:g} bits per weight)"
        )


def code_range(num_bits: int, symmetric: bool = True) -> tuple[int, int]:
    """Return `(qmin, qmax)`, the lowest and highest code of `num_bits` (2 to 16) bits.

    >>> code_range(8), code_range(8, symmetric=False)
    ((-127, 127), (0, 255))
    """
    num_bits = whole_number(num_bits, "num_bits", 2, 16)
    if boolean(symmetric, "symmetric"):
        return -(2 ** (num_bits - 1) - 1), 2 ** (num_bits - 1) - 1
    return 0, 2**num_bits - 1


def code_dtype(num_bits: int, symmetric: bool = True) -> np.dtype:
    """Return the smallest dtype that holds the codes: int8 or int16 if symmetric, else uint8 or uint16."""
    return np.dtype(("i" if symmetric else "u") + ("1" if num_bits <= 8 else "2"))


def _scale_shape(shape: tuple[int, ...], per: str, group_size: int | None) -> tuple[int, ...]:
    """Return the shape of the scales for values of `shape`, or raise an error that names the argument."""
    one_of(per, "per", ("tensor", "channel", "group"))
    if per != "group" and group_size is not None:
        raise ValueError(f'group_size goes with per="group" only, but per is {per!r}')
    if per == "tensor":
        return ()
    if per == "channel":
        if len(shape) < 2:
            raise ValueError(f'per="channel" needs 2 axes or more, (out, in), but the shape is {shape}')
        return (shape[0],) + (1,) * (len(shape) - 1)
    if not shape:
        raise ValueError('per="group" needs 1 axis or more, but the shape is ()')
    if group_size is None:
        raise ValueError(f'per="group" needs a group_size: a divisor of the last axis, {shape[-1]}')
    group_size = whole_number(group_size, "group_size", 1, shape[-1])
    if shape[-1] % group_size:
        raise ValueError(f"group_size must divide the last axis, {shape[-1]}, but it is {group_size}")
    return (*shape[:-1], shape[-1] // group_size)


def _no_zero_points(scale_shape: tuple[int, ...]) -> np.ndarray:
    """Return zeros that take no memory: one number, shown in that shape (and so read-only)."""
    return np.broadcast_to(np.int32(0), scale_shape)


def _blocks(x: np.ndarray, num_scales: int):
    """Walk over `x` in C order, in blocks of whole rows, or of pieces of a row longer than BLOCK values.

    Yields `(where, rows, block)`: the block's slice of the flattened `x`, its slice of the flattened
    scales, and its values as float32 of shape (scales, values that share each).
    """
    flat = x.reshape(-1) if x.flags.c_contiguous else x.flat  # which spares a copy of the whole
    row = x.size // num_scales
    span = max(row, BLOCK - BLOCK % row)  # as many whole rows as fit in a block, or a longer row
    for first in range(0, x.size, span):
        for start in range(first, min(first + span, x.size), BLOCK):
            stop = min(start + BLOCK, first + span, x.size)
            block = flat[start:stop].astype(np.float32, copy=False)
            rows = slice(start // row, -(-stop // row))
            yield slice(start, stop), rows, block.reshape(rows.stop - rows.start, -1)


def _ranges(x: np.ndarray, scale_shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest value of each scale's row, widened to hold 0. Refuse NaN and infinity."""
    lowest, highest = np.zeros(scale_shape, np.float32), np.zeros(scale_shape, np.float32)
    lows, highs = lowest.reshape(-1), highest.reshape(-1)
    with np.errstate(over="ignore"):  # a float64 that is too large becomes infinite, and is refused below
        for _, rows, block in _blocks(x, lows.size):
            columns = block.T.copy() if block.shape[1] <= SHORT_ROW else block.T  # one for each scale
            np.minimum(lows[rows], columns.min(axis=0), out=lows[rows])
            np.maximum(highs[rows], columns.max(axis=0), out=highs[rows])
    if not (np.isfinite(lows).all() and np.isfinite(highs).all()):  # min and max carry NaN along
        float32_array(x, "x")  # raises the error that says what is wrong
    return lowest, highest


def _stored_dtype(num_bits: int, symmetric: bool) -> np.dtype:
    """Return the dtype, little-endian, of stored zero points and of stored codes above 8 bits."""
    return code_dtype(num_bits, symmetric).newbyteorder("<")


def _stored_sizes(shape, num_bits: int, symmetric: bool, num_scales: int) -> tuple[int, int, int]:
    """Return the bytes of the packed codes, of the float32 scales and of the zero points."""
    width = code_dtype(num_bits, symmetric).itemsize
    codes = packed_size(math.prod(shape), num_bits if num_bits <= 8 else 8 * width)
    return codes, 4 * num_scales, 0 if symmetric else width * num_scales


def _broadcastable(factor, name: str, shape: tuple[int, ...]) -> np.ndarray:
    factor = float32_array(factor, name)
    try:
        np.broadcast_to(factor, shape)
    except ValueError:
        raise ValueError(
            f"{name} must broadcast to the codes' shape {shape}, but its shape is {factor.shape}"
        ) from None
    return factor

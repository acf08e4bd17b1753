"""Which values a number format can hold, and casting to them: FP32 to FP4, INT8 to INT2, NF4.

Sources: IEEE 754-2019 (FP32, FP16); Micikevicius et al., "FP8 formats for deep learning", arXiv 2209.05433
(FP8; E4M3 is the variant without infinities that ml_dtypes and PyTorch call E4M3FN); OCP Microscaling
Formats (MX) Specification 1.0 (FP6, FP4); Dettmers et al., "QLoRA", arXiv 2305.14314 (NF4). The package
`ml_dtypes` implements the floating-point formats that NumPy lacks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np

from .tables import Table
from .validation import finite_array

# The sixteen constants of bitsandbytes; the equation in the paper does not reproduce them exactly.
NF4_LEVELS = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)


@dataclass(frozen=True)
class NumberFormat:
    """What a number format can hold. Every format here spans -max..max.

    name           as in FORMATS
    bits           bits per value
    exponent_bits  None where there is no exponent: integers and NF4
    mantissa_bits  stored bits of the fraction, without the leading 1; None for integers and NF4
    max            largest finite value
    smallest_step  smallest gap between two neighbouring values: for a floating-point format that is its
                   smallest positive (subnormal) value, for an integer format 1
    num_values     number of different finite values; -0 and +0 count once
    dtype          the NumPy dtype of a floating-point format, None for the others
    levels         the sorted table of values of a table format (NF4), empty for the others
    """

    name: str
    bits: int
    exponent_bits: int | None
    mantissa_bits: int | None
    max: float
    smallest_step: float
    num_values: int
    dtype: np.dtype | None = field(default=None, repr=False)
    levels: tuple[float, ...] = field(default=(), repr=False)


def _floating_point(name, exponent_bits, mantissa_bits, dtype) -> NumberFormat:
    info = ml_dtypes.finfo(dtype)
    return NumberFormat(
        name=name,
        bits=1 + exponent_bits + mantissa_bits,
        exponent_bits=exponent_bits,
        mantissa_bits=mantissa_bits,
        max=float(info.max),
        smallest_step=float(info.smallest_subnormal),
        num_values=2 * _code_of_max(dtype) + 1,
        dtype=np.dtype(dtype),
    )


def _code_of_max(dtype) -> int:
    """The bit pattern of the largest value: codes 0, 1, .. up to it are 0 and the positive values, sorted."""
    return int(np.array(ml_dtypes.finfo(dtype).max, dtype).view(_code_dtype(dtype)))


def _code_dtype(dtype) -> np.dtype:
    return np.dtype(f"u{np.dtype(dtype).itemsize}")


def _integer(bits) -> NumberFormat:
    qmax = 2 ** (bits - 1) - 1  # restricted range: -qmax..qmax, so that -x fits wherever x does
    return NumberFormat(f"INT{bits}", bits, None, None, float(qmax), 1.0, 2 * qmax + 1)


_NF4 = NumberFormat("NF4", 4, None, None, 1.0, min(np.diff(NF4_LEVELS).tolist()), 16, levels=NF4_LEVELS)

FORMATS = {
    number_format.name: number_format
    for number_format in [
        _floating_point("FP32", 8, 23, np.float32),
        _floating_point("FP16", 5, 10, np.float16),
        _floating_point("BF16", 8, 7, ml_dtypes.bfloat16),
        _floating_point("FP8_E4M3", 4, 3, ml_dtypes.float8_e4m3fn),
        _floating_point("FP8_E5M2", 5, 2, ml_dtypes.float8_e5m2),
        _floating_point("FP6_E2M3", 2, 3, ml_dtypes.float6_e2m3fn),
        _floating_point("FP6_E3M2", 3, 2, ml_dtypes.float6_e3m2fn),
        _floating_point("FP4_E2M1", 2, 1, ml_dtypes.float4_e2m1fn),
        *(_integer(bits) for bits in range(8, 1, -1)),
        _NF4,
    ]
}


def _spelling(name: str) -> str:
    """What all spellings of a name share: 'float8_e4m3fn', 'FP8 E4M3' and 'fp8-e4m3' become 'fp8e4m3'."""
    letters = re.sub(r"[\s_-]", "", name.lower())
    return letters.replace("bfloat", "bf").replace("float", "fp").removesuffix("fn")


_BY_SPELLING = {_spelling(name): number_format for name, number_format in FORMATS.items()}
_BY_SPELLING |= {_spelling(name.split("_")[1]): FORMATS[name] for name in FORMATS if "_" in name}  # 'e4m3'


def _find(name) -> NumberFormat:
    if isinstance(name, NumberFormat):
        return name
    if not isinstance(name, str):
        raise TypeError(f"format must be the name of a format or a NumberFormat, not {name!r}")
    if _spelling(name) not in _BY_SPELLING:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {name!r}")
    return _BY_SPELLING[_spelling(name)]


def cast(x, format) -> np.ndarray:
    """Round each value to the nearest value of a number format; values beyond its range become -max or max.

    x       real numbers, any shape; integers are taken as float32; float64 is rounded once, not via float32
    format  a name of FORMATS ('FP8_E4M3'; also 'fp8 e4m3', 'e4m3', 'float8_e4m3fn'), or a NumberFormat

    Returns a float32 array of the same shape. A tie goes to the even mantissa or integer; in NF4 it goes to
    the lower level, as in bitsandbytes (which rounds the midpoints between levels to float32). There is no
    scale here: INTb holds the whole numbers from -max to max, NF4 its sixteen levels from -1 to 1.
    Raises ValueError for NaN, infinity, no values or an unknown format; TypeError where x or format is of the
    wrong type.

    >>> cast([0.3, 2.5, -5.1, 1000], "FP4_E2M1")
    array([ 0.5,  2. , -6. ,  6. ], dtype=float32)
    """
    number_format = _find(format)
    x = finite_array(x, "x")
    x = x.astype(np.result_type(x.dtype, np.float32), copy=False)  # exact: float32 holds all 16-bit floats
    x = np.asarray(np.clip(x, -number_format.max, number_format.max))
    if number_format.levels:
        levels = np.array(number_format.levels, np.float32)
        values = levels[np.searchsorted((levels[:-1] + levels[1:]) / 2, x, side="left")]
    elif number_format.dtype is None:
        values = np.rint(x) + 0.0  # + 0.0 turns -0 into 0: integers have no negative zero
    elif number_format.dtype == np.float32:
        values = x
    else:
        values = _float32_rounded_to_odd(x).astype(number_format.dtype)
    return np.asarray(values, dtype=np.float32)


def scaled_cast(x, format) -> np.ndarray:
    """Cast `x`, of any shape, in a unit in which its largest magnitude is the format's max, and scale it back.

    So the whole range of the format is used, and nothing saturates; an all-zero `x` stays 0. Returns float32
    (float64 if x is). Raises what `cast` raises.

    >>> cast([0.001, 0.002, 0.003], "FP4_E2M1"), scaled_cast([0.001, 0.002, 0.003], "FP4_E2M1")
    (array([0., 0., 0.], dtype=float32), array([0.001, 0.002, 0.003]))
    """
    number_format = _find(format)
    x = finite_array(x, "x")
    wide = x.astype(np.float64)  # the scale of a format with a large max may be too small for float32
    scale = float(np.abs(wide).max()) / number_format.max or 1.0
    return np.asarray(cast(wide / scale, number_format) * np.float64(scale), np.result_type(x.dtype, np.float32))


def _float32_rounded_to_odd(x: np.ndarray) -> np.ndarray:
    """Convert to float32 such that rounding again, to a narrower format, gives what one rounding of x would.

    ml_dtypes rounds float64 to float32 first, which can land on a tie that x was only near. Here a result
    that is not exact always gets an odd last bit, and a tie of a narrower format never has one (Boldo and
    Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE
    Transactions on Computers 57(4), 2008).
    """
    nearest = x.astype(np.float32)
    if x.dtype == np.float32:
        return nearest
    toward_x = np.nextafter(nearest, np.where(x > nearest, np.float32(np.inf), np.float32(-np.inf)))
    even = nearest.view(np.uint32) % 2 == 0
    return np.where((nearest != x) & even, toward_x, nearest)


def representable_values(format) -> np.ndarray:
    """Every finite value of a format of at most 16 bits: a sorted float32 array, -0 and 0 merged.

    Raises ValueError for FP32, which has about four billion values, and for an unknown format.

    >>> representable_values("FP4_E2M1")[7:]
    array([0. , 0.5, 1. , 1.5, 2. , 3. , 4. , 6. ], dtype=float32)
    """
    number_format = _find(format)
    if number_format.bits > 16:
        raise ValueError(
            f"format must have at most 16 bits: {number_format.name} has {number_format.num_values:,} finite "
            "values (about 4 billion), too many to list"
        )
    if number_format.levels:
        return np.array(number_format.levels, np.float32)
    if number_format.dtype is None:
        return np.arange(-number_format.max, number_format.max + 1, dtype=np.float32)
    dtype = number_format.dtype
    codes = np.arange(_code_of_max(dtype) + 1, dtype=_code_dtype(dtype))
    not_negative = codes.view(dtype).astype(np.float32)
    return np.concatenate([-not_negative[:0:-1], not_negative])


def format_table() -> Table:
    """All formats of FORMATS, one row each, for a notebook or a terminal. The numbers are already text.

    >>> format_table().rows[3]
    ['FP8_E4M3', '8', '4', '3', '448', '0.001953125', '253']
    """
    headers = ["format", "bits", "exponent bits", "mantissa bits", "max", "smallest step", "values"]
    rows = [
        [
            f.name,
            str(f.bits),
            "-" if f.exponent_bits is None else str(f.exponent_bits),
            "-" if f.mantissa_bits is None else str(f.mantissa_bits),
            f"{f.max:.7g}",
            f"{f.smallest_step:.7g}",
            f"{f.num_values:,}",
        ]
        for f in FORMATS.values()
    ]
    return Table(headers, rows)

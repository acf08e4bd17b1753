"""The checks on arguments that every module shares: one wording, so that an error always names the fix."""

from __future__ import annotations

import numbers
import os
from pathlib import Path

import numpy as np

LARGEST = float(np.finfo(np.float32).max)


def whole_number(value, name: str, low: int, high: int) -> int:
    """Return `value` as an int if it is a whole number from `low` to `high`.

    Raises TypeError for anything that is not a whole number (booleans included), ValueError out of range.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number from {low} to {high}, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {value}")
    return int(value)


def _array(x, name: str) -> np.ndarray:
    try:
        return np.asarray(x)
    except ValueError as error:  # NumPy's own message does not say which argument
        raise ValueError(f"{name} must be an array, or nested lists whose rows have equal lengths") from error


def real_array(x, name: str) -> np.ndarray:
    """Return `x` as an array of real numbers with at least one value.

    The dtype stays: float16, bfloat16, float32 or float64, integers or booleans.
    NaN and infinity are not looked for here; `finite_array` refuses them.
    """
    array = _array(x, name)
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name} must hold real numbers, not {array.dtype} (got {type(x).__name__})")
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one value, but its shape is {array.shape}")
    return array


def finite_array(x, name: str) -> np.ndarray:
    """Return `x` as a float array with at least one value and no NaN or infinity.

    float16, bfloat16, float32 and float64 keep their dtype; integers and booleans become float32.
    """
    array = real_array(x, name)
    if array.dtype.kind in "iub":
        return array.astype(np.float32)
    if not np.isfinite(array).all():
        bad = int(np.size(array) - np.isfinite(array).sum())
        raise ValueError(f"{name} must be finite, but {bad} of {array.size} values are NaN or infinite")
    return array


def float32_array(x, name: str) -> np.ndarray:
    """Return a float32 copy of `x`, which must be finite and within float32's range."""
    array = finite_array(x, name)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        copy = array.astype(np.float32)
    if not np.isfinite(copy).all():
        reached = np.abs(array).max()
        raise ValueError(f"{name} must be within float32's range, +-{LARGEST:.8g}, but it reaches {reached:.8g}")
    return copy


def one_of(value, name: str, allowed) -> str:
    """Return `value` if it is among `allowed`, else raise ValueError that lists them."""
    if not isinstance(value, str) or value not in allowed:  # an array would be compared value by value
        choices = ", ".join(repr(a) for a in allowed)
        raise ValueError(f"{name} must be one of {choices}, not {value!r}")
    return value


def integer_array(x, name: str) -> np.ndarray:
    """Return `x` as an array of integers; TypeError for anything else (booleans and floats included)."""
    array = _array(x, name)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, not {array.dtype} (got {type(x).__name__})")
    return array


def boolean(value, name: str) -> bool:
    """Return `value` if it is True or False, else raise TypeError: a string or a number is likely a slip."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def positive_number(value, name: str) -> float:
    """Return `value` as a float if it is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number above 0, not {value!r}")
    if not 0 < value < np.inf:
        raise ValueError(f"{name} must be finite and above 0, not {value}")
    return float(value)


def new_file(value, name: str, endings: tuple[str, ...]) -> Path:
    """Return `value` as the path of a file to write: one of these endings, in a folder that is there, and no file yet.

    Write it with `open(path, "x")`, so that a file that comes in between stays as well.
    """
    allowed = " or ".join(endings)
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be the name of a file that ends in {allowed}, not {value!r}")
    path = Path(os.path.expanduser(value))  # which leaves the `~` of a user who is not there; Path's own would raise
    if path.suffix not in endings:
        raise ValueError(f"{name} must end in {allowed}, not {path.name!r}")
    if path.exists():
        raise FileExistsError(f"{path} is there already: choose another name")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{name} must lie in a folder that is there, but there is no {path.absolute().parent}")
    return path

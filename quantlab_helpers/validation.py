"""The checks on arguments that every module shares: one wording, so that an error always names the fix."""

from __future__ import annotations

import numbers

import numpy as np


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

    float16, bfloat16, float32 and float64 keep their dtype; integers and booleans become float32.
    NaN and infinity are not looked for here; `finite_array` refuses them.
    """
    array = _array(x, name)
    if array.dtype.kind in "iub":
        array = array.astype(np.float32)
    elif not (array.dtype.kind == "f" or array.dtype.name == "bfloat16"):
        raise TypeError(f"{name} must hold real numbers, not {array.dtype} (got {type(x).__name__})")
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one value, but its shape is {array.shape}")
    return array


def finite_array(x, name: str) -> np.ndarray:
    """Return `x` as a float array with at least one value and no NaN or infinity (see `real_array`)."""
    array = real_array(x, name)
    if not np.isfinite(array).all():
        bad = int(np.size(array) - np.isfinite(array).sum())
        raise ValueError(f"{name} must be finite, but {bad} of {array.size} values are NaN or infinite")
    return array


def one_of(value, name: str, allowed) -> str:
    """Return `value` if it is among `allowed`, else raise ValueError that lists them."""
    if value not in allowed:
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

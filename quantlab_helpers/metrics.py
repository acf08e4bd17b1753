"""How far a reconstruction is from the original: absolute errors, SQNR, cosine similarity.

Each takes two arrays of one shape and returns a number; arrays that differ in shape, are empty or hold NaN or
infinity raise ValueError. The absolute errors are in the units of the data. SQNR is relative to the size of the
data: about 6 dB for each bit. Cosine similarity does not see the size at all, which flatters.

The absolute errors are computed in the dtype of the data, as NumPy would: in float32, differences and sums beyond its
largest number, 3.4e38, overflow to infinity, with NumPy's warning.
"""

from __future__ import annotations

import numpy as np

from .validation import finite_array


def mean_abs_error(a, b) -> np.floating:
    """Return mean(abs(a - b)): float64 if one of the arrays is, else float32.

    >>> mean_abs_error([1.0, 2.0], [1.5, 2.0])
    np.float64(0.25)
    """
    a, b = _pair(a=a, b=b)
    return np.mean(np.abs(a - b))


def max_abs_error(a, b) -> np.floating:
    """Return max(abs(a - b)): float64 if one of the arrays is, else float32.

    >>> max_abs_error([1.0, 2.0], [1.5, 2.0])
    np.float64(0.5)
    """
    a, b = _pair(a=a, b=b)
    return np.max(np.abs(a - b))


def sqnr_db(signal, reconstruction) -> float:
    """Return the signal-to-quantization-noise ratio in dB, 10 log10(sum(signal**2) / sum(error**2)).

    The sums are taken in float64. An exact reconstruction has an SQNR of inf, also where the signal is all zero;
    any error on an all-zero signal gives -inf.

    >>> round(sqnr_db([3.0, 4.0], [3.0, 4.5]), 3)                 # 25 / 0.25 = 100
    20.0
    """
    signal, reconstruction = _pair(signal=signal, reconstruction=reconstruction)
    error = signal.astype(np.float64)
    error -= reconstruction
    signal_norm, error_norm = _norm(signal), _norm(error)
    if error_norm == 0:
        return float("inf")
    if signal_norm == 0:
        return float("-inf")
    return float(20 * (np.log10(signal_norm) - np.log10(error_norm)))


def cosine_similarity(a, b) -> float:
    """Return the cosine of the angle between `a` and `b`, taken as vectors: 1 same direction, 0 at right angles.

    Computed in float64. Every positive multiple of `a` has similarity 1 with `a`: it does not see a wrong size.
    An all-zero array has no direction: its similarity is 1 with another (an exact copy), 0 with anything else.

    >>> cosine_similarity([1.0, 0.0], [5.0, 0.0]), cosine_similarity([1.0, 0.0], [0.0, 2.0])
    (1.0, 0.0)
    """
    a, b = _pair(a=a, b=b)
    norm_a, norm_b = _norm(a), _norm(b)
    if norm_a == 0 or norm_b == 0:
        return float(norm_a == norm_b)
    cosine = np.vdot(a.astype(np.float64) / norm_a, b.astype(np.float64) / norm_b)
    return float(np.clip(cosine, -1, 1))


def _pair(**arrays) -> list[np.ndarray]:
    """Return two finite arrays of one shape as float64 if either is wider than float32, else as float32."""
    (name_a, a), (name_b, b) = ((name, finite_array(x, name)) for name, x in arrays.items())
    if a.shape != b.shape:
        raise ValueError(f"{name_a} and {name_b} must have one shape, not {a.shape} and {b.shape}")
    dtype = np.float64 if max(a.itemsize, b.itemsize) > 4 else np.float32
    return [a.astype(dtype, copy=False), b.astype(dtype, copy=False)]


def _norm(x: np.ndarray) -> float:
    """Return the square root of the sum of squares, in float64, safe from overflow and underflow."""
    largest = max(float(x.max()), -float(x.min()))
    if largest == 0:
        return 0.0
    scaled = x.astype(np.float64)
    scaled /= largest
    # Not np.linalg.norm: its BLAS waits for a second thread, which on a busy machine takes 100 times as long.
    return largest * float(np.sqrt(np.sum(np.square(scaled, out=scaled))))

"""LLM.int8(): products of 8-bit codes, but for the few features with outliers, which keep 16 bits.

One activation of 60 among many of 1 stretches the scale of its whole token, and leaves the others two or three steps.
Such outliers sit in the same few columns for all tokens, so those columns are taken out and multiplied in floating
point:

    outlier columns    those where any token reaches the threshold
    y = int8 product of all other columns  +  float product of the outlier columns

Dettmers et al., "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale", arXiv 2208.07339. The arithmetic
is that of bitsandbytes 0.50. It keeps no other copy of the weight: the outlier columns are multiplied by what the
weight's codes stand for. Results in 16 bits are the same to the bit, except that we may sum the outlier columns in
another order (by up to 5 columns we saw no difference, by 20 one result in 2,000 had another last bit). float32
activations we quantize as they are, where bitsandbytes rounds them to float16 first.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass

import numpy as np

from ..linear import _check_shapes, _checked_bias, int8_matmul
from ..validation import finite_array, float32_array

# What a product of two codes is multiplied by, besides the two scales. bitsandbytes' number is larger than 1/127**2 by
# 0.002 %, which moves one float16 result in 40 by its last bit.
PRODUCT_UNIT = np.float32(6.200124e-05)
CODE_UNIT = np.float32(1 / 127)
# Rows of smaller numbers become zeros or nearly so: 127 / absmax has to be within float32's range.
_SMALLEST_ABSMAX = np.float32(1e-36)


def llm_int8_matmul(inputs, weight, threshold: float = 6.0) -> np.ndarray:
    """Return inputs @ weight.T by LLM.int8(): shape (..., out), float16 or bfloat16 if the inputs are, else float32.

    inputs     (..., in), activations
    weight     (out, in), quantized to int8 with one scale for each row
    threshold  from this magnitude on an activation is an outlier; 0: none is, whatever its size

    Raises ValueError or TypeError for shapes that do not fit, NaN, infinity, and a threshold below 0.

    >>> inputs = [[0.3, -0.2, 60.0], [0.1, 0.4, 55.0]]
    >>> weight = [[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]]
    >>> llm_int8_matmul(inputs, weight).round(2)
    array([[60.1,  0.5],
           [55.5, -0.3]], dtype=float32)
    >>> llm_int8_matmul(inputs, weight, threshold=0).round(2)           # steps of 60/127 and 55/127 for all three
    array([[60.47,  0.47],
           [55.43, -0.43]], dtype=float32)
    """
    return LlmInt8Linear.from_float(weight, threshold=threshold)(inputs)


def outlier_columns(inputs, threshold: float = 6.0) -> np.ndarray:
    """Return in which columns of the inputs (..., in) any value has a magnitude of at least `threshold`: bool (in,).

    >>> outlier_columns([[0.3, -7.0, 0.1], [0.2, 1.0, 6.0]])
    array([False,  True,  True])
    """
    inputs = _activations(inputs, "inputs")
    if not inputs.shape:
        raise ValueError("inputs must have at least 1 axis, (..., in), but its shape is ()")
    return _outliers(inputs.reshape(-1, inputs.shape[-1]), _checked_threshold(threshold)).any(axis=0)


def quantize_rows(x, threshold: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 codes (rows, in) and float32 absmaxes (rows,) of x (rows, in): row = codes * absmax / 127.

    Outliers, from `threshold` on, do not count for the absmax, and all codes in their columns are 0.

    >>> quantize_rows([[0.5, -1.0, 1.0], [0.1, 2.0, 60.0]], threshold=6)
    (array([[  64, -127,    0],
           [   6,  127,    0]], dtype=int8), array([1., 2.], dtype=float32))
    """
    x = _activations(x, "x")
    if x.ndim != 2:
        raise ValueError(f"x must have 2 axes, (rows, in), but its shape is {x.shape}")
    outliers = _outliers(x, _checked_threshold(threshold))
    rest = np.where(outliers, 0, x).astype(np.float32)
    absmax = np.abs(rest).max(axis=1)
    # Not 127 / absmax, which may round otherwise: torch divides a number by a tensor in these two steps.
    codes = np.rint(rest * (1 / np.maximum(absmax, _SMALLEST_ABSMAX) * 127)[:, None]).astype(np.int8)
    codes[:, outliers.any(axis=0)] = 0
    return codes, absmax


@dataclass(frozen=True, eq=False)
class LlmInt8Linear:
    """A linear layer that holds int8 weights and computes by LLM.int8(). Call it on activations of shape (..., in).

    codes      int8 (out, in)
    absmax     float32 (out,), the largest magnitude of each row: weight = codes * absmax / 127
    bias       float32 (out,) or None
    threshold  from this magnitude on an activation is an outlier; 0: none is

    Which columns hold outliers is found anew at each call, from all of its tokens.

    >>> layer = LlmInt8Linear.from_float([[1.0, -1.0], [0.5, 0.25]])
    >>> layer([2.0, 1.0]).round(2), layer.shape, layer.nbytes          # in float: 1 and 1.25. 4 codes, 2 scales
    (array([0.99, 1.25], dtype=float32), (2, 2), 12)
    """

    codes: np.ndarray
    absmax: np.ndarray
    bias: np.ndarray | None = None
    threshold: float = 6.0

    @classmethod
    def from_float(cls, weight, bias=None, *, threshold: float = 6.0) -> LlmInt8Linear:
        """Quantize a float weight of shape (out, in)."""
        weight = float32_array(weight, "weight")
        if weight.ndim != 2:
            raise ValueError(f"weight must have 2 axes, (out, in), but its shape is {weight.shape}")
        if bias is not None:
            bias = _checked_bias(float32_array(bias, "bias"), len(weight))
        return cls(*quantize_rows(weight), bias, _checked_threshold(threshold))

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape

    @property
    def nbytes(self) -> int:
        """Bytes held: a byte for each weight, 4 for each row's absmax, and the float32 bias."""
        return sum(array.nbytes for array in (self.codes, self.absmax, self.bias) if array is not None)

    def __call__(self, inputs) -> np.ndarray:
        """Return the layer's output: shape (..., out), float16 or bfloat16 if the inputs are, else float32."""
        inputs = _activations(inputs, "inputs")
        _check_shapes(inputs, self, "inputs", "weight")
        tokens = inputs.reshape(-1, inputs.shape[-1])
        codes, absmax = quantize_rows(tokens, self.threshold)
        y = int8_matmul(codes, self.codes).astype(np.float32)  # (tokens, out)
        y *= absmax[:, None] * self.absmax
        y *= PRODUCT_UNIT
        if self.bias is not None:
            y += self.bias
        y = y.astype(inputs.dtype)

        outliers = _outliers(tokens, self.threshold).any(axis=0)
        if outliers.any():
            kept = self.codes[:, outliers] * self.absmax[:, None] * CODE_UNIT  # (out, outlier columns)
            kept = kept.astype(inputs.dtype).astype(np.float32)
            y = (y + tokens[:, outliers].astype(np.float32) @ kept.T).astype(inputs.dtype)
        return y.reshape(*inputs.shape[:-1], -1)


def _activations(x, name: str) -> np.ndarray:
    """Return finite activations: of 16 bits as they are, all others as float32."""
    x = finite_array(x, name)
    return x if x.itemsize == 2 else float32_array(x, name)


def _outliers(x: np.ndarray, threshold: float) -> np.ndarray:
    """Return where x is an outlier, in its shape."""
    return np.abs(x) >= threshold if threshold else np.zeros(x.shape, bool)


def _checked_threshold(threshold) -> float:
    if isinstance(threshold, bool) or not isinstance(threshold, numbers.Real):
        raise TypeError(f"threshold must be a number, 0 or more, not {threshold!r}")
    if not 0 <= threshold < np.inf:
        raise ValueError(f"threshold must be finite, and 0 or more, not {threshold}")
    return float(threshold)

"""A linear layer, y = x @ weight.T + bias, in float and with quantized weights and activations.

Weight-only quantization stores codes and computes in float: it saves memory. W8A8 also quantizes the activations,
as they come, with a scale for each token, and computes in integers, as int8 hardware does: int8 codes are
multiplied and summed in int32, and the sums are scaled once at the end. That is possible where all the products in
a sum share a scale: per tensor or per channel, not per group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .affine import QuantizedTensor, quantize
from .validation import finite_array, float32_array, whole_number

# The largest product of two int8 numbers is (-128)**2 = 2**14. float32 holds every integer up to 2**24 exactly, so
# 2**10 products can be summed in float32, in any order, without rounding. int32 holds 2**17 - 1 of them.
EXACT_TERMS = 2**10
MAX_TERMS = 2**17 - 1


def linear_forward(x, weight, bias=None) -> np.ndarray:
    """Return x @ weight.T + bias, of shape (..., out), as float32 or, if an argument is wider, float64.

    x is (..., in), weight (out, in), bias (out,) or None. Shapes that do not fit raise ValueError.

    >>> linear_forward([1.0, 2.0], [[1.0, 1.0], [0.0, 3.0]], [0.5, 0.0])
    array([3.5, 6. ])
    """
    x, weight = _float_array(x, "x"), _float_array(weight, "weight")
    _check_shapes(x, weight, "x", "weight")
    y = x @ weight.T
    if bias is None:
        return y
    return y + _checked_bias(bias, len(weight))


def int8_matmul(a, b) -> np.ndarray:
    """Return a @ b.T of int8 codes exactly, as int32 of shape (..., N): what an int8 matrix unit computes.

    a is (..., K), b is (N, K), both int8 (TypeError otherwise); K is at most 131,071, so that no sum can exceed
    int32. `a @ b.T` itself would be int8 in NumPy, and wrap around without a warning.

    >>> int8_matmul(np.array([100, 100], np.int8), np.array([[100, 100]], np.int8))
    array([20000], dtype=int32)
    """
    a, b = np.asarray(a), np.asarray(b)
    for name, array in (("a", a), ("b", b)):
        if array.dtype != np.int8:
            raise TypeError(f"{name} must hold int8 codes, not {array.dtype}")
    _check_shapes(a, b, "a", "b")
    terms = a.shape[-1]
    if terms > MAX_TERMS:
        raise ValueError(f"a must have at most {MAX_TERMS} columns, so that int32 holds the sums, not {terms}")
    total = np.zeros((*a.shape[:-1], len(b)), np.int32)
    for start in range(0, terms, EXACT_TERMS):  # NumPy has a fast matrix product for floats only
        columns = slice(start, start + EXACT_TERMS)
        part = a[..., columns].astype(np.float32) @ b[:, columns].astype(np.float32).T
        total += part.astype(np.int32)
    return total


@dataclass(frozen=True, eq=False)
class QuantizedLinear:
    """A linear layer with a quantized weight. Call it on activations of shape (..., in).

    weight           QuantizedTensor of shape (out, in)
    bias             float32 (out,) or None
    activation_bits  None for float activations ("weight-only"); 2 to 8 to quantize each token's activations
                     (symmetric, with its own scale) and compute in integers. The weight must then be symmetric, of
                     8 bits at most, and per tensor or per channel

    >>> layer = QuantizedLinear.from_float([[1.0, -1.0], [0.5, 0.25]], activation_bits=8)
    >>> layer([2.0, 1.0]).round(2), layer.nbytes                  # in float: 1 and 1.25. 4 codes, 2 scales
    (array([0.99, 1.25], dtype=float32), 12)
    """

    weight: QuantizedTensor
    bias: np.ndarray | None = None
    activation_bits: int | None = None

    def __post_init__(self):
        if not isinstance(self.weight, QuantizedTensor):
            raise TypeError(f"weight must be a QuantizedTensor (see from_float), not {type(self.weight).__name__}")
        if len(self.weight.shape) != 2:
            raise ValueError(f"weight must have 2 axes, (out, in), but its shape is {self.weight.shape}")
        if self.bias is not None:
            if not isinstance(self.bias, np.ndarray) or self.bias.dtype != np.float32:
                given = getattr(self.bias, "dtype", type(self.bias).__name__)
                raise TypeError(f"bias must be a float32 array (see from_float), not {given}")
            _checked_bias(self.bias, self.weight.shape[0])
        if self.activation_bits is None:
            return
        whole_number(self.activation_bits, "activation_bits", 2, 8)
        if self.weight.per == "group" or not self.weight.symmetric or self.weight.num_bits > 8:
            raise ValueError(
                "activation_bits needs a symmetric weight of at most 8 bits, per tensor or per channel, "
                f"not {self.weight}"
            )

    @classmethod
    def from_float(
        cls,
        weight,
        bias=None,
        *,
        num_bits: int = 8,
        per: str = "channel",
        group_size: int | None = None,
        activation_bits: int | None = None,
    ) -> QuantizedLinear:
        """Quantize a float weight of shape (out, in) symmetrically; the options are those of `quantize`."""
        quantized = quantize(weight, num_bits, per=per, group_size=group_size)
        bias = None if bias is None else float32_array(bias, "bias")
        return cls(quantized, bias, activation_bits)

    @property
    def nbytes(self) -> int:
        """Bytes held: the packed weight with its scales, and the float32 bias."""
        return self.weight.nbytes + (0 if self.bias is None else 4 * self.bias.size)

    def __call__(self, x) -> np.ndarray:
        """Return the layer's output for x of shape (..., in): float32, shape (..., out)."""
        x = float32_array(x, "x")
        if self.activation_bits is None:
            return linear_forward(x, self.weight.dequantize(), self.bias)
        _check_shapes(x, self.weight, "x", "weight")
        tokens = quantize(x.reshape(-1, x.shape[-1]), self.activation_bits, per="channel")  # a scale for each row
        y = int8_matmul(tokens.codes, self.weight.codes).astype(np.float32)  # (tokens, out)
        y *= tokens.scale  # (tokens, 1)
        y *= self.weight.scale.reshape(1, -1)  # (1, out), or (1, 1) per tensor
        if self.bias is not None:
            y += self.bias
        return y.reshape(*x.shape[:-1], -1)


def _float_array(x, name: str) -> np.ndarray:
    """Return `x` as a finite float32 or float64 array: a matrix product in float16 would be slow and coarse."""
    array = finite_array(x, name)
    return array.astype(np.float32) if array.itemsize < 4 else array


def _check_shapes(x, weight, x_name: str, weight_name: str) -> None:
    if len(weight.shape) != 2:
        raise ValueError(f"{weight_name} must have 2 axes, (out, in), but its shape is {weight.shape}")
    if not x.shape or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{x_name} must have {weight.shape[1]} values along its last axis, as {weight_name} of shape "
            f"{weight.shape} does, but its shape is {x.shape}"
        )


def _checked_bias(bias, num_outputs: int) -> np.ndarray:
    bias = _float_array(bias, "bias")
    if bias.shape != (num_outputs,):
        raise ValueError(f"bias must have shape ({num_outputs},), one value for each output, not {bias.shape}")
    return bias

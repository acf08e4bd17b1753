"""SmoothQuant: make activations easier to quantize, and weights a little harder, without changing the output.

A few columns of a layer's inputs are far larger than the rest. Divide each column j by a number s[j], and multiply
column j of the weight by it:

    x @ W.T  =  (x / s) @ (W * s).T
    s[j]     =  max(abs(x[:, j]))**alpha / max(abs(W[:, j]))**(1 - alpha)

The division costs nothing where a norm comes just before the layer: it goes into the norm's weight and bias. Then
weights and activations are both quantized to 8 bits (W8A8).

Xiao et al., "SmoothQuant", arXiv 2211.10438; https://github.com/mit-han-lab/smoothquant, which we follow. Its levels
O1 to O3 give the activations one scale for each token, one for each call, and one that is fixed beforehand.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..affine import SMALLEST_SCALE, QuantizedTensor, quantize
from ..linear import QuantizedLinear, _check_shapes, int8_matmul
from ..validation import LARGEST, float32_array, one_of, positive_number

_SMALLEST = np.float32(1e-5)  # of a weight's column, and of s


def smoothquant_scales(activation_absmax, weights, alpha: float = 0.5) -> np.ndarray:
    """Return s: by what to divide each column of the activations, and multiply the weights'. float32 (in,).

    activation_absmax  (in,), the largest magnitude of each column of the activations, on calibration data
    weights            array (out, in), or a list of all that read these activations, such as q, k and v: they share s
    alpha              from 0 to 1: how much of the difficulty goes to the weights. At 1 all columns of the activations
                       become equally large, at 0 all columns of the weights

    Raises ValueError or TypeError for shapes that do not fit, NaN, infinity, a negative absmax, alpha out of range.

    >>> smoothquant_scales([64.0, 1.0], np.array([[0.25, 1.0], [1.0, -1.0]]))
    array([8., 1.], dtype=float32)
    """
    activation_absmax = float32_array(activation_absmax, "activation_absmax")
    weights = _checked_weights(weights, activation_absmax.shape, "activation_absmax")
    if activation_absmax.min() < 0:
        raise ValueError(f"activation_absmax must be 0 or more, not {activation_absmax.min()}")
    if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real):
        raise TypeError(f"alpha must be a number from 0 to 1, not {alpha!r}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, not {alpha}")
    weight_absmax = np.maximum(np.abs(np.concatenate(weights)).max(axis=0), _SMALLEST)
    scales = activation_absmax ** np.float32(alpha) / weight_absmax ** np.float32(1 - alpha)
    return np.maximum(scales, _SMALLEST)


class Smoothed(NamedTuple):
    """A norm and the linear layers behind it, which give what they gave before, from smoother activations."""

    norm_weight: np.ndarray  # (in,)
    norm_bias: np.ndarray | None
    weights: list[np.ndarray]  # each (out, in)


def smooth(scales, norm_weight, weights, norm_bias=None) -> Smoothed:
    """Divide a norm's output by the scales (in,), and multiply the columns of the weights behind it by them.

    norm_weight  (in,), what the norm multiplies by last
    weights      array (out, in) or a list: all that read the norm's output
    norm_bias    (in,) or None, what a LayerNorm adds

    Returns float32 copies. Raises ValueError or TypeError for shapes that do not fit, NaN, infinity, scales that are
    not above 0.

    >>> weight = np.array([[0.25, 1.0], [1.0, -1.0]])
    >>> norm_weight, norm_bias, (weight,) = smooth([8.0, 1.0], [1.0, 1.0], weight)
    >>> norm_weight, weight
    (array([0.125, 1.   ], dtype=float32), array([[ 2.,  1.],
           [ 8., -1.]], dtype=float32))
    """
    scales = float32_array(scales, "scales")
    weights = _checked_weights(weights, scales.shape, "scales")
    if scales.min() <= 0:
        raise ValueError(f"scales must be above 0, not {scales.min()}")
    norm_weight = _divided(norm_weight, scales, "norm_weight")
    norm_bias = None if norm_bias is None else _divided(norm_bias, scales, "norm_bias")
    return Smoothed(norm_weight, norm_bias, [weight * scales for weight in weights])


@dataclass(frozen=True, eq=False)
class W8A8Linear:
    """A linear layer of int8 weights and int8 activations. Call it on activations of shape (..., in).

    weight            QuantizedTensor of shape (out, in): symmetric, 8 bits at most, per tensor or per channel
    bias              float32 (out,) or None
    activations_per   "token": a scale for each token, or "tensor": one for all activations of a call
    activation_scale  None: from the activations of each call ("dynamic"). A number: that one always ("static"), which
                      saves looking for the largest; activations beyond 127 times the scale saturate. Only per tensor

    >>> weight = [[1.0, -1.0], [0.5, 0.25]]
    >>> W8A8Linear.from_float(weight)([[2.0, 1.0], [200.0, 100.0]]).round(2)
    array([[  0.99,   1.25],
           [ 99.21, 125.4 ]], dtype=float32)
    >>> W8A8Linear.from_float(weight, activations_per="tensor", activation_absmax=100)([2.0, 1.0]).round(2)
    array([1.57, 1.38], dtype=float32)
    """

    weight: QuantizedTensor
    bias: np.ndarray | None = None
    activations_per: str = "token"
    activation_scale: float | None = None

    def __post_init__(self):
        QuantizedLinear(self.weight, self.bias, activation_bits=8)  # refuses what does not fit
        one_of(self.activations_per, "activations_per", ("token", "tensor"))
        if self.activation_scale is not None:
            if self.activations_per != "tensor":
                raise ValueError('activation_scale goes with activations_per="tensor": tokens are not known beforehand')
            scale = positive_number(self.activation_scale, "activation_scale")
            if not SMALLEST_SCALE <= scale <= LARGEST:
                allowed = f"from {SMALLEST_SCALE:.8g} to {LARGEST:.8g}"
                raise ValueError(f"activation_scale must be {allowed}, as a normal float32 is, not {scale:.8g}")

    @classmethod
    def from_float(
        cls, weight, bias=None, *, per: str = "channel", activations_per: str = "token", activation_absmax=None
    ) -> W8A8Linear:
        """Quantize a float weight of shape (out, in) symmetrically, per "channel" or "tensor".

        activation_absmax  None, or the largest magnitude of the activations on calibration data, for a static scale
        """
        layer = QuantizedLinear.from_float(weight, bias, per=per)
        if activation_absmax is not None:
            activation_absmax = positive_number(activation_absmax, "activation_absmax") / 127
        return cls(layer.weight, layer.bias, activations_per, activation_absmax)

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape

    @property
    def nbytes(self) -> int:
        """Bytes held: the weight with its scales, the float32 bias, and 4 for a static scale."""
        held = QuantizedLinear(self.weight, self.bias).nbytes
        return held if self.activation_scale is None else held + 4

    def __call__(self, x) -> np.ndarray:
        """Return the layer's output for x of shape (..., in): float32, shape (..., out)."""
        x = float32_array(x, "x")
        _check_shapes(x, self.weight, "x", "weight")
        codes, scale = self._quantized(x.reshape(-1, x.shape[-1]))
        y = int8_matmul(codes, self.weight.codes).astype(np.float32)  # (tokens, out)
        y *= scale
        y *= self.weight.scale.reshape(1, -1)
        if self.bias is not None:
            y += self.bias
        return y.reshape(*x.shape[:-1], -1)

    def _quantized(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return int8 codes (tokens, in), and a scale that broadcasts against (tokens, out)."""
        if self.activation_scale is None:
            quantized = quantize(tokens, 8, per="channel" if self.activations_per == "token" else "tensor")
            return quantized.codes, quantized.scale
        scale = np.float32(self.activation_scale)
        with np.errstate(over="ignore"):  # what is infinitely many steps away saturates
            return np.rint(tokens / scale).clip(-127, 127).astype(np.int8), scale


def _divided(vector, scales: np.ndarray, name: str) -> np.ndarray:
    vector = float32_array(vector, name)
    if vector.shape != scales.shape:
        raise ValueError(f"{name} must have shape {scales.shape}, as scales does, not {vector.shape}")
    return vector / scales


def _checked_weights(weights, shape: tuple[int, ...], other: str) -> list[np.ndarray]:
    """Return one weight, or several, as a list of float32 (out, in), where `other` has the given shape, (in,)."""
    if len(shape) != 1:
        raise ValueError(f"{other} must have 1 axis, (in,), but its shape is {shape}")
    if isinstance(weights, np.ndarray) and weights.ndim == 2:
        weights = [weights]
    weights = [float32_array(weight, "weights") for weight in weights]
    if not weights:
        raise ValueError("weights must be an array (out, in), or a list of at least one, not an empty list")
    for weight in weights:
        if weight.ndim != 2 or weight.shape[1:] != shape:
            raise ValueError(f"weights must have shape (out, {shape[0]}), as {other} has {shape}, not {weight.shape}")
    return weights

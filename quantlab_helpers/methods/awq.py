"""AWQ: make the columns that carry large inputs larger before rounding, so that they lose less by it.

Rounding to nearest is as wrong in column j of W as in any other, but in the output X @ W.T that error is multiplied by
input j. Where inputs are large, it would be well to round more finely. All columns of a group share a scale, so AWQ
makes the column larger instead, and its input smaller by as much, which leaves the output as it is:

    X @ W.T = (X / s) @ (W * s).T            s (in,), one number for each input

Rounded, Q(W * s) / s is wrong by a step / s in column j, as long as the group's range, and so its step, stays as it
was: s must not be large everywhere. AWQ takes powers of the mean magnitude of each input, and tries which is best:

    s = mean(abs(X))**alpha                  alpha = 0 (rounding to nearest), 0.05, ... 0.95
    s = s / sqrt(max(s) * min(s))

In a model 1 / s costs nothing: it is multiplied into what comes before, such as the weight of a norm.

Source: Lin et al., "AWQ", arXiv 2306.00978. Details are those of its authors' code, github.com/mit-han-lab/llm-awq
(`auto_scale_block`, `auto_clip_layer`, `pseudo_quantize_tensor`):

- s is at least 1e-4 before it is divided.
- Codes are unsigned. The range of a group is not widened to hold 0: scale = max(highest - lowest, 1e-5) / qmax, and the
  zero point is -round(lowest / scale), clipped to 0 to qmax. A group that is all positive and far from 0 saturates.
- Clipping, which is optional, comes after scaling: each group may be cut to 1, 0.95, ... 0.55 times its largest
  magnitude, whichever is best for the group's own part of the output. The authors' code estimates that from 512 of the
  tokens; here it is computed from all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..affine import QuantizedTensor, _scale_shape, code_dtype, code_range
from ..linear import _check_shapes
from ..validation import boolean, float32_array, integer_array, whole_number
from .gptq import hessian

SMALLEST_S = 1e-4
SMALLEST_RANGE = 1e-5
CUTS = tuple(1 - i / 20 for i in range(10))
LARGEST = 1e15  # what is done to larger numbers might exceed float32


@dataclass(frozen=True, eq=False, repr=False)
class AwqResult:
    """What `awq` found. If it was given several weights, `weight` and `quantized` are lists.

    scales     float32 (in,): s, one for each column of the weight
    alpha      the exponent that s was made with
    losses     float64 (grid,): the mean squared error of the output at each alpha that was tried, before any clipping
    weight     float32 (out, in): Q(W * s) / s, to use in place of W
    quantized  QuantizedTensor: Q(W * s), to use with inputs / s
    """

    scales: np.ndarray
    alpha: float
    losses: np.ndarray
    weight: np.ndarray | list[np.ndarray]
    quantized: QuantizedTensor | list[QuantizedTensor]

    def __repr__(self) -> str:
        better = self.losses[0] / self.losses.min() if self.losses.min() else 1.0
        return f"AwqResult(alpha={self.alpha:g}, loss {better:.3g} times smaller than at alpha=0, {self.quantized})"


def awq(
    weight,
    inputs,
    num_bits: int,
    *,
    group_size: int | None = 128,
    grid: int = 20,
    clip: bool = False,
    shared=None,
) -> AwqResult:
    """Find the s with which Q(weight * s) / s gives nearly the output of `weight`, and quantize with it.

    weight      (out, in), or a list of weights that share their inputs, such as those of queries, keys and values: they
                get one s, the best for all their outputs together. Within +-1e15
    inputs      (..., in): what the layer sees, within +-1e15
    num_bits    2 to 16
    group_size  how many columns share a step, a divisor of in. None: each row has one step
    grid        how many alphas to try: 0, 1/grid, 2/grid, ... The first of equals is taken
    clip        whether to look for the best range of each group as well
    shared      whole numbers (in,), or None: columns of the same number get the same s. (Where several heads read the
                same values, what comes before can divide only all of them)

    Raises ValueError or TypeError for NaN, infinity, shapes that do not fit and options out of range.

    >>> rng = np.random.default_rng(0)
    >>> weight, inputs = rng.normal(size=(8, 64)), rng.normal(size=(256, 64)) * np.where(np.arange(64) < 2, 30, 1)
    >>> awq(weight, inputs, 4, group_size=32).alpha
    0.6
    """
    is_several = isinstance(weight, list | tuple) and all(np.ndim(w) == 2 for w in weight)
    weights, inputs = _checked(weight if is_several else [weight], inputs)
    grid, clip = whole_number(grid, "grid", 1, 1000), boolean(clip, "clip")
    magnitude = np.abs(inputs).mean(axis=0, dtype=np.float64)  # (in,)
    if shared is not None:
        shared = _checked_shared(shared, magnitude.shape)
        magnitude = (np.bincount(shared, magnitude) / np.maximum(np.bincount(shared), 1))[shared]
    moments = hessian(inputs) / (2 * len(inputs))  # (in, in): the mean of x.T @ x over the tokens x
    together = np.concatenate(weights)  # (out, in): rows share nothing but s

    losses = []
    for step in range(grid):
        s = awq_scales(magnitude, step / grid)
        error = _quantize(together * s, num_bits, group_size).dequantize() / s - together
        losses.append(_mean_square(error, moments))
    alpha = int(np.argmin(losses)) / grid
    s = awq_scales(magnitude, alpha)
    scaled = [w * s for w in weights]
    if clip:
        scaled = [_clipped(w, moments / np.outer(s, s), num_bits, group_size) for w in scaled]
    quantized = [_quantize(w, num_bits, group_size) for w in scaled]
    restored = [q.dequantize() / s for q in quantized]
    if not is_several:
        quantized, restored = quantized[0], restored[0]
    return AwqResult(s, alpha, np.array(losses), restored, quantized)


def _checked(weights, inputs) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the weights, float32 (out, in), and the inputs, float32 (tokens, in)."""
    weights, inputs = [float32_array(w, "weight") for w in weights], float32_array(inputs, "inputs")
    if not weights:
        raise ValueError("weight must be an array (out, in), or a list of at least one")
    for w in weights:
        _check_shapes(inputs, w, "inputs", "weight")
    for name, array in (*(("weight", w) for w in weights), ("inputs", inputs)):
        if np.abs(array).max() > LARGEST:
            raise ValueError(f"{name} must be within +-{LARGEST:g}, but it reaches {np.abs(array).max():g}")
    return weights, inputs.reshape(-1, inputs.shape[-1])


def _checked_shared(shared, shape: tuple[int]) -> np.ndarray:
    shared = integer_array(shared, "shared")
    if shared.shape != shape or shared.min() < 0:
        raise ValueError(f"shared must hold {shape[0]} numbers of 0 or more, one for each column of the inputs")
    return shared


def awq_scales(magnitude: np.ndarray, alpha: float) -> np.ndarray:
    """Return s, float32 (in,), for the mean magnitude (in,) of each input."""
    s = np.maximum(magnitude**alpha, SMALLEST_S).astype(np.float32)
    return s / np.sqrt(s.max() * s.min())


def _mean_square(error: np.ndarray, moments: np.ndarray) -> float:
    """Return mean((X @ error.T)**2), the error of the output, for an error (out, in) of the weight.

    `moments` (in, in) is the mean of x.T @ x over the rows x of X. Where there are more rows than columns, that takes
    less time than X @ error.T.
    """
    size = np.trace(moments) or 1.0  # taken out, so that float32 holds the rest
    return float(size * np.sum((error @ (moments / size).astype(np.float32)) * error, dtype=np.float64) / len(error))


def _quantize(weight: np.ndarray, num_bits: int, group_size: int | None) -> QuantizedTensor:
    """Quantize `weight` (out, in) with the authors' zero points: the range need not hold 0."""
    _, qmax = code_range(num_bits, symmetric=False)
    scale_shape = _scale_shape(weight.shape, "channel" if group_size is None else "group", group_size)
    groups = weight.reshape(*scale_shape, -1)  # (out, groups, group_size)
    lowest, highest = groups.min(axis=-1), groups.max(axis=-1)  # (out, groups)
    scale = np.maximum(highest - lowest, SMALLEST_RANGE) / qmax
    zero_point = np.clip(-np.rint(lowest / scale), 0, qmax)
    codes = np.clip(np.rint(groups / scale[..., None]) + zero_point[..., None], 0, qmax)
    codes = codes.astype(code_dtype(num_bits, symmetric=False)).reshape(weight.shape)
    return QuantizedTensor(codes, scale, zero_point.astype(np.int32), num_bits, False, group_size)


def _clipped(weight: np.ndarray, moments: np.ndarray, num_bits: int, group_size: int | None) -> np.ndarray:
    """Return `weight` (out, in) with each group cut to the one of CUTS that suits its part of the output best."""
    size = group_size or weight.shape[1]
    num_groups = weight.shape[1] // size
    which = np.arange(num_groups)
    moments = moments.reshape(num_groups, size, num_groups, size)[which, :, which]  # (groups, size, size)
    groups = weight.reshape(-1, num_groups, size).swapaxes(0, 1)  # (groups, out, size)
    absmax = np.abs(groups).max(axis=-1, keepdims=True)  # (groups, out, 1)
    best, smallest = groups, np.inf
    for cut in CUTS:
        clipped = np.clip(groups, -cut * absmax, cut * absmax)
        restored = _quantize(clipped.swapaxes(0, 1).reshape(weight.shape), num_bits, group_size).dequantize()
        error = restored.reshape(-1, num_groups, size).swapaxes(0, 1) - groups
        loss = np.sum((error @ moments) * error, axis=-1, keepdims=True)  # (groups, out, 1)
        best, smallest = np.where(loss < smallest, clipped, best), np.minimum(loss, smallest)
    return best.swapaxes(0, 1).reshape(weight.shape)

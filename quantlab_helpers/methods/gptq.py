"""GPTQ: round one column after the other, and let the columns still to come make up for the error.

Rounding to nearest keeps every weight as close as it can. But what a layer owes the next one is its output X @ W.T, for
the inputs X that it sees. Weights that are wrong by D change the output by

    |X @ D.T|**2 = trace(D @ H @ D.T) / 2         where H = 2 X.T @ X, (in, in), is called the Hessian

GPTQ rounds column j of W, then moves the columns k > j, which are not yet rounded, to where they undo most of the harm:

    error = (w_j - q_j) / U[j, j]
    w_k  -= error * U[j, k]                       where U is upper triangular and U.T @ U = inv(H)

The weights come out worse than rounded to nearest, the output better. To be fast, the columns of a block are moved one
rounding at a time, those beyond it by one matrix product for the whole block ("lazy batch updates").

Source: Frantar et al., "GPTQ", arXiv 2210.17323, algorithm 1. Details are those of its authors' code, `fasterquant` in
github.com/IST-DASLab/gptq:

- H is damped: `damping` times the mean of its diagonal is added to the diagonal. Without, H has no inverse where there
  are fewer inputs than columns.
- An input that is always 0 is dead: its H[j, j] is set to 1, and its column to 0.
- Codes are unsigned. The range of a row is widened to hold 0, scale = (highest - lowest) / qmax, and the zero point is
  round(-lowest / scale). Symmetric: the range is -absmax to absmax and the zero point 2**(num_bits-1). (Where no weight
  is negative it is 0 to absmax, with that same zero point, so that large weights saturate.)
- A range that is all zero becomes -1 to 1.
- The scales of a group are chosen when its first column is reached, from W as it was at the start of that column's
  block: what was done within the block does not count yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..affine import SMALLEST_SCALE, QuantizedTensor, _scale_shape, code_dtype, code_range, dequantize
from ..linear import _check_shapes
from ..packing import packed_size
from ..validation import boolean, finite_array, float32_array, positive_number, whole_number

LARGEST = 1e30  # what is done to larger weights might exceed float32


def gptq(
    weight,
    inputs,
    num_bits: int,
    *,
    group_size: int | None = None,
    symmetric: bool = False,
    damping: float = 0.01,
    block_size: int = 128,
    act_order: bool = False,
    static_groups: bool = False,
) -> QuantizedTensor | GptqTensor:
    """Quantize a layer's weight so that its output for `inputs` changes as little as may be.

    weight         (out, in), within +-1e30
    inputs         (..., in): what the layer sees, better a few times more of it than there are columns
    num_bits       2 to 16
    group_size     how many columns share a scale, a divisor of in. None: each row has one scale
    symmetric      whether the zero point is in the middle of the codes
    damping        above 0, as a part of the mean of H's diagonal. The more, the nearer to rounding to nearest
    block_size     columns to a block: a matter of speed, except to groups that begin inside a block, whose scales are
                   those of the block's start
    act_order      round the columns with the largest H[j, j] first, while there are many left to make up for them. Of
                   equals, the leftmost first
    static_groups  choose the scales of all groups at the start, from columns side by side

    The result has unsigned codes and zero points, whether symmetric or not. It is a `QuantizedTensor`, except with
    act_order and groups that are not static: then the columns that share a scale are not side by side, and it is a
    `GptqTensor`.

    Raises ValueError or TypeError for NaN, infinity, shapes that do not fit and options out of range.

    >>> rng = np.random.default_rng(0)
    >>> weight, inputs = rng.normal(size=(8, 64)), rng.normal(size=(256, 64))
    >>> gptq(weight, inputs, 4, group_size=32)
    QuantizedTensor(shape=(8, 64), 4 bits, affine, per group of 32, 336 bytes, 5.25 bits per weight)
    """
    _check_shapes(finite_array(inputs, "inputs"), finite_array(weight, "weight"), "inputs", "weight")
    return gptq_from_hessian(
        weight,
        hessian(inputs),
        num_bits,
        group_size=group_size,
        symmetric=symmetric,
        damping=damping,
        block_size=block_size,
        act_order=act_order,
        static_groups=static_groups,
    )


def hessian(inputs) -> np.ndarray:
    """Return H = 2 X.T @ X, float64 (in, in), for inputs X of shape (..., in).

    H of all inputs is the sum of the H of its parts: what does not fit in memory at once can be added up.

    >>> hessian([[1.0, 2.0], [0.0, 1.0]])
    array([[ 2.,  4.],
           [ 4., 10.]])
    """
    inputs = float32_array(inputs, "inputs")
    if not inputs.ndim:
        raise ValueError("inputs must have 1 axis or more, (..., in), but the shape is ()")
    inputs = inputs.reshape(-1, inputs.shape[-1]).astype(np.float64)  # wide enough for the square of any float32
    return 2 * (inputs.T @ inputs)


def gptq_from_hessian(
    weight,
    hessian,
    num_bits: int,
    *,
    group_size: int | None = None,
    symmetric: bool = False,
    damping: float = 0.01,
    block_size: int = 128,
    act_order: bool = False,
    static_groups: bool = False,
) -> QuantizedTensor | GptqTensor:
    """Do what `gptq` does, for inputs of which `hessian` (in, in) is known. The other arguments are those of `gptq`.

    >>> gptq_from_hessian([[0.1, 0.4, 1.5]], np.eye(3), 4).codes      # nothing can be made up for: rounds to nearest
    array([[ 1,  4, 15]], dtype=uint8)
    """
    weight, hessian = float32_array(weight, "weight"), finite_array(hessian, "hessian").astype(np.float64)
    _check_shapes(hessian, weight, "hessian", "weight")
    num_outputs, num_inputs = weight.shape
    if hessian.shape != (num_inputs, num_inputs):
        raise ValueError(f"hessian must have shape {(num_inputs, num_inputs)}, not {hessian.shape}")
    if np.diag(hessian).min() < 0:
        raise ValueError(f"hessian must have sums of squares on its diagonal, not {np.diag(hessian).min():g}")
    if np.abs(weight).max() > LARGEST:
        raise ValueError(f"weight must be within +-{LARGEST:g}, but it reaches {np.abs(weight).max():g}")
    damping, block_size = positive_number(damping, "damping"), whole_number(block_size, "block_size", 1, 2**31)
    symmetric, act_order = boolean(symmetric, "symmetric"), boolean(act_order, "act_order")
    is_static = boolean(static_groups, "static_groups") or group_size is None
    _, qmax = code_range(num_bits, symmetric=False)
    _, num_groups = _scale_shape(weight.shape, "channel" if group_size is None else "group", group_size)
    size = num_inputs // num_groups

    dead = np.diag(hessian) == 0
    hessian[dead, dead] = 1
    order = np.argsort(-np.diag(hessian), kind="stable") if act_order else np.arange(num_inputs)
    factor = _inverse_factor(hessian[np.ix_(order, order)], damping)

    columns = np.where(dead[:, None], 0, weight.T)  # (in, out): columns of the weight as rows, each in one piece
    in_range = weight.T if group_size is None else columns  # dead columns count towards the range of a whole row
    scale, zero_point = _grids(in_range.reshape(num_groups, size, num_outputs), qmax, symmetric)  # (groups, out)
    columns = columns[order]
    group = (order if is_static else np.arange(num_inputs)) // size  # (in,), of the columns in that order

    def grid(j):
        if not is_static and j % size == 0:
            scale[group[j]], zero_point[group[j]] = _grids(columns[j : j + size], qmax, symmetric)
        return scale[group[j]], zero_point[group[j]]

    codes = _round_columns(columns, factor, grid, qmax, block_size)
    in_place = np.argsort(order)  # where each column of the weight is in that order
    codes = codes[in_place].T.astype(code_dtype(num_bits, symmetric=False), order="C")
    scale, zero_point = scale.T.copy(), zero_point.T.astype(np.int32, order="C")
    if not act_order or is_static or num_groups == 1:
        return QuantizedTensor(codes, scale, zero_point, num_bits, symmetric=False, group_size=group_size)
    return GptqTensor(codes, scale, zero_point, group[in_place].astype(np.min_scalar_type(num_groups - 1)), num_bits)


def _round_columns(columns, factor, grid, qmax: int, block_size: int) -> np.ndarray:
    """Round the columns in turn, as at the top of this file, and return their codes, float32 (in, out).

    columns  float32 (in, out), which is changed: each column of W is a row of it
    factor   float32 (in, in): U
    grid     a function from j to the scale and the zero point (out,) of column j
    """
    codes = np.empty_like(columns)
    for start in range(0, len(columns), block_size):
        stop = start + block_size
        block = columns[start:stop].copy()  # (block, out)
        errors = np.empty_like(block)
        for i, column in enumerate(block):
            j = start + i
            scale, zero_point = grid(j)
            codes[j] = np.clip(np.rint(column / scale) + zero_point, 0, qmax)
            errors[i] = (column - scale * (codes[j] - zero_point)) / factor[j, j]
            block[i + 1 :] -= factor[j, j + 1 : stop, None] * errors[i]  # what is left of the block: at once
        columns[stop:] -= factor[start:stop, stop:].T @ errors  # what is beyond it: for all of the block together
    return codes


def _inverse_factor(hessian: np.ndarray, damping: float) -> np.ndarray:
    """Return U, float32 (in, in), upper triangular, with U.T @ U = inv(hessian + damping * its mean diagonal).

    But for a factor, which does not matter: U occurs as U[j, k] / U[j, j] only. So that float32 holds U, whatever the
    size of the inputs, the mean of the diagonal is taken as 1.
    """
    damped = hessian / np.diag(hessian).mean() + damping * np.eye(len(hessian))
    try:
        return np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32, order="C")
    except np.linalg.LinAlgError:
        raise ValueError(
            f"damping must be larger than {damping:g} for this hessian, which is not positive definite without"
        ) from None


def _grids(columns: np.ndarray, qmax: int, symmetric: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the scales and the zero points, both float32 (..., out), of columns (..., in, out)."""
    lowest, highest = np.minimum(columns.min(axis=-2), 0), np.maximum(columns.max(axis=-2), 0)
    if symmetric:
        highest = np.maximum(-lowest, highest)
        lowest = np.where(lowest < 0, -highest, 0)
    is_zero = lowest == highest
    lowest, highest = np.where(is_zero, -1, lowest), np.where(is_zero, 1, highest)
    scale = np.maximum((highest - lowest) / qmax, np.float32(SMALLEST_SCALE))
    zero_point = np.full_like(scale, (qmax + 1) // 2) if symmetric else np.rint(-lowest / scale)
    return scale, zero_point


@dataclass(frozen=True, eq=False, repr=False)
class GptqTensor:
    """A quantized matrix (out, in) in which the columns that share a scale are not side by side.

    real = scale[:, group_index] * (codes - zero_point[:, group_index])

    codes        uint8 or uint16 (out, in)
    scale        float32 (out, groups)
    zero_point   int32 (out, groups)
    group_index  (in,) whole numbers, as small as they may be: which group each column belongs to
    num_bits     2 to 16

    This is how files in the GPTQ format hold such a matrix (there the index is called g_idx). The columns could be put
    in the order of the groups, and `inputs` with them; that takes an index just as long.
    """

    codes: np.ndarray
    scale: np.ndarray
    zero_point: np.ndarray
    group_index: np.ndarray
    num_bits: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape

    def dequantize(self) -> np.ndarray:
        """Return the matrix that the codes stand for: float32 (out, in)."""
        return dequantize(self.codes, self.scale[:, self.group_index], self.zero_point[:, self.group_index])

    @property
    def nbytes(self) -> int:
        """Bytes held when packed: as in a `QuantizedTensor`, and the index."""
        codes = packed_size(self.codes.size, self.num_bits if self.num_bits <= 8 else 16)
        zero_points = self.codes.itemsize * self.zero_point.size
        return codes + self.scale.nbytes + zero_points + self.group_index.nbytes

    @property
    def bits_per_weight(self) -> float:
        """Bits held for each weight, scales, zero points and index included."""
        return 8 * self.nbytes / self.codes.size

    def __repr__(self) -> str:
        return (
            f"GptqTensor(shape={self.shape}, {self.num_bits} bits, affine, {self.scale.shape[1]} groups of scattered "
            f"columns, {self.nbytes} bytes, {self.bits_per_weight:g} bits per weight)"
        )

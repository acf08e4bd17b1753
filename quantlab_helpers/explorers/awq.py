"""Explorer of notebook 09: what alpha does in AWQ, to the scales of the channels and to the output."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .. import style
from ..affine import fake_quantize
from ..linear import linear_forward
from ..methods.awq import awq_scales
from ..validation import finite_array
from .base import Control, Explorer
from .channels import channel_chart, decades_of, error_chart
from .layer_output import relative_errors
from .svg import tiled

ALPHAS = tuple(step / 20 for step in range(20))
_BITS = (4, 3)
_GROUP_SIZES = (64, 32, 16, 8, 4, 2)


@dataclass(frozen=True)
class Scaled:
    """A weight whose columns were scaled before rounding. Errors are relative to the size of the float output."""

    num_bits: int
    scales: str  # who shares a step, in words
    alpha: float
    s: np.ndarray  # (in,) by what each column was multiplied
    error: float  # on held-out inputs
    calibration_error: float
    column_errors: np.ndarray  # (in,) what each column adds to the output's error, if it alone is rounded


def awq(weight, inputs, heldout=None) -> Explorer:
    """Scale the columns of `weight` (out, in) by s = mean(abs(inputs))**alpha, round, and see the error of the output.

    inputs   (tokens, in), what s and the curve of calibration are made from
    heldout  (tokens, in), other inputs to measure on. None: the same
    """
    weight, inputs = finite_array(weight, "weight").astype(np.float32), finite_array(inputs, "inputs")
    heldout = inputs if heldout is None else finite_array(heldout, "heldout")
    inputs, heldout = np.atleast_2d(inputs).astype(np.float32), np.atleast_2d(heldout).astype(np.float32)
    y_inputs, y_heldout = linear_forward(inputs, weight), linear_forward(heldout, weight)  # explains wrong shapes
    magnitude = np.abs(inputs).mean(axis=0)  # (in,)
    order = np.argsort(-magnitude, kind="stable")
    of_inputs = np.linalg.norm(inputs, axis=0)
    of_output = np.linalg.norm(y_inputs.astype(np.float64)) or 1.0
    in_features = weight.shape[1]
    options = {"one per row": {"per": "channel"}}
    if sizes := [size for size in _GROUP_SIZES if size < in_features and in_features % size == 0]:
        options = {f"groups of {sizes[0]}": {"per": "group", "group_size": sizes[0]}} | options

    @cache  # the curve behind a point is made of other points
    def compute(num_bits, scales, alpha):
        s = awq_scales(magnitude, alpha)
        restored = fake_quantize(weight * s, num_bits, symmetric=False, **options[scales]) / s
        return Scaled(
            num_bits=num_bits,
            scales=scales,
            alpha=alpha,
            s=s,
            error=_relative_error(y_heldout, linear_forward(heldout, restored)),
            calibration_error=_relative_error(y_inputs, linear_forward(inputs, restored)),
            column_errors=np.linalg.norm((restored - weight).astype(np.float64), axis=0) * of_inputs / of_output,
        )

    def curve(result):
        return [compute(result.num_bits, result.scales, alpha) for alpha in ALPHAS]

    @cache
    def ranges(scales):
        """What holds s, and the columns' errors, wherever the other sliders are: so they can be seen to move."""
        results = [compute(num_bits, scales, alpha) for num_bits in _BITS for alpha in ALPHAS]
        return decades_of(*(r.s for r in results)), decades_of(*(100 * r.column_errors for r in results))

    return Explorer(
        title="Scale the columns, then round",
        controls=(
            Control("num_bits", "bits", _BITS, 4),
            Control("scales", "steps", tuple(options), next(iter(options))),
            Control("alpha", "alpha", ALPHAS, 0.0, lambda alpha: f"{alpha:.2f}"),
        ),
        compute=compute,
        draw=lambda result: _draw(result, curve(result), order, ranges(result.scales)),
        describe=lambda result: _describe(result, curve(result), order),
        num_values=weight.size + inputs.size + heldout.size,
    )


def _relative_error(y, y_q) -> float:
    return float(relative_errors(*(array.astype(np.float64).ravel() for array in (y, y_q))))


def _best(curve: list[Scaled]) -> Scaled:
    return min(curve, key=lambda point: point.calibration_error)


def _draw(result: Scaled, curve: list[Scaled], order, ranges) -> str:
    nearest, best = curve[0], _best(curve)
    level = ("rounding to nearest", nearest.error)
    errors = [point.error for point in curve]
    top = error_chart(ALPHAS, errors, (result.alpha, result.error), level, "output error, held-out (%)")
    top.points([best.alpha], [100 * best.error], style.INK, radius=3.5)
    top.text(best.alpha, 100 * best.error, "AWQ's choice, from calibration inputs", size=11, dy=-10)
    of_s = {"s": (style.QUANTIZED, result.s[order], False)}
    of_errors = {
        "alpha 0": (style.ORIGINAL, 100 * nearest.column_errors[order], True),
        f"alpha {result.alpha:.2f}": (style.ERROR, 100 * result.column_errors[order], False),
    }
    below = [
        channel_chart(of_s, ranges[0], "s of the channel"),
        channel_chart(of_errors, ranges[1], "error it alone adds (%)"),
    ]
    return tiled([[top], below], "Output error against alpha; below, scale and error of each channel")


def _describe(result: Scaled, curve: list[Scaled], order) -> str:
    nearest, best, first = curve[0], _best(curve), order[0]
    adds, typical = result.column_errors[first], np.median(result.column_errors)
    return (
        f"{result.num_bits} bits, {result.scales}, alpha {result.alpha:.2f}: output error "
        f"{style.percent(result.error)} on held-out inputs; rounding to nearest leaves {style.percent(nearest.error)}. "
        f"Channel {first}, with the largest inputs, has s = {result.s[first]:.3g}, the typical channel "
        f"{np.median(result.s):.3g}; alone they would add {100 * adds:.2g} % and {100 * typical:.2g} % of error. On "
        f"the calibration inputs, alpha {best.alpha:.2f} is best."
    )

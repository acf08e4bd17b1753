"""Explorer of notebook 09: how alpha moves the difficulty from the activations of a layer to its weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .. import style
from ..linear import linear_forward
from ..methods.smoothquant import W8A8Linear, smoothquant_scales
from ..validation import finite_array
from .base import Control, Explorer
from .channels import channel_chart, decades_of, error_chart
from .layer_output import relative_errors
from .svg import tiled

ALPHAS = tuple(step / 20 for step in range(21))
_SCALES = {"one per token": "token", "one for all": "tensor"}


@dataclass(frozen=True)
class Smoothed:
    """A layer whose inputs were divided by s, and its weight multiplied, before both were rounded to 8 bits."""

    alpha: float | str  # or "off"
    scales: str  # of the activations, in words
    activation_absmax: np.ndarray  # (in,) after the division by s
    weight_absmax: np.ndarray  # (in,) after the multiplication by s
    error: float  # of the typical token, relative to its float output


def smoothquant(weight, activations, heldout=None) -> Explorer:
    """Divide the columns of the activations by s and multiply those of `weight` (out, in), then round both to 8 bits.

    activations  (tokens, in), from which s is made
    heldout      (tokens, in), other activations to measure on. None: the same
    """
    weight, activations = finite_array(weight, "weight").astype(np.float32), finite_array(activations, "activations")
    heldout = activations if heldout is None else finite_array(heldout, "heldout")
    activations, heldout = np.atleast_2d(activations).astype(np.float32), np.atleast_2d(heldout).astype(np.float32)
    linear_forward(activations, weight)  # explains wrong shapes
    y = linear_forward(heldout, weight).astype(np.float64)
    activation_absmax, weight_absmax = np.abs(activations).max(axis=0), np.abs(weight).max(axis=0)
    order = np.argsort(-activation_absmax, kind="stable")

    @cache  # the curve behind a point is made of other points
    def compute(scales, alpha):
        s = np.float32(1) if alpha == "off" else smoothquant_scales(activation_absmax, weight, alpha)
        layer = W8A8Linear.from_float(weight * s, activations_per=_SCALES[scales])
        return Smoothed(
            alpha=alpha,
            scales=scales,
            activation_absmax=activation_absmax / s,
            weight_absmax=weight_absmax * s,
            error=float(np.median(relative_errors(y, layer(heldout / s)))),
        )

    def draw(result):
        curve = [compute(result.scales, alpha) for alpha in ALPHAS]
        return _draw(result, curve, compute(result.scales, "off"), order)

    return Explorer(
        title="From activations to weights",
        controls=(
            Control("scales", "token scales", tuple(_SCALES), "one per token"),
            Control("alpha", "alpha", ("off", *ALPHAS), "off", lambda a: a if a == "off" else f"{a:.2f}"),
        ),
        compute=compute,
        draw=draw,
        describe=lambda result: _describe(result, compute(result.scales, "off")),
        num_values=weight.size + activations.size + heldout.size,
    )


def _draw(result: Smoothed, curve: list[Smoothed], off: Smoothed, order) -> str:
    here = (None if result.alpha == "off" else result.alpha, result.error)
    errors = [point.error for point in curve]
    top = error_chart(ALPHAS, errors, here, ("not smoothed", off.error), "error, typical token (%)")
    everything = decades_of(*(a for point in (off, *curve) for a in (point.activation_absmax, point.weight_absmax)))
    below = [
        channel_chart(
            {
                "before": (style.ORIGINAL, getattr(off, part)[order], True),
                "now": (colour, getattr(result, part)[order], False),
            },
            everything,
            y_label,
        )
        for part, colour, y_label in (
            ("activation_absmax", style.QUANTIZED, "largest activation"),
            ("weight_absmax", style.GOOD, "largest weight"),
        )
    ]
    label = "Output error against alpha; below, the largest activation and the largest weight of each channel"
    return tiled([[top], below], label)


def _describe(result: Smoothed, off: Smoothed) -> str:
    smoothing = "not smoothed" if result.alpha == "off" else f"alpha {result.alpha:.2f}"
    return (
        f"{smoothing}, activation scales {result.scales}: the largest channel of the activations is "
        f"{_times_typical(result.activation_absmax)} times the typical one, of the weights "
        f"{_times_typical(result.weight_absmax)} times. Error of the typical token {style.percent(result.error)}; "
        f"not smoothed {style.percent(off.error)}."
    )


def _times_typical(absmax) -> str:
    return f"{absmax.max() / (np.median(absmax) or absmax.max() or 1.0):.3g}"

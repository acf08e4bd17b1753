"""Explorer of notebook 01: a whole array falls into its buckets; bits, clip threshold and mapping are yours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import style
from ..affine import quantize
from ..metrics import mean_abs_error, sqnr_db
from ..validation import finite_array
from .base import Control, Explorer
from .svg import Chart


@dataclass(frozen=True)
class Buckets:
    """An array quantized per tensor: how many values each code got, and what it cost."""

    num_bits: int
    scale: float
    zero_point: int
    codes: np.ndarray  # (number of codes that occur,)
    counts: np.ndarray  # (number of codes that occur,) values in each
    edges: np.ndarray  # of the histogram of the original values
    histogram: np.ndarray
    threshold: float  # values of a larger magnitude are clipped
    num_clipped: int
    mean_error: float
    clipping_share: float  # of the summed absolute error
    sqnr: float
    size: int


def buckets(x) -> Explorer:
    """Watch the values of `x` (any array) fall into the buckets of 2 to 8 bits.

    The clip threshold is a fraction of the largest magnitude: what lies beyond is pulled in to it.
    """
    x = finite_array(x, "x").astype(np.float32).ravel()
    absmax = float(np.abs(x).max()) or 1.0
    histogram, edges = np.histogram(x, bins=60)

    def compute(num_bits, clip, mapping):
        quantized = quantize(x, num_bits, symmetric=mapping == "symmetric", clip=clip * absmax)
        restored = quantized.dequantize()
        codes, counts = np.unique(quantized.codes, return_counts=True)
        scale, zero_point = float(quantized.scale), int(quantized.zero_point)
        outside = np.abs(x) > np.float32(clip * absmax)
        error = np.abs(restored - x)
        return Buckets(
            num_bits=num_bits,
            scale=scale,
            zero_point=zero_point,
            codes=codes,
            counts=counts,
            edges=edges,
            histogram=histogram,
            threshold=clip * absmax,
            num_clipped=int(outside.sum()),
            mean_error=float(mean_abs_error(x, restored)),
            clipping_share=float(error[outside].sum() / (error.sum() or 1.0)),
            sqnr=float(sqnr_db(x, restored)),
            size=x.size,
        )

    return Explorer(
        title="Watch the weights fall into buckets",
        controls=(
            Control("mapping", "mapping", ("symmetric", "affine"), "symmetric"),
            Control("clip", "clip at", tuple(c / 10 for c in range(1, 11)), 1.0, lambda c: f"{c:.0%} of max"),
            Control("num_bits", "bits", (2, 3, 4, 5, 6, 7, 8), 4),
        ),
        compute=compute,
        draw=_draw,
        describe=_describe,
    )


def _draw(result: Buckets) -> str:
    bin_width = result.edges[1] - result.edges[0]
    top = 1.6 * result.histogram.max()
    span = max(abs(result.edges[0]), abs(result.edges[-1])) * 1.05
    chart = Chart((min(result.edges[0] * 1.05, -0.02 * span), span), (0, top), x_label="value", y_label="density")
    chart.band(-span, -result.threshold, style.ERROR)
    chart.band(result.threshold, span, style.ERROR)
    # Heights are counts for each bin's width of the axis, so bars of any width compare with the outline.
    heights = np.minimum(result.counts * bin_width / result.scale, top)
    centres = (result.codes.astype(np.float64) - result.zero_point) * result.scale
    chart.bars(centres, heights, 0.85 * result.scale, style.QUANTIZED, opacity=0.8)
    chart.steps(result.edges, result.histogram, style.INK)
    chart.text(span, top, "outline: before, bars: after, shaded: clipped", anchor="end", size=11, dy=12)
    return chart.image(f"Histogram before and after quantization. {_describe(result)}")


def _describe(result: Buckets) -> str:
    return (
        f"{result.num_bits} bits, scale {result.scale:.5f}, zero point {result.zero_point}: "
        f"{result.codes.size} of {2**result.num_bits} codes are used. Mean error {result.mean_error:.5f}, "
        f"{result.clipping_share:.0%} of it from the {result.num_clipped} of {result.size} values that are clipped. "
        f"SQNR {style.decibels(result.sqnr)}."
    )

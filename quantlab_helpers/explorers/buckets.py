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
    threshold: float  # values of a larger magnitude are clipped
    num_clipped: int
    mean_error: float
    clipping_share: float  # of the summed absolute error
    sqnr: float
    original: np.ndarray  # the values before, flat


def buckets(x) -> Explorer:
    """Watch the values of `x` (any array) fall into the buckets of 2 to 8 bits.

    The clip threshold is a fraction of the largest magnitude: what lies beyond is pulled in to it.
    """
    x = finite_array(x, "x").astype(np.float32).ravel()
    absmax = float(np.abs(x).max()) or 1.0

    def compute(num_bits, clip, mapping):
        quantized = quantize(x, num_bits, symmetric=mapping == "symmetric", clip=clip * absmax)
        restored = quantized.dequantize()
        codes, counts = np.unique(quantized.codes, return_counts=True)
        outside = np.abs(x) > np.float32(clip * absmax)
        error = np.abs(restored - x)
        return Buckets(
            num_bits=num_bits,
            scale=float(quantized.scale),
            zero_point=int(quantized.zero_point),
            codes=codes,
            counts=counts,
            threshold=clip * absmax,
            num_clipped=int(outside.sum()),
            mean_error=float(mean_abs_error(x, restored)),
            clipping_share=float(error[outside].sum() / (error.sum() or 1.0)),
            sqnr=sqnr_db(x, restored),
            original=x,
        )

    return Explorer(
        title="Watch the values fall into buckets",
        controls=(
            Control("num_bits", "bits", (2, 3, 4, 5, 6, 7, 8), 4),
            Control("clip", "clip at", tuple(c / 10 for c in range(1, 11)), 1.0, lambda c: f"{c:.0%} of max"),
            Control("mapping", "mapping", ("symmetric", "affine"), "symmetric"),
        ),
        compute=compute,
        draw=_draw,
        describe=_describe,
        num_values=x.size,
    )


def _draw(result: Buckets) -> str:
    x = result.original
    # Room for the outermost buckets of 2 bits, whose middle can lie a third beyond the data.
    reach = 1.4 * (float(np.abs(x).max()) or 1.0)
    span = (-reach if x.min() < 0 else -0.1 * reach, reach if x.max() > 0 else 0.1 * reach)
    before, edges = np.histogram(x, bins=80, range=span)
    bin_width = edges[1] - edges[0]
    top = 1.6 * before.max()
    legend = "value (outline: before, bars: after, shaded: clipped)"
    chart = Chart(span, (0, top), x_label=legend, y_label=f"values per {bin_width:.2g}")
    chart.band(span[0], -result.threshold, style.ERROR)
    chart.band(result.threshold, span[1], style.ERROR)
    centres = (result.codes.astype(np.float64) - result.zero_point) * result.scale
    if result.scale >= bin_width:  # a bar for each bucket, of the same area as the outline over it
        heights, width = result.counts * (bin_width / result.scale), 0.85 * result.scale
    else:  # buckets narrower than the bins of the outline: the same bins for both
        heights, _ = np.histogram(centres, edges, weights=result.counts)
        centres, width = (edges[:-1] + edges[1:]) / 2, bin_width
    chart.bars(centres, np.minimum(heights, top), width, style.QUANTIZED, opacity=0.8)
    chart.steps(edges, before, style.INK)
    if heights.max() > top and result.scale >= bin_width:  # a bar that is cut says how many it holds
        for centre, count in zip(centres[heights > top], result.counts[heights > top], strict=True):
            chart.text(centre, top, f"{count}", colour=style.QUANTIZED, bold=True, dy=-2)
    return chart.image("Histogram of the values before and after quantization")


def _describe(result: Buckets) -> str:
    return (
        f"{result.num_bits} bits: {result.codes.size} of {2**result.num_bits} codes are in use, scale "
        f"{result.scale:.4g}, zero point {result.zero_point}. Mean error {result.mean_error:.3g}, of which "
        f"{result.clipping_share:.0%} comes from the {result.num_clipped} values that are clipped (of "
        f"{result.original.size}). SQNR {style.decibels(result.sqnr)}."
    )

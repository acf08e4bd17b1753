"""Explorer of notebook 05: how fine must the scales be? One for the tensor, one per row, one per group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import style
from ..affine import quantize
from ..metrics import sqnr_db
from ..validation import finite_array
from .base import Control, Explorer
from .svg import Chart

_MOST_ROWS = 64  # as many bars can be told apart
_MOST_WEIGHTS = 1 << 16  # all positions are computed when the cell runs
_GROUP_SIZES = (256, 192, 128, 96, 64, 32, 16, 8, 4, 2)
_MOST_SIZES = 5  # with one scale and one per row, 7 bit widths and 4 outliers that makes 196 positions


@dataclass(frozen=True)
class Granularity:
    """A weight matrix quantized with coarse or fine scales: how wrong each row is, and what it cost."""

    num_bits: int
    scales: str  # how many scales there are, in words
    times: int  # one row was multiplied by this
    rows: np.ndarray  # (rows,) which rows of the matrix are shown
    multiplied: np.ndarray  # (rows,) bool, True for that one row
    row_errors: np.ndarray  # (rows,) relative error: 0 is exact, 1 as bad as zeros
    sqnr: float
    bits_per_weight: float
    share_lost: float  # of the weights that were not 0 and are now


def granularity(weight) -> Explorer:
    """Quantize the matrix `weight`, (out, in), with one scale, one per row or one per group, and see each row's error.

    A typical row (its largest weight is the median over the rows) can be multiplied, to make an outlier of it. Of
    a large matrix some 64 rows are taken, evenly spread, and always the one with the largest weight.
    """
    weight = finite_array(weight, "weight").astype(np.float32)
    if weight.ndim != 2:
        raise ValueError(f"weight must have 2 axes, (out, in), but its shape is {weight.shape}: reshape it")
    num_rows, in_features = weight.shape
    rows = _chosen_rows(weight)
    weight = weight[rows]
    by_size = np.argsort(np.abs(weight).max(axis=1), kind="stable")
    typical = np.arange(len(rows)) == by_size[len(rows) // 2]
    sizes = [size for size in _GROUP_SIZES if size < in_features and in_features % size == 0][:_MOST_SIZES]
    options = {"one": {"per": "tensor"}, "one per row": {"per": "channel"}}
    options |= {f"groups of {size}": {"per": "group", "group_size": size} for size in sizes}

    def compute(times, scales, num_bits):
        original = weight.copy()
        original[typical] *= times
        quantized = quantize(original, num_bits, **options[scales])
        restored = quantized.dequantize()
        return Granularity(
            num_bits=num_bits,
            scales=scales,
            times=times,
            rows=rows,
            multiplied=typical & (times > 1),
            row_errors=_relative_errors(original, restored),
            sqnr=sqnr_db(original, restored),
            bits_per_weight=quantized.bits_per_weight,
            share_lost=float(np.mean((restored == 0) & (original != 0))),
        )

    shown = f"{len(weight)} of {num_rows} rows" if len(weight) < num_rows else f"{num_rows} rows"
    return Explorer(
        title=f"How fine must the scales be? ({shown})",
        controls=(
            Control("times", "outlier row", (1, 5, 20, 50), 1, lambda times: f"{times} times" if times > 1 else "none"),
            Control("scales", "scales", tuple(options), "one"),
            Control("num_bits", "bits", (2, 3, 4, 5, 6, 7, 8), 4),
        ),
        compute=compute,
        draw=_draw,
        describe=_describe,
    )


def _chosen_rows(weight) -> np.ndarray:
    """Which rows to show: all, or some that are evenly spread and the one with the largest weight."""
    most = max(1, min(_MOST_ROWS, _MOST_WEIGHTS // weight.shape[1]))
    if len(weight) <= most:
        return np.arange(len(weight))
    rows = np.linspace(0, len(weight) - 1, most).round().astype(int)
    largest = int(np.abs(weight).max(axis=1).argmax())
    rows[np.abs(rows - largest).argmin()] = largest
    return rows


def _relative_errors(original, restored) -> np.ndarray:
    """The size of each row's error relative to the row; a row of zeros is restored exactly."""
    original, restored = original.astype(np.float64), restored.astype(np.float64)
    size = np.linalg.norm(original, axis=1)
    return np.linalg.norm(restored - original, axis=1) / np.where(size == 0, 1, size)


def _draw(result: Granularity) -> str:
    # Side by side, also where rows are left out: a gap would look like rows without an error.
    places, percent, multiplied = np.arange(len(result.rows)), 100 * result.row_errors, result.multiplied
    left, right = -0.6, max(places[-1], 4) + 0.6
    x_label = "row" if np.array_equal(result.rows, places) else "rows of the sample, in order"
    chart = Chart((left, right), (0, 112), x_label=x_label, y_label="relative error of the row (%)")
    chart.bars(places[~multiplied], percent[~multiplied], 0.75, style.ERROR)
    chart.bars(places[multiplied], percent[multiplied], 0.75, style.HIGHLIGHT)
    chart.line([left, right], [100, 100], style.INK, width=1.0, dash="4 3")
    in_right_half = False
    for place, height in zip(places[multiplied], percent[multiplied], strict=True):
        in_right_half = place > (left + right) / 2
        chart.line([place, place], [height, 102], style.INK, width=1.0, dash="2 3")
        chart.text(place, 100, f"outlier: {result.times} times as large", size=11, dy=-5)
    side = (left, "start") if in_right_half else (right, "end")
    chart.text(side[0], 100, "100 %: as bad as storing zeros", anchor=side[1], size=11, dy=-5)
    return chart.image("Relative error of each row after quantization")


_IN_WORDS = {"one": "one scale", "one per row": "one scale per row"}


def _describe(result: Granularity) -> str:
    scales = _IN_WORDS.get(result.scales, f"{result.scales} weights")
    outlier = "".join(f", of the outlier {style.percent(e)}" for e in result.row_errors[result.multiplied])
    others = result.row_errors[~result.multiplied] if len(result.rows) > 1 else result.row_errors
    return (
        f"{result.num_bits} bits, {scales}: {result.bits_per_weight:.2f} bits per weight, "
        f"{style.percent(result.share_lost)} of the weights became 0. Relative error of the typical row "
        f"{style.percent(np.median(others))}, of the worst ordinary row {style.percent(others.max())}{outlier}. "
        f"SQNR of all these rows {style.decibels(result.sqnr)}."
    )

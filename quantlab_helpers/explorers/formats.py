"""Explorer of notebook 03: the levels of a number format under the data, and one outlier that stretches them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import style
from ..metrics import mean_abs_error, sqnr_db
from ..number_formats import FORMATS, NumberFormat, representable_values, scaled_cast
from ..validation import finite_array
from .base import Control, Explorer
from .svg import Chart

_NAMES = tuple(name for name in FORMATS if name != "FP32")  # which has too many values to list
_OUTLIERS = (0, 5, 10, 20, 50, 100)  # in standard deviations of the ordinary values; 0: none
_MOST_TICKS = 300
_MOST_VALUES = 1 << 14  # all positions are computed when the cell runs


@dataclass(frozen=True)
class Levels:
    """Ordinary values, cast to a format whose largest level lies on the largest value, outlier included."""

    format: NumberFormat
    outlier: float  # its value; 0 if there is none
    absmax: float  # the largest magnitude of all, on which the format's max lies
    levels: np.ndarray  # every value of the scaled format, sorted
    in_use: np.ndarray  # the levels that ordinary values went to, sorted
    ordinary: np.ndarray
    mean_error: float  # of the ordinary values, and so is the SQNR
    sqnr: float


def formats(x) -> Explorer:
    """Watch the levels of a number format spread over the values of `x` (any array), and what an outlier does to them.

    The outlier is one more value, a multiple of the standard deviation of `x`. The error is that of the others. A
    large array is represented by 16,384 of its values: every so many-th in order of size, with both ends.
    """
    x = np.sort(finite_array(x, "x"), axis=None).astype(np.float64)
    size = x.size
    if size > _MOST_VALUES:
        x = x[np.linspace(0, size - 1, _MOST_VALUES).astype(int)]
    unit = float(x.std()) or float(np.abs(x).max()) or 1.0

    def compute(format, outlier):
        values = np.append(x, outlier * unit) if outlier else x
        restored = scaled_cast(values, format)[: x.size]
        absmax = float(np.abs(values).max()) or FORMATS[format].max  # all zeros: scale 1
        return Levels(
            format=FORMATS[format],
            outlier=outlier * unit,
            absmax=absmax,
            levels=representable_values(format).astype(np.float64) * (absmax / FORMATS[format].max),
            in_use=np.unique(restored),
            ordinary=x,
            mean_error=float(mean_abs_error(x, restored)),
            sqnr=sqnr_db(x, restored),
        )

    shown = f" ({x.size:,} of {size:,} values)" if x.size < size else ""
    return Explorer(
        title=f"Where do the levels of a number format lie?{shown}",
        controls=(
            Control("format", "format", _NAMES, "INT4", lambda name: name.replace("_", " ")),
            Control("outlier", "outlier", _OUTLIERS, 0, lambda size: f"{size} x std" if size else "none"),
        ),
        compute=compute,
        draw=_draw,
        describe=_describe,
    )


def _draw(result: Levels) -> str:
    reach = 1.1 * (float(np.abs(result.ordinary).max()) or 1.0)
    histogram, edges = np.histogram(result.ordinary, bins=60, range=(-reach, reach))
    top = 1.15 * histogram.max()
    # The histogram stands on 0; the levels hang below, the ones in use longer and in colour.
    chart = Chart((-reach, reach), (-0.4 * top, top), x_label="value", y_label="how many values", y_ticks=False)
    centres = (edges[:-1] + edges[1:]) / 2
    chart.bars(centres, histogram, edges[1] - edges[0], style.ORIGINAL, opacity=0.5)
    chart.line([-reach, reach], [0, 0], style.INK, width=1)
    unused = np.setdiff1d(result.levels, result.in_use)
    for levels, low, colour, width in (
        (unused, -0.14, style.ORIGINAL, 1.0),
        (result.in_use, -0.24, style.QUANTIZED, 1.5),
    ):
        ticks = _thinned(levels, reach)
        chart.segments(ticks, np.zeros(ticks.size), ticks, np.full(ticks.size, low * top), colour, width=width)
    chart.text(-reach, -0.4 * top, "levels in use (blue, long) and not", anchor="start", size=11, dx=4, dy=-8)
    if result.outlier > reach:
        words = f"outlier at {result.outlier:.3g} \N{RIGHTWARDS ARROW}"
        chart.text(reach, top, words, colour=style.ERROR, anchor="end", bold=True, dx=-4, dy=16)
    return chart.image("Histogram of the ordinary values, and below it the levels of the format")


def _thinned(levels: np.ndarray, reach: float) -> np.ndarray:
    """The levels from -reach to reach; of those that would be drawn on each other, only one."""
    seen = levels[np.abs(levels) <= reach]
    _, first = np.unique(np.rint(seen / (2 * reach / _MOST_TICKS)), return_index=True)
    return seen[first]


def _describe(result: Levels) -> str:
    apart = f", the outlier at {result.outlier:.3g} left out" if result.outlier else ""
    return (
        f"{result.format.name.replace('_', ' ')}, its largest level on {result.absmax:.3g}: "
        f"{result.ordinary.size:,} values fall on {result.in_use.size:,} of {result.format.num_values:,} levels. "
        f"Mean error {result.mean_error:.3g}, SQNR {style.decibels(result.sqnr)}{apart}."
    )

"""Explorer of notebook 07: one input column grows into an outlier; what int8 leaves to the others, and LLM.int8()."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import style
from ..linear import linear_forward
from ..methods.llm_int8 import llm_int8_matmul, outlier_columns, quantize_rows
from ..validation import float32_array
from .base import Control, Explorer
from .svg import Chart

_FACTORS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16)
_THRESHOLDS = ("none", 1, 2, 3, 4, 6, 8, 12, 24, 48)
_CODES = 127


@dataclass(frozen=True)
class Split:
    """A layer in int8, once with all input columns and once without those that hold outliers, which stay float.

    Of the codes and the steps there are two each, without and with decomposition: those of one token. `levels` counts
    the codes from the smallest to the largest that the token's ordinary values reach, of 255 that there are. Ordinary
    are all columns but the one that is dragged, and with decomposition but those in float.
    """

    column: int  # the one that is dragged
    token: int  # the one that is drawn: its outlier is the middle one in size
    outlier: float  # the largest magnitude of the column, over all tokens
    threshold: float  # 0: none
    in_float: np.ndarray  # (in,) bool
    ordinary: np.ndarray  # (in - 1,) the token's values in all columns but the one that is dragged
    steps: tuple[float, float]
    levels: tuple[int, int]
    errors: tuple[float, float]  # relative, of the layer's output, the median over the tokens


def outliers(weight, x) -> Explorer:
    """Drag the largest input column of the layer `weight` (out, in), on inputs `x` (tokens, in), and a threshold.

    The column is multiplied and its weights are divided by the same number: in float the layer's output stays as it is.
    Activations have one scale for each token, weights one for each row. One token may be given as (in,).
    """
    weight, x = float32_array(weight, "weight"), float32_array(x, "x")
    y = linear_forward(np.atleast_2d(x), weight)  # explains shapes that do not fit
    x, y = x.reshape(-1, x.shape[-1]).astype(np.float64), y.reshape(-1, len(weight)).astype(np.float64)
    column_sizes = np.abs(x).max(axis=0)
    column = int(column_sizes.argmax())
    token = int(np.argsort(np.abs(x[:, column]), kind="stable")[len(x) // 2])
    others = np.arange(x.shape[1]) != column

    def compute(factor, threshold):
        threshold = 0.0 if threshold == "none" else float(threshold)
        scaled, divided = x.copy(), weight.astype(np.float64)
        scaled[:, column] *= factor
        divided[:, column] /= factor
        in_float = outlier_columns(scaled, threshold)
        pairs = [
            (
                *_grid(scaled, token, others & ~taken_out, limit),
                _median_error(y, llm_int8_matmul(scaled, divided, limit)),
            )
            for limit, taken_out in ((0.0, np.zeros_like(in_float)), (threshold, in_float))
        ]
        steps, levels, errors = zip(*pairs, strict=True)
        return Split(
            column=column,
            token=token,
            outlier=float(factor * column_sizes[column]),
            threshold=threshold,
            in_float=in_float,
            ordinary=scaled[token, others],
            steps=steps,
            levels=levels,
            errors=errors,
        )

    return Explorer(
        title=f"One column of {x.shape[1]:,} grows: what is left to the others?",
        controls=(
            Control("factor", "outlier", _FACTORS, 1, lambda factor: f"{factor * column_sizes[column]:.3g}"),
            Control("threshold", "threshold", _THRESHOLDS, "none"),
        ),
        compute=compute,
        draw=_draw,
        describe=_describe,
        num_values=weight.size + x.size,
    )


def _grid(x, token, columns, threshold) -> tuple[float, int]:
    """The step of one token's codes, and how many codes lie between the ends of those in `columns`."""
    codes, absmax = quantize_rows(x, threshold)
    largest = np.abs(codes[token, columns].astype(int)).max(initial=0)
    return float(absmax[token]) / _CODES, int(2 * largest + 1)


def _median_error(y, y_q) -> float:
    """The size of the error over that of `y`, token by token; where `y` is all zero, the size of the error."""
    size = np.linalg.norm(y, axis=1)
    return float(np.median(np.linalg.norm(y_q - y, axis=1) / np.where(size == 0, 1, size)))


def _draw(result: Split) -> str:
    ends = [step * (levels // 2) for step, levels in zip(result.steps, result.levels, strict=True)]
    reach = 1.1 * (max(float(np.abs(result.ordinary).max(initial=0)), *ends) or 1.0)
    histogram, edges = np.histogram(result.ordinary, bins=60, range=(-reach, reach))
    top = 1.15 * (histogram.max() or 1)
    heights = np.where(histogram, np.maximum(histogram, 0.03 * top), 0)  # a single value is to be seen, too
    # The histogram stands on 0; below it hang the values of the codes, first without decomposition, then with.
    chart = Chart((-reach, reach), (-1.1 * top, top), x_label="value", y_label="how many values", y_ticks=False)
    chart.bars((edges[:-1] + edges[1:]) / 2, heights, edges[1] - edges[0], style.ORIGINAL, opacity=0.5)
    chart.line([-reach, reach], [0, 0], style.INK, width=1)
    count = int(result.in_float.sum())
    taken_out = f"{count} outlier column{'s' * (count != 1)} taken out" if count else "no column taken out"
    for name, colour, high, step, levels in (
        ("int8, all columns", style.ERROR, -0.22 * top, result.steps[0], result.levels[0]),
        (f"int8, {taken_out}", style.QUANTIZED, -0.77 * top, result.steps[1], result.levels[1]),
    ):
        ticks = step * np.arange(-(levels // 2), levels // 2 + 1)
        chart.segments(ticks, np.full(levels, high), ticks, np.full(levels, high - 0.25 * top), colour)
        chart.text(-reach, high, f"{name}: {levels} codes", colour=colour, anchor="start", size=11, dx=4, dy=-6)
    if 0 < result.threshold < reach:
        for place in (-result.threshold, result.threshold):
            chart.line([place, place], [0, top], style.INK, width=1.0, dash="4 3")
        chart.text(-result.threshold, top, "threshold", anchor="end", size=11, dx=-4, dy=12)
    words = f"column {result.column}: up to {result.outlier:.3g} \N{RIGHTWARDS ARROW}"
    chart.text(reach, top, words, colour=style.ERROR, anchor="end", bold=True, dx=-4, dy=28)
    return chart.image("Histogram of one token's ordinary values, below it the values that int8 holds")


def _describe(result: Split) -> str:
    threshold = f"threshold {result.threshold:g}" if result.threshold else "no threshold"
    (coarse, fine), (error, error_left) = result.levels, map(style.percent, result.errors)
    split = result.in_float.any()
    return (
        f"Column {result.column} reaches {result.outlier:.3g}, {threshold}: {result.in_float.sum():,} of "
        f"{result.in_float.size:,} columns stay float. int8 has {coarse} codes for the ordinary values of token "
        f"{result.token}{f', with decomposition {fine}' if split else ''}. The output of the median token is off by "
        f"{error}{f', with decomposition by {error_left}' if split else ''}."
    )

"""Explorer of notebook 08: GPTQ column by column; what is done, how the rest moves, and what becomes of the output."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .. import style
from ..affine import quantize
from ..linear import linear_forward
from ..methods.gptq import gptq_from_hessian, hessian
from ..validation import finite_array
from .base import Control, Explorer
from .svg import Chart, tiled

_MOST_COLUMNS = 48  # with two orders and two widths that makes 196 positions
_DAMPING = 0.01
_ORDERS = ("left to right", "largest first")


@dataclass(frozen=True)
class Columns:
    """A matrix of which GPTQ has rounded some columns: one of its rows, and the output error so far.

    Columns are in the order in which they are rounded. Errors are relative to the float output, on held-out inputs.
    """

    num_done: int
    num_bits: int
    order: str
    row: int  # which row of the matrix is shown
    original: np.ndarray  # (columns,) that row, before
    weights: np.ndarray  # (columns,) and now: done, or moved to make up for what is done
    levels: np.ndarray  # the values that its codes can stand for
    reach: tuple[float, float]  # the lowest and the highest place where any of them comes by
    gptq_errors: np.ndarray  # (columns + 1,) output error after so many columns, the rest moved and not rounded
    rtn_errors: np.ndarray  # (columns + 1,) the same where columns are rounded to nearest and nothing is moved


def gptq_columns(weight, inputs, heldout) -> Explorer:
    """Step through the columns of the matrix `weight` (out, in): GPTQ for `inputs`, its output error on `heldout`.

    inputs, heldout  (tokens, in). Of a large matrix the 48 columns are taken whose inputs are largest. The row that is
                     shown is the one whose output suffers most from rounding to nearest. Each row has one scale
    """
    weight, inputs, heldout = (
        finite_array(array, name).astype(np.float64)
        for array, name in ((weight, "weight"), (inputs, "inputs"), (heldout, "heldout"))
    )
    linear_forward(inputs, weight), linear_forward(heldout, weight)  # explain shapes that do not fit
    H = hessian(inputs)
    taken = np.sort(np.argsort(-np.diag(H), kind="stable")[:_MOST_COLUMNS])
    weight, heldout, H = weight[:, taken], heldout.reshape(-1, heldout.shape[-1])[:, taken], H[np.ix_(taken, taken)]
    num_columns = len(taken)
    in_order = {
        "left to right": np.arange(num_columns),
        "largest first": np.argsort(-np.diag(H), kind="stable"),
    }

    @cache
    def steps(num_bits, order):
        columns = in_order[order]
        W = weight[:, columns]
        quantized = gptq_from_hessian(weight, H, num_bits, damping=_DAMPING, act_order=order == "largest first")
        nearest = quantize(W, num_bits, symmetric=False, per="channel")
        rounded = nearest.dequantize().astype(np.float64)
        moved = _moved(W, quantized.dequantize()[:, columns].astype(np.float64), H[np.ix_(columns, columns)])
        kept = [np.where(np.arange(num_columns) < done, rounded, W) for done in range(num_columns + 1)]
        x = heldout[:, columns]
        row = int(np.linalg.norm(x @ (rounded - W).T, axis=0).argmax())
        levels = nearest.scale[row] * (np.arange(2**num_bits) - nearest.zero_point[row])
        everywhere = np.concatenate([levels, *(step[row] for step in moved)])
        reach = float(everywhere.min()), float(everywhere.max())
        return moved, row, levels, reach, _output_errors(x, W, moved), _output_errors(x, W, kept)

    def compute(num_done, num_bits, order):
        moved, row, levels, *rest = steps(num_bits, order)
        return Columns(num_done, num_bits, order, row, moved[0][row], moved[num_done][row], levels, *rest)

    return Explorer(
        title=f"GPTQ, column by column ({num_columns} columns, one row shown)",
        controls=(
            Control("num_done", "columns done", tuple(range(num_columns + 1)), num_columns // 2),
            Control("order", "order", _ORDERS, _ORDERS[0]),
            Control("num_bits", "bits", (3, 4), 3),
        ),
        compute=compute,
        draw=_draw,
        describe=_describe,
        num_values=weight.size + heldout.size,
    )


def _moved(W, restored, H) -> list[np.ndarray]:
    """Return the matrix after 0, 1, .. all columns: those done as they are `restored`, the others where GPTQ has them.

    That is where they undo as much of the harm as they can, by H with the damping that GPTQ adds.
    """
    dead = np.diag(H) == 0
    H = H + np.diag(np.where(dead, 1.0, 0.0))
    H = H / np.diag(H).mean() + _DAMPING * np.eye(len(H))
    steps = [W]
    for done in range(1, len(H) + 1):
        harm = (W[:, :done] - restored[:, :done]) @ H[:done, done:]
        undone = np.linalg.solve(H[done:, done:], harm.T).T
        steps.append(np.hstack([restored[:, :done], W[:, done:] + undone]))
    return steps


def _output_errors(x, weight, steps) -> np.ndarray:
    """The error of the layer's output with each of the `steps` for a weight, relative to the output."""
    size = np.linalg.norm(x @ weight.T)
    return np.array([np.linalg.norm(x @ (step - weight).T) for step in steps]) / (size or 1.0)


def _draw(result: Columns) -> str:
    n, done = len(result.weights), result.num_done
    low, high = result.reach
    margin = 0.1 * (high - low) or 1.0
    places, top = np.arange(n) + 0.5, high + 2.2 * margin  # room for the legend
    upper = Chart((0, n), (low - margin, top), y_label="weight", height=240)
    ends = np.zeros(len(result.levels))
    upper.segments(ends, result.levels, ends + n, result.levels, style.FAINT)
    upper.segments(places, result.original, places, result.weights, style.ORIGINAL, width=1.2)
    upper.points(places, result.original, style.ORIGINAL, radius=2.2)
    upper.points(places[done:], result.weights[done:], style.HIGHLIGHT, radius=3)
    upper.points(places[:done], result.weights[:done], style.QUANTIZED, radius=3.6)
    _legend(
        upper,
        n,
        top,
        {"done: on a level": style.QUANTIZED, "to come: moved": style.HIGHLIGHT, "before": style.ORIGINAL},
    )

    in_percent = {
        "round to nearest": (100 * result.rtn_errors, style.ERROR),
        "GPTQ": (100 * result.gptq_errors, style.GOOD),
    }
    top = 1.35 * max(percent.max() for percent, _ in in_percent.values()) or 1.0
    lower = Chart((0, n), (0, top), x_label="columns done", y_label="output error (%)", height=200)
    for percent, colour in in_percent.values():
        lower.line(np.arange(n + 1), percent, style.FAINT, width=1.5)
        lower.line(np.arange(done + 1), percent[: done + 1], colour, width=2.5)
        lower.points(done, percent[done], colour, radius=4)
    _legend(lower, n, top, {f"{words} {p[done]:.1f} %": colour for words, (p, colour) in in_percent.items()})
    return tiled([[upper], [lower]], "One row's weights, done and still to come, and below the output error so far")


def _legend(chart: Chart, n: int, top: float, words: dict) -> None:
    for place, (text, colour) in enumerate(words.items()):
        chart.text(0.33 * n * place, top, "\N{BLACK CIRCLE}", colour=colour, anchor="start", dx=6, dy=13)
        chart.text(0.33 * n * place, top, text, anchor="start", bold=True, dx=22, dy=13)


def _describe(result: Columns) -> str:
    n, done = len(result.weights), result.num_done
    distance = np.linalg.norm(result.weights - result.original)
    return (
        f"{result.num_bits} bits, {result.order}, {done} of {n} columns done. The weights of row {result.row} are "
        f"{distance:.3f} away from where they were. Output error on held-out inputs so far: GPTQ "
        f"{style.percent(result.gptq_errors[done])}, round to nearest {style.percent(result.rtn_errors[done])}."
    )

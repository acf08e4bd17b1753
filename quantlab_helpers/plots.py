"""The static figures of the notebooks, in one style. Each function draws one figure and returns nothing.

Every figure is drawn from arrays that the notebook computed; no figure computes anything but a histogram.
"""

from __future__ import annotations

from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np

from . import style

_LOOK = {
    "figure.figsize": (7.2, 3.2),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": style.INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": style.FAINT,
    "font.size": 10,
    "legend.frameon": False,
}


@contextmanager
def _drawing(rows=1, columns=1, *, look=None, **options):
    """Yield the axes of a new figure in the course's look; show it afterwards and let go of it."""
    with plt.rc_context(_LOOK | (look or {})):
        figure, axes = plt.subplots(rows, columns, **options)
        yield axes
        plt.show()
        plt.close(figure)


def error_by_value(x, restored, scale: float) -> None:
    """The error of each value against the value, with the bounds of half a step."""
    with _drawing() as axes:
        axes.scatter(np.ravel(x), np.ravel(restored) - np.ravel(x), s=6, color=style.ERROR, label="error of one value")
        for sign, label in ((1, "half a step"), (-1, None)):
            axes.axhline(sign * scale / 2, color=style.INK, linestyle="--", label=label)
        axes.set(xlabel="value", ylabel="restored - value")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)  # above the points, which fill the plot


def curves(x, named_ys: dict, *, x_label: str, y_label: str, log_y=False, markers=True) -> None:
    """One line with its own colour (and marker) for each entry of `named_ys` (label -> values over `x`)."""
    with _drawing() as axes:
        for (label, y), colour, marker in zip(named_ys.items(), style.SERIES, style.MARKERS, strict=False):
            axes.plot(x, y, color=colour, marker=marker if markers else None, markersize=4, label=label)
        if log_y:
            axes.set_yscale("log")
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.legend()


def decision_regions(axis, named_scores: dict, points, labels) -> None:
    """A map for each entry of `named_scores`: where a classifier says + (score above 0) and where it says -.

    axis          (n,) the coordinate of both axes
    named_scores  label -> (n, n) scores, row i at height axis[i]
    points        (count, 2 or more): the first two columns are drawn; labels (count,) or (count, 1), +1 or -1
    """
    labels = np.ravel(labels)
    with _drawing(1, len(named_scores), look={"axes.grid": False}, figsize=(7.2, 2.8), squeeze=False) as panels:
        for panel, (name, scores) in zip(panels[0], named_scores.items(), strict=True):
            panel.contourf(axis, axis, scores, [-np.inf, 0, np.inf], colors=[style.QUANTIZED, style.ERROR], alpha=0.25)
            for sign, marker, colour in ((-1, "o", style.QUANTIZED), (1, "^", style.ERROR)):
                panel.scatter(*np.asarray(points)[labels == sign, :2].T, s=5, marker=marker, color=colour)
            panel.set(title=name, aspect="equal", xticks=[], yticks=[])


def row_errors(named_errors: dict) -> None:
    """Bars side by side: the relative error of each row of a matrix, a colour and a hatch for each entry.

    named_errors  label -> (rows,) errors, 0 for an exact row and 1 for one as bad as zeros
    """
    with _drawing(look={"hatch.color": style.PAPER}) as axes:
        width = 0.8 / len(named_errors)
        for i, ((label, errors), hatch) in enumerate(zip(named_errors.items(), ("", "///", "..."), strict=False)):
            places = np.arange(len(errors)) + (i - (len(named_errors) - 1) / 2) * width
            axes.bar(places, 100 * np.asarray(errors), width, color=style.SERIES[i], hatch=hatch, label=label)
        axes.set(xlabel="row", ylabel="relative error (%)", ylim=(0, 112))
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3)  # above the bars, which may fill the plot


def sqnr_by_bits(measured: dict, rule: dict, formats: dict) -> None:
    """SQNR against bits: points for `measured`, a dashed line for `rule` (both: bits -> dB), and single formats.

    formats  label -> (bits, dB)
    """
    with _drawing() as axes:
        for sqnrs, look, label in ((rule, "--", "6.02 dB a bit"), (measured, "o", "integers, measured")):
            bits = sorted(sqnrs)
            colour = style.INK if look == "--" else style.QUANTIZED
            axes.plot(bits, [sqnrs[b] for b in bits], look, color=colour, linewidth=1, markersize=5, label=label)
        for name, (bits, sqnr) in formats.items():
            axes.plot(bits, sqnr, "^", color=style.ERROR, markersize=7)
            axes.annotate(name, (bits, sqnr), (-8, 0), textcoords="offset points", ha="right", va="center")
        axes.set(xlabel="bits", ylabel="SQNR (dB)", xticks=sorted(measured))
        axes.legend()


def levels(named_levels: dict, *, x=None, x_label: str) -> None:
    """Number lines below each other: a mark for each level of each entry (label -> levels), over a histogram of `x`."""
    height = 0.5 + 0.38 * len(named_levels) + (0.9 if x is not None else 0)
    with _drawing(look={"axes.grid": False}, figsize=(7.2, height)) as axes:
        for row, values in enumerate(named_levels.values()):
            axes.axhline(-row, color=style.FAINT, linewidth=1, zorder=0)
            thickness = 2 if len(values) <= 20 else 0.6
            axes.vlines(values, -row - 0.28, -row + 0.28, color=style.QUANTIZED, linewidth=thickness)
        if x is not None:
            counts, edges = np.histogram(x, bins=60)
            axes.stairs(
                0.6 + 2.2 * counts / counts.max(), edges, baseline=0.6, fill=True, color=style.ORIGINAL, alpha=0.5
            )
        axes.set(xlabel=x_label, yticks=-np.arange(len(named_levels)), yticklabels=list(named_levels))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)

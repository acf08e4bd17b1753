"""The static figures of the notebooks, in one style. Each function draws one figure and returns nothing.

Every figure is drawn from arrays that the notebook computed; no figure computes anything but a histogram.
"""

from __future__ import annotations

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


def before_and_after(x, restored, *, unit="value") -> None:
    """Two histograms over one axis: `x` before quantization and `restored` after it (arrays of any one shape)."""
    with plt.rc_context(_LOOK):
        _, axes = plt.subplots()
        bins = np.linspace(min(np.min(x), np.min(restored)), max(np.max(x), np.max(restored)), 121)
        axes.hist(np.ravel(restored), bins, color=style.QUANTIZED, alpha=0.8, label="after (dequantized)")
        axes.hist(np.ravel(x), bins, histtype="step", color=style.INK, label="before (float32)")
        axes.set(xlabel=unit, ylabel="how many")
        axes.legend()
        plt.show()


def error_by_value(x, restored, scale: float) -> None:
    """The error of each value against the value, with the bounds of half a step."""
    with plt.rc_context(_LOOK):
        _, axes = plt.subplots()
        axes.scatter(np.ravel(x), np.ravel(restored) - np.ravel(x), s=6, color=style.ERROR, label="error of one value")
        for sign, label in ((1, "half a step"), (-1, None)):
            axes.axhline(sign * scale / 2, color=style.INK, linestyle="--", label=label)
        axes.set(xlabel="value", ylabel="restored - value")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)  # above the points, which fill the plot
        plt.show()


def curves(x, named_ys: dict, *, x_label: str, y_label: str, log_y=False, markers=True, mark=None) -> None:
    """One line with its own colour (and marker) for each entry of `named_ys` (label -> values over `x`).

    `mark` is an optional `(x, label)` at which a vertical line stands.
    """
    with plt.rc_context(_LOOK):
        _, axes = plt.subplots()
        for (label, y), colour, marker in zip(named_ys.items(), style.SERIES, style.MARKERS, strict=False):
            axes.plot(x, y, color=colour, marker=marker if markers else None, markersize=4, label=label)
        if mark:
            axes.axvline(mark[0], color=style.HIGHLIGHT, linestyle="--", label=mark[1])
        if log_y:
            axes.set_yscale("log")
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.legend()
        plt.show()

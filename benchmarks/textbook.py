"""The textbook way to put a slider to a picture: `interact`, a function that draws with matplotlib, and `plt.show()`.

`interact_with(explorer)` draws what the explorer draws, mark by mark, in matplotlib: the same plot of the same
numbers with the same sentence. `benchmarks/slider.py` shows it beside the explorer and measures both.
"""

from __future__ import annotations

import contextlib
import sys
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from ipywidgets import HBox, IntSlider, Label, Layout, interact
from matplotlib.collections import LineCollection

import quantlab_helpers as ql
from quantlab_helpers import style

_DPI = 100  # of matplotlib: a pixel of the explorer's picture is one of the textbook's
_POINT = 72 / _DPI  # the length of a pixel in matplotlib's unit
_WIDE = Layout(width="420px")  # as the sliders of the explorers


def label() -> None:
    """A slider whose handler writes its position into a label: the bare way to the kernel and back."""
    slider, words = IntSlider(5, 0, 20, layout=_WIDE), Label("5")
    slider.observe(lambda change: setattr(words, "value", str(change.new)), "value")
    display(HBox([slider, words]).add_class("the-label"))


def interact_with(explorer) -> None:
    """Show the explorer's plot over its longest control, the other controls at their start."""
    control = max(explorer.controls, key=lambda control: len(control.positions))

    def plot(position):
        result = explorer.compute(**{**explorer.at_start(), control.name: control.positions[position]})
        with _drawn_by_matplotlib():
            explorer.draw(result)
        print(f"{position}: {explorer.describe(result)}")

    last, start = len(control.positions) - 1, control.positions.index(control.start)
    plt.rcParams.update(ql.plots.LOOK)
    interact(plot, position=IntSlider(start, 0, last, layout=_WIDE)).widget.add_class("the-textbook")


@contextlib.contextmanager
def _drawn_by_matplotlib():
    """While this is open, the explorers draw with matplotlib, and show the figure where they would return it."""
    modules = [module for name, module in sys.modules.items() if name.startswith("quantlab_helpers.explorers.")]
    with contextlib.ExitStack() as stack:
        for module in modules:
            for name, ours in (("Chart", _Chart), ("tiled", _show)):
                if hasattr(module, name):
                    stack.enter_context(patch.object(module, name, ours))
        yield


class _Chart:
    """What `explorers.svg.Chart` draws, by matplotlib: the same marks for the same calls, one call of it for each."""

    def __init__(self, x_range, y_range, *, x_label="", y_label="", width=680, height=280, x_ticks=True, y_ticks=True):
        self.width, self.height = width, height
        self._x_range = x_range
        self._marks = []
        self._labels = {"xlim": x_range, "ylim": y_range, "xlabel": x_label, "ylabel": y_label}
        self._ticks = {"xticks": x_ticks, "yticks": y_ticks}

    def bars(self, centres, heights, width, colour, *, base=0.0, opacity=1.0):
        heights = np.asarray(heights) - base
        self._marks.append(lambda axes: axes.bar(centres, heights, width, base, color=colour, alpha=opacity))

    def steps(self, edges, heights, colour, *, width=1.5):
        self._marks.append(lambda axes: axes.stairs(heights, edges, color=colour, linewidth=width * _POINT))

    def line(self, x, y, colour, *, width=2.0, dash=""):
        dashes = (0, [float(length) for length in dash.split()]) if dash else "-"
        look = {"color": colour, "linewidth": width * _POINT, "linestyle": dashes}
        self._marks.append(lambda axes: axes.plot(x, y, **look))

    def points(self, x, y, colour, *, radius=3.5, opacity=1.0):
        look = {"color": colour, "markersize": 2 * radius * _POINT, "alpha": opacity, "markeredgewidth": 0}
        self._marks.append(lambda axes: axes.plot(np.ravel(x), np.ravel(y), "o", **look))

    def band(self, x0, x1, colour, *, opacity=0.15):
        a, b = np.clip([x0, x1], *self._x_range)
        self._marks.append(lambda axes: axes.axvspan(a, b, color=colour, alpha=opacity, linewidth=0))

    def segments(self, x0, y0, x1, y1, colour, *, width=1.0):
        ends = np.stack([np.ravel(part) for part in (x0, y0, x1, y1)], axis=1).reshape(-1, 2, 2)
        look = {"color": colour, "linewidth": width * _POINT}
        self._marks.append(lambda axes: axes.add_collection(LineCollection(ends, **look)))

    def text(self, x, y, words, *, colour=style.INK, anchor="middle", size=12, bold=False, dx=0, dy=0):
        look = {
            "color": colour,
            "ha": {"start": "left", "middle": "center", "end": "right"}[anchor],
            "size": size * _POINT,
            "weight": "bold" if bold else "normal",
            "xytext": (dx * _POINT, -dy * _POINT),
            "textcoords": "offset points",
        }
        self._marks.append(lambda axes: axes.annotate(words, (x, y), **look))

    def image(self, label: str) -> str:
        return _show([[self]], label)

    def draw_on(self, axes) -> None:
        axes.set(**self._labels)
        for name, ticks in self._ticks.items():
            if ticks is not True:
                ticks = ticks or {}
                axes.set(**{name: list(ticks), f"{name[:-1]}labels": list(ticks.values())})
        for mark in self._marks:
            mark(axes)


def _show(rows: list[list[_Chart]], label: str) -> str:
    """`explorers.svg.tiled`, shown as a textbook does."""
    width = max(sum(chart.width for chart in row) for row in rows)
    heights = [max(chart.height for chart in row) for row in rows]
    figure = plt.figure(figsize=(width / _DPI, sum(heights) / _DPI), dpi=_DPI)
    grid = figure.add_gridspec(len(rows), 1, height_ratios=heights)
    for place, row in zip(grid, rows, strict=True):
        columns = place.subgridspec(1, len(row), width_ratios=[chart.width for chart in row])
        for column, chart in zip(columns, row, strict=True):
            chart.draw_on(figure.add_subplot(column))
    plt.show()
    return ""

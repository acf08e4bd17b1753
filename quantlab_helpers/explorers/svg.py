"""A lean SVG chart: few elements and about 10 KB, so that hundreds can be drawn in well under a second.

A matplotlib figure takes some 50 ms; the pictures behind a slider are all drawn when its cell runs.
"""

from __future__ import annotations

import html

import numpy as np
from matplotlib.ticker import MaxNLocator

from .. import style

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 44  # margins in pixels: room for the axis labels
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',sans-serif"


class Chart:
    """A picture with an x and a y axis in data coordinates; each method adds one kind of mark.

    x_ticks, y_ticks  True for round numbers, False for none, or place -> words
    """

    def __init__(self, x_range, y_range, *, x_label="", y_label="", width=680, height=280, x_ticks=True, y_ticks=True):
        self.width, self.height = width, height
        self._x_range, self._y_range = tuple(map(float, x_range)), tuple(map(float, y_range))
        self._marks: list[str] = []
        self._front: list[str] = []  # words go over everything else
        self._axes(x_label, y_label, x_ticks, y_ticks)

    def bars(self, centres, heights, width, colour, *, base=0.0, opacity=1.0):
        """Bars around `centres`, each `width` wide in data units (at least one pixel), from `base` up."""
        left, right = self._x(np.asarray(centres) - width / 2), self._x(np.asarray(centres) + width / 2)
        thin = right - left < 1
        left, right = np.where(thin, left - 0.5, left), np.where(thin, right + 0.5, right)
        bottom, top = self._y(base), self._y(np.asarray(heights, dtype=float))
        path = "".join(
            f"M{a:.1f} {bottom:.1f}V{t:.1f}H{b:.1f}V{bottom:.1f}z"
            for a, b, t in zip(left, right, top, strict=True)
            if abs(t - bottom) > 0.05
        )
        self._marks.append(f'<path d="{path}" fill="{colour}" fill-opacity="{opacity}"/>')

    def steps(self, edges, heights, colour, *, width=1.5):
        """The outline of a histogram: one more edge than heights."""
        x, y = np.repeat(edges, 2)[1:-1], np.repeat(heights, 2)
        self.line(x, y, colour, width=width)

    def line(self, x, y, colour, *, width=2.0, dash=""):
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(self._x(x), self._y(y), strict=True))
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self._marks.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>'
        )

    def points(self, x, y, colour, *, radius=3.5, opacity=1.0):
        circles = "".join(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius}"/>'
            for a, b in zip(self._x(np.ravel(x)), self._y(np.ravel(y)), strict=True)
        )
        self._marks.append(f'<g fill="{colour}" fill-opacity="{opacity}">{circles}</g>')

    def band(self, x0, x1, colour, *, opacity=0.15):
        """A vertical band over the whole height, from `x0` to `x1`, cut at the edges of the chart."""
        a, b = self._x(np.clip([x0, x1], *self._x_range))
        if b > a:
            shape = f'x="{a:.1f}" y="{_TOP}" width="{b - a:.1f}" height="{self.height - _TOP - _BOTTOM}"'
            self._marks.append(f'<rect {shape} fill="{colour}" fill-opacity="{opacity}"/>')

    def segments(self, x0, y0, x1, y1, colour, *, width=1.0):
        """Straight lines, one for each quadruple."""
        ends = zip(*map(np.ravel, (self._x(x0), self._y(y0), self._x(x1), self._y(y1))), strict=True)
        path = "".join(f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" for a, b, c, d in ends)
        self._marks.append(f'<path d="{path}" stroke="{colour}" stroke-width="{width}" fill="none"/>')

    def text(self, x, y, words, *, colour=style.INK, anchor="middle", size=12, bold=False, dx=0, dy=0):
        """`words` at a point in data coordinates, moved by `dx` and `dy` pixels, and inwards to stay on the chart."""
        weight = ' font-weight="600"' if bold else ""
        length = 0.62 * size * len(words)  # about; only a browser knows the font
        before = {"start": 0.0, "middle": length / 2, "end": length}[anchor]
        left = np.clip(self._x(x) + dx, before + 2, max(before + 2, self.width - length + before - 2))
        place = f'x="{left:.1f}" y="{self._y(y) + dy:.1f}" text-anchor="{anchor}"'
        self._front.append(f'<text {place} fill="{colour}" font-size="{size}"{weight}>{html.escape(words)}</text>')

    def image(self, label: str) -> str:
        """The picture as one `<svg>` element; `label` says in words what is drawn, not the numbers."""
        return _svg(self.width, self.height, label, self._drawn())

    def _drawn(self) -> str:
        width, height = self.width - _LEFT - _RIGHT, self.height - _TOP - _BOTTOM
        # The marks stand in an inner picture of the size of the plot, which cuts off what lies outside.
        place = f'x="{_LEFT}" y="{_TOP}" width="{width}" height="{height}" viewBox="{_LEFT} {_TOP} {width} {height}"'
        return f'<svg {place} overflow="hidden">{"".join(self._marks)}</svg>{"".join(self._front)}'

    def _x(self, x):
        low, high = self._x_range
        return _LEFT + (np.asarray(x, dtype=float) - low) / (high - low) * (self.width - _LEFT - _RIGHT)

    def _y(self, y):
        low, high = self._y_range
        fraction = (np.asarray(y, dtype=float) - low) / (high - low)
        return self.height - _BOTTOM - fraction * (self.height - _TOP - _BOTTOM)

    def _axes(self, x_label, y_label, x_ticks, y_ticks):
        bottom, right = self.height - _BOTTOM, self.width - _RIGHT
        for tick, words in _ticks(x_ticks, *self._x_range, 9).items():
            self._front.append(_tick_label(self._x(tick), bottom + 16, words, "middle"))
        for tick, words in _ticks(y_ticks, *self._y_range, 5).items():
            y = self._y(tick)
            self._marks.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="{style.FAINT}"/>')
            self._front.append(_tick_label(_LEFT - 6, y + 4, words, "end"))
        self._front.append(f'<path d="M{_LEFT} {bottom}H{right}" stroke="{style.INK}"/>')
        middle = (_LEFT + right) / 2
        self._front.append(f'<text x="{middle:.1f}" y="{self.height - 8}" {_LABEL}>{html.escape(x_label)}</text>')
        turned = f'transform="translate(14 {(_TOP + bottom) / 2:.1f}) rotate(-90)"'
        self._front.append(f"<text {turned} {_LABEL}>{html.escape(y_label)}</text>")


def tiled(rows: list[list[Chart]], label: str) -> str:
    """Rows of charts, below each other, as one `<svg>` element."""
    width, height, drawn = 0, 0, ""
    for row in rows:
        x = 0
        for chart in row:
            drawn += f'<g transform="translate({x} {height})">{chart._drawn()}</g>'
            x += chart.width
        width, height = max(width, x), height + max(chart.height for chart in row)
    return _svg(width, height, label, drawn)


def _svg(width: int, height: int, label: str, drawn: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(label, quote=True)}" width="{width}" style="max-width:100%;height:auto;{_FONT}">'
        f'<rect width="100%" height="100%" fill="{style.PAPER}"/>{drawn}</svg>'
    )


_LABEL = f'text-anchor="middle" font-size="12" fill="{style.INK}"'


def _ticks(wanted, low, high, most) -> dict:
    """Place -> words for each tick of an axis from `low` to `high`."""
    if wanted is not True:
        return wanted or {}
    ticks = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return {t: f"{t:.6g}".replace("-", "\N{MINUS SIGN}") for t in ticks if low <= t <= high}


def _tick_label(x, y, words, anchor):
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-size="11" fill="{style.INK}">{html.escape(words)}</text>'

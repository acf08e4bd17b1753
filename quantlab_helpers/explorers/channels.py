"""What the two explorers of notebook 09 draw: the error as alpha moves, and below it numbers channel by channel."""

from __future__ import annotations

import numpy as np

from .. import style
from .svg import Chart

_FIRST = 12  # so many channels are all drawn; of the others, some
_SOME = 40


def ranks(num_channels: int) -> np.ndarray:
    """Places in an order of channels, the first ones all and then ever fewer: enough for a logarithmic axis."""
    spread = np.geomspace(1, num_channels, _SOME).round().astype(int) - 1
    return np.union1d(np.arange(min(_FIRST, num_channels)), spread)


def error_chart(alphas, errors, here: tuple[float | None, float], level: tuple[str, float], y_label: str) -> Chart:
    """The error at each alpha, a dashed line at a level with its label, and a large dot where we are.

    here  alpha and error. An alpha of None is drawn at the left edge: nothing is scaled
    """
    alpha, error = here
    words, height = level
    highest = 1.15 * max(height, error, *errors) or 1.0
    chart = Chart((-0.03, 1.03), (0, 100 * highest), x_label="alpha", y_label=y_label, height=200)
    chart.line([-0.03, 1.03], [100 * height] * 2, style.ORIGINAL, width=1.5, dash="5 4")
    chart.text(1.02, 100 * height, words, colour=style.ORIGINAL, anchor="end", size=11, dy=-5)
    chart.line(alphas, 100 * np.asarray(errors), style.ERROR, width=1.5)
    chart.points([-0.015 if alpha is None else alpha], [100 * error], style.HIGHLIGHT, radius=6)
    return chart


def channel_chart(named_lines: dict, y_range, y_label: str) -> Chart:
    """A number of each channel, both axes logarithmic, channels in a fixed order: half as wide as an error chart.

    named_lines  label -> (colour, (channels,) numbers of 0 or more, whether the line is dashed)
    y_range      the decades to draw, such as (0.01, 100)
    """
    num_channels = len(next(iter(named_lines.values()))[1])
    places, bottom = ranks(num_channels), np.log10(y_range[0])
    x = np.log10(places + 1)
    decades = range(int(np.ceil(bottom)), int(np.floor(np.log10(y_range[1]))) + 1)
    chart = Chart(
        (-0.05, max(x[-1], 0.3) + 0.05),
        np.log10(y_range),
        x_label="channel, the largest inputs first",
        y_label=y_label,
        width=340,
        height=230,
        x_ticks={np.log10(rank): f"{rank}" for rank in (1, 10, 100, 1000, 10000) if rank <= num_channels},
        y_ticks={d: f"{10.0**d:g}" if abs(d) <= 3 else f"1e{d}" for d in decades},
    )
    for line, (name, (colour, values, is_dashed)) in enumerate(named_lines.items()):
        heights = np.log10(np.maximum(values[places], y_range[0] / 10))  # what is lower is cut off
        chart.line(x, heights, colour, width=1.2, dash="4 3" if is_dashed else "")
        if not is_dashed:
            chart.points(x, heights, colour, radius=2.2)
        chart.text(max(x[-1], 0.3), np.log10(y_range[1]), name, colour=colour, anchor="end", size=11, dy=14 + 14 * line)
    return chart


def decades_of(*arrays) -> tuple[float, float]:
    """The powers of ten that hold all numbers above 0 of some arrays, at most six decades down from the largest."""
    positive = np.concatenate([np.ravel(array)[np.ravel(array) > 0] for array in arrays])
    if positive.size == 0:
        return 0.1, 10.0
    top = np.ceil(np.log10(positive.max()) + 0.05)
    bottom = max(np.floor(np.log10(positive.min())), top - 6)
    return 10.0**bottom, 10.0**top

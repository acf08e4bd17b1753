"""Explorer of notebook 10: the roofline, how many tokens per second reading and computing allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .. import style
from ..validation import positive_number
from .base import Control, Explorer
from .svg import Chart

BATCHES = tuple(2**i for i in range(11))  # tokens at a time
_COLOURS = (style.ORIGINAL, style.QUANTIZED, style.GOOD, style.SERIES[3])
_FINE = np.geomspace(BATCHES[0], BATCHES[-1], 161)  # where the roofs are drawn: bends are between the positions, too


@dataclass(frozen=True)
class Roof:
    """What a machine can do at most with weights in one format, for so many tokens at a time."""

    format: str
    batch: int
    intensity: float  # operations for each byte that is read
    balance: float  # operations that the machine does in the time in which it reads a byte
    bend: float  # tokens at a time at which computing takes as long as reading
    speed: float  # tokens per second
    measured: Mapping[str, Mapping[int, float]]  # format -> batch -> tokens per second
    roofs: Mapping[str, np.ndarray]  # format -> tokens per second at each of _FINE

    @property
    def is_memory_bound(self) -> bool:
        return self.intensity < self.balance


def roofline(
    nbytes: Mapping[str, int],
    num_weights: int,
    bandwidth: float,
    peak: float,
    tokens_per_second: Callable[..., float],
    measured: Mapping[str, Mapping[int, float]] | None = None,
) -> Explorer:
    """See how many tokens per second a machine allows for 1 to 1,024 tokens at a time, and what bounds it.

    nbytes             the bytes of the weights in each format, by name; up to four
    bandwidth, peak    of the machine: bytes and operations per second
    tokens_per_second  the function of the exercise, called with (nbytes, num_weights, batch, bandwidth, peak)
    measured           tokens per second: name of the format -> tokens at a time -> speed. Drawn as points
    """
    bandwidth, peak = positive_number(bandwidth, "bandwidth"), positive_number(peak, "peak")
    if not 0 < len(nbytes) <= len(_COLOURS):
        raise ValueError(f"nbytes must have one to {len(_COLOURS)} formats, not {len(nbytes)}")
    if unknown := set(measured or ()) - set(nbytes):
        raise ValueError(f"measured must be of the formats in nbytes, not of {sorted(unknown)[0]!r}")
    machine = bandwidth, peak
    roofs = {
        name: np.array([tokens_per_second(size, num_weights, batch, *machine) for batch in _FINE])
        for name, size in nbytes.items()
    }

    def compute(format, batch):
        per_token = 2 * num_weights / nbytes[format]
        return Roof(
            format=format,
            batch=batch,
            intensity=per_token * batch,
            balance=peak / bandwidth,
            bend=peak / bandwidth / per_token,
            speed=float(tokens_per_second(nbytes[format], num_weights, batch, *machine)),
            measured=measured or {},
            roofs=roofs,
        )

    formats = tuple(nbytes)
    return Explorer(
        title="The roof over this machine: what bounds the tokens per second?",
        controls=(
            Control("format", "weights", formats, formats[0]),
            Control("batch", "batch", BATCHES, 1),
        ),
        compute=compute,
        draw=_draw,
        describe=_describe,
    )


def _draw(result: Roof) -> str:
    points = [speed for speeds in result.measured.values() for speed in speeds.values()]
    lowest = min(*(roof.min() for roof in result.roofs.values()), *points)
    highest = max(*(roof.max() for roof in result.roofs.values()), *points)
    x_range = -0.2, np.log2(BATCHES[-1]) + 0.2
    y_range = np.log10(lowest) - 0.25, np.log10(highest) + 0.35
    chart = Chart(
        x_range,
        y_range,
        x_label="tokens at a time",
        y_label="tokens per second",
        x_ticks={np.log2(batch): f"{batch:,}" for batch in BATCHES},
        y_ticks=_ticks(*y_range),
        height=340,
    )
    bend = float(np.clip(np.log2(result.bend), *x_range))
    chart.band(x_range[0], bend, style.HIGHLIGHT)
    for x, words, anchor in ((bend - 0.1, "memory-bound", "end"), (bend + 0.1, "compute-bound", "start")):
        if x_range[0] + 1.5 < x if anchor == "end" else x < x_range[1] - 1.5:  # is there room for it?
            chart.text(x, y_range[1], words, anchor=anchor, dy=16)
    for i, ((name, roof), colour) in enumerate(zip(result.roofs.items(), _COLOURS, strict=False)):
        is_chosen = name == result.format
        chart.line(np.log2(_FINE), np.log10(roof), colour, width=3.5 if is_chosen else 1.2)
        speeds = result.measured.get(name, {})
        x, y = np.log2(list(speeds)), np.log10(list(speeds.values()))
        chart.points(x, y, colour, radius=5.5 if is_chosen else 3)
        below = len(result.roofs) - i
        chart.text(x_range[1], y_range[0], name, colour=colour, anchor="end", bold=is_chosen, dx=-8, dy=-16 * below - 8)
    chart.points([np.log2(result.batch)], [np.log10(result.speed)], style.ERROR, radius=7)
    chart.text(x_range[1], y_range[0], "lines: the roofs; dots: measured", anchor="end", dx=-8, dy=-8)
    return chart.image("Lines of the tokens per second that reading and computing allow, over the tokens at a time")


def _ticks(low: float, high: float) -> dict[float, str]:
    """1, 2 and 5 times each power of ten from 10**low to 10**high, or the powers alone where there are many."""
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    numbers = [step * 10.0**power for power in range(int(low) - 1, int(high) + 2) for step in steps]
    return {np.log10(number): f"{number:,.12g}" for number in numbers if low <= np.log10(number) <= high}


def _describe(result: Roof) -> str:
    bound = "memory" if result.is_memory_bound else "compute"
    measured = result.measured.get(result.format, {}).get(result.batch)
    found = f" Reached: {_round(measured)}, {style.percent(measured / result.speed)} of that." if measured else ""
    return (
        f"{result.format}, {result.batch:,} token{'' if result.batch == 1 else 's'} at a time: "
        f"{_round(result.intensity)} operations for each byte that is read. In the time of one byte this machine does "
        f"{_round(result.balance)}: {bound}-bound. At most {_round(result.speed)} tokens per second.{found}"
    )


def _round(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"

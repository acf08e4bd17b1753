"""Explorer of notebook 01: one float on the number line, and the bucket that it falls into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import style
from ..affine import choose_qparams, code_range
from ..validation import finite_array
from .base import Control, Explorer
from .svg import Chart


@dataclass(frozen=True)
class OnTheLine:
    """One value, and where symmetric quantization to `num_bits` bits puts it."""

    value: float
    scale: float
    qmax: int
    code: int
    absmax: float  # the last mark of either side
    reach: float  # half the length of the line that is shown

    @property
    def restored(self) -> float:
        return self.code * self.scale

    @property
    def error(self) -> float:
        return abs(self.restored - self.value)

    @property
    def is_clipped(self) -> bool:
        return abs(self.value) > self.absmax


def number_line(x) -> Explorer:
    """Drag one float along the line on which `x` lives, and see which code of 2, 3, 4 or 8 bits it becomes.

    `x` is any array; only its largest magnitude matters, since that sets the scale.
    """
    x = finite_array(x, "x")
    absmax = float(np.abs(x).max()) or 1.0
    reach = 1.6 * absmax  # at 2 bits, a float is more than half a step beyond the last mark from 1.5 on

    def compute(num_bits, value):
        scale, _ = choose_qparams([absmax], num_bits)
        qmin, qmax = code_range(num_bits)
        code = int(np.clip(np.round(value / scale), qmin, qmax))
        return OnTheLine(value, float(scale), qmax, code, absmax, reach)

    values = tuple(float(v) for v in np.linspace(-reach, reach, 49))
    return Explorer(
        title="Which bucket does this float fall into?",
        controls=(
            Control("num_bits", "bits", (2, 3, 4, 8), 3),
            Control("value", "float", values, values[30], lambda v: f"{v:+.3g}"),
        ),
        compute=compute,
        draw=_draw,
        describe=_describe,
    )


def _draw(line: OnTheLine) -> str:
    edge = 1.03 * line.reach
    chart = Chart((-edge, edge), (0, 1), x_label="value (float32)", y_ticks=False, height=190)
    codes = np.arange(-line.qmax, line.qmax + 1)
    marks, feet = codes * line.scale, np.zeros(codes.size)
    crowded = codes.size > 20
    chart.band(line.restored - line.scale / 2, line.restored + line.scale / 2, style.QUANTIZED)
    chart.segments(marks, feet, marks, feet + 0.3, style.QUANTIZED, width=0.5 if crowded else 2.0)
    for code in (-line.qmax, -64, 0, 64, line.qmax) if crowded else codes:
        chart.text(code * line.scale, 0.3, str(code), colour=style.QUANTIZED, dy=-5)
    chart.segments(line.value, 0.76, line.restored, 0.53, style.ERROR, width=2)
    chart.points(line.value, 0.76, style.INK, radius=6)
    chart.points(line.restored, 0.53, style.QUANTIZED, radius=6)
    chart.text(line.value, 0.76, f"{line.value:+.3g}", bold=True, dy=-10)
    return chart.image("A float on the number line, and the mark of the code that it falls to")


def _describe(line: OnTheLine) -> str:
    steps = f"{line.value:.4g} / {line.scale:.4g} = {line.value / line.scale:.2f} steps"
    back = f"code {line.code}, which reads back as {line.restored:.4g}: an error of {line.error:.3g}"
    if line.is_clipped:
        return f"{steps}. That is beyond the last mark, so it is clipped to {back}. Beyond the marks it has no limit."
    return f"{steps}. The nearest is {back}, at most half a step ({line.scale / 2:.3g})."

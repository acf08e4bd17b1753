"""Explorer of notebook 01: one float on the number line, and the bucket that it falls into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import style
from ..affine import choose_qparams
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
    reach: float  # half the length of the line that is shown

    @property
    def restored(self) -> float:
        return self.code * self.scale

    @property
    def error(self) -> float:
        return abs(self.restored - self.value)


def number_line(x) -> Explorer:
    """Drag one float along the line on which `x` lives, and see which code of 2, 3, 4 or 8 bits it becomes.

    `x` is any array; only its largest magnitude matters, since that sets the scale.
    """
    x = finite_array(x, "x")
    absmax = float(np.abs(x).max()) or 1.0
    reach = 1.2 * absmax

    def compute(value, num_bits):
        scale, _ = choose_qparams(x, num_bits)
        qmax = 2 ** (num_bits - 1) - 1
        code = int(np.clip(np.round(value / scale), -qmax, qmax))
        return OnTheLine(value, float(scale), qmax, code, reach)

    values = tuple(float(v) for v in np.linspace(-reach, reach, 49))
    return Explorer(
        title="Which bucket does this float fall into?",
        controls=(
            Control("num_bits", "bits", (2, 3, 4, 8), 3),
            Control("value", "float", values, values[31], lambda v: f"{v:+.3f}"),
        ),
        compute=compute,
        draw=_draw,
        describe=_describe,
    )


def _draw(line: OnTheLine) -> str:
    chart = Chart((-line.reach, line.reach), (0, 1), x_label="value (float32)", y_ticks=False, width=680, height=190)
    codes = np.arange(-line.qmax, line.qmax + 1)
    ticks = codes * line.scale
    chart.band(line.restored - line.scale / 2, line.restored + line.scale / 2, style.QUANTIZED)
    zeros = np.zeros(codes.size)
    chart.segments(ticks, zeros, ticks, zeros + 0.3, style.QUANTIZED, width=1.0 if line.qmax > 7 else 2.0)
    every = 1 if line.qmax <= 7 else 32
    for code in codes[codes % every == 0]:
        chart.text(code * line.scale, 0.3, _signed(code), colour=style.QUANTIZED, dy=-5)
    chart.segments(line.value, 0.78, line.restored, 0.5, style.ERROR, width=2)
    chart.points(line.value, 0.8, style.INK, radius=6)
    chart.points(line.restored, 0.5, style.QUANTIZED, radius=6)
    chart.text(line.value, 0.8, f"{line.value:+.3f}", bold=True, dy=-10)
    return chart.image(f"Number line with {codes.size} codes. {_describe(line)}")


def _describe(line: OnTheLine) -> str:
    steps = line.value / line.scale
    nearest = round(steps)
    clipped = f", but the last code is {_signed(line.code)}, so it is clipped" if nearest != line.code else ""
    compared = "within" if line.error <= line.scale / 2 * (1 + 1e-6) else "more than"
    return (
        f"{line.value:.3f} / {line.scale:.4f} = {steps:.2f}, which rounds to {_signed(nearest)}{clipped}. "
        f"Code {_signed(line.code)} reads back as {line.restored:.3f}: "
        f"an error of {line.error:.4f}, {compared} half a step ({line.scale / 2:.4f})."
    )


def _signed(code: int) -> str:
    return str(code).replace("-", "\N{MINUS SIGN}")

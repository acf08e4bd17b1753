"""Explorer of notebook 08: damping, group size and calibration tokens of GPTQ, and the error on held-out inputs."""

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
from .svg import Chart

_DAMPINGS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
_GROUP_SIZES = (256, 128, 64, 32, 16, 8, 4, 2)
_MOST_SIZES = 3
_PARTS = (32, 8, 1)  # calibrate on one part in so many of the tokens


@dataclass(frozen=True)
class Settings:
    """GPTQ with some settings: relative errors of the output, on the inputs that it was fitted to and on others."""

    damping: float
    scales: str
    num_tokens: int
    calibration_errors: np.ndarray  # (dampings,)
    heldout_errors: np.ndarray  # (dampings,)
    rtn_error: float  # of rounding to nearest, held-out
    bits_per_weight: float  # the same for both
    highest: float  # of all errors at all positions


def gptq_settings(weight, calibration, heldout, *, num_bits: int = 4) -> Explorer:
    """Quantize the layer `weight` (out, in) by GPTQ with several dampings, group sizes and amounts of calibration.

    calibration, heldout  inputs (tokens, in), to fit and to measure
    """
    weight, calibration, heldout = (
        finite_array(array, name).astype(np.float32)
        for array, name in ((weight, "weight"), (calibration, "calibration"), (heldout, "heldout"))
    )
    linear_forward(calibration, weight), linear_forward(heldout, weight)  # explain shapes that do not fit
    calibration, heldout = (x.reshape(-1, x.shape[-1]) for x in (calibration, heldout))
    in_features = weight.shape[1]
    sizes = [size for size in _GROUP_SIZES if size < in_features and in_features % size == 0][:_MOST_SIZES]
    options = {"one per row": None, **{f"groups of {size}": size for size in sizes}}
    tokens = tuple(dict.fromkeys(max(1, len(calibration) // part) for part in _PARTS))

    def output_error(restored, x):
        y, y_q = (linear_forward(x, w).astype(np.float64) for w in (weight, restored))  # wide enough for squares
        return float(np.linalg.norm(y_q - y) / (np.linalg.norm(y) or 1.0))

    @cache
    def along_damping(scales, num_tokens):
        x = calibration[:num_tokens]
        H = hessian(x)
        restored = [
            gptq_from_hessian(weight, H, num_bits, group_size=options[scales], damping=damping).dequantize()
            for damping in _DAMPINGS
        ]
        return tuple(np.array([output_error(r, inputs) for r in restored]) for inputs in (x, heldout))

    @cache
    def nearest(scales):
        per = "group" if options[scales] else "channel"
        quantized = quantize(weight, num_bits, symmetric=False, per=per, group_size=options[scales])
        return output_error(quantized.dequantize(), heldout), quantized.bits_per_weight

    @cache
    def highest():
        curves = [errors for s in options for t in tokens for errors in along_damping(s, t)]
        return max(*(nearest(scales)[0] for scales in options), *(float(errors.max()) for errors in curves))

    def compute(damping, scales, num_tokens):
        errors = along_damping(scales, num_tokens)
        return Settings(damping, scales, num_tokens, *errors, *nearest(scales), highest())

    return Explorer(
        title=f"What GPTQ can be told ({num_bits} bits)",
        controls=(
            Control("damping", "damping", _DAMPINGS, 0.01, "{:g}".format),
            Control("num_tokens", "calibrated on", tokens, tokens[-1], "{} tokens".format),
            Control("scales", "scales", tuple(options), tuple(options)[min(1, len(sizes))]),
        ),
        compute=compute,
        draw=_draw,
        describe=_describe,
        num_values=weight.size + calibration.size + heldout.size,
    )


def _draw(result: Settings) -> str:
    x = np.log10(_DAMPINGS)
    here = _DAMPINGS.index(result.damping)
    left, right, top = x[0] - 0.2, x[-1] + 0.2, 130 * result.highest or 1.0
    chart = Chart(
        (left, right),
        (0, top),
        x_label="damping, as a power of 10 (\N{MINUS SIGN}2 is 0.01)",
        y_label="output error (%)",
    )
    chart.line([left, right], [100 * result.rtn_error] * 2, style.INK, width=1.0, dash="5 4")
    chart.text(left, 100 * result.rtn_error, "round to nearest, held-out inputs", anchor="start", dx=6, dy=-5)
    for errors, colour, dash in (
        (result.calibration_errors, style.QUANTIZED, "6 4"),
        (result.heldout_errors, style.ERROR, ""),
    ):
        chart.line(x, 100 * errors, colour, dash=dash)
        chart.points(x, 100 * errors, colour, radius=3)
        chart.points(x[here], 100 * errors[here], colour, radius=6.5)
    chart.text(right, top, "GPTQ, held-out inputs", colour=style.ERROR, anchor="end", bold=True, dx=-4, dy=16)
    words = "GPTQ, its own calibration inputs (dashed)"
    chart.text(left, top, words, colour=style.QUANTIZED, anchor="start", bold=True, dx=6, dy=16)
    return chart.image("Output error against damping, on calibration inputs and on held-out inputs")


def _describe(result: Settings) -> str:
    here = _DAMPINGS.index(result.damping)
    scales = "one scale per row" if result.scales == "one per row" else result.scales
    return (
        f"With {scales} ({result.bits_per_weight:.2f} bits per weight), calibrated on {result.num_tokens} tokens, "
        f"damping {result.damping:g}: output error {style.percent(result.calibration_errors[here])} on those tokens, "
        f"{style.percent(result.heldout_errors[here])} on held-out ones. Round to nearest: "
        f"{style.percent(result.rtn_error)}."
    )

"""Explorer of notebook 04: a layer's output, quantized against float; the bits and who shares a scale are yours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .. import style
from ..affine import fake_quantize
from ..linear import linear_forward
from ..metrics import cosine_similarity
from ..validation import finite_array
from .base import Control, Explorer
from .svg import Chart

_SCATTERED = 180  # outputs that are drawn, of all tokens
_OF_WORST = 50  # and of the worst token
_ACTIVATION_BITS = ("float", 8, 6, 4)
_PER = {"per tensor": "tensor", "per row": "channel"}  # the position of the control -> the package's word for it


@dataclass(frozen=True)
class LayerOutput:
    """What a layer with quantized weights and perhaps quantized inputs gives, beside what it should give.

    Errors are relative: the size of the error over the size of the float output, each a root of summed squares.
    """

    num_bits: int
    activation_bits: int | str  # or "float"
    scales: str
    relative_error: float  # over all tokens together
    cosine: float
    worst_token: int
    worst_error: float  # relative, of that token alone
    scattered: np.ndarray  # (2, n) float and quantized outputs, the same n whatever the position
    of_worst: np.ndarray  # (2, n) the same for the worst token


def layer_output(weight, x) -> Explorer:
    """Compare the output of the layer `weight` (out, in) on inputs `x` (tokens, in) before and after quantization.

    Scales are per tensor (one for all weights, one for all inputs) or per row (one for each output channel and for
    each token). One token may be given as (in,).
    """
    weight, x = finite_array(weight, "weight").astype(np.float64), finite_array(x, "x").astype(np.float64)
    y = linear_forward(np.atleast_2d(x), weight)  # explains shapes that do not fit
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, len(weight))
    sample = np.random.default_rng(0).permutation(y.size)[:_SCATTERED]
    of_token = np.linspace(0, len(weight) - 1, min(_OF_WORST, len(weight))).astype(int)

    # The scales change fastest, then the inputs' bits: kept for so many positions, nothing is quantized twice.
    @lru_cache(maxsize=len(_PER))
    def weights_at(num_bits, scales):
        return fake_quantize(weight, num_bits, per=_PER[scales]).astype(np.float64)

    @lru_cache(maxsize=len(_PER) * len(_ACTIVATION_BITS))
    def inputs_at(activation_bits, scales):
        if activation_bits == "float":
            return x
        return fake_quantize(x, activation_bits, per=_PER[scales]).astype(np.float64)

    def compute(num_bits, activation_bits, scales):
        y_q = linear_forward(inputs_at(activation_bits, scales), weights_at(num_bits, scales))
        token_errors = relative_errors(y, y_q)
        worst = int(token_errors.argmax())
        return LayerOutput(
            num_bits=num_bits,
            activation_bits=activation_bits,
            scales=scales,
            relative_error=float(relative_errors(y.ravel(), y_q.ravel())),
            cosine=cosine_similarity(y, y_q),
            worst_token=worst,
            worst_error=float(token_errors[worst]),
            scattered=np.stack([y.ravel()[sample], y_q.ravel()[sample]]),
            of_worst=np.stack([y[worst, of_token], y_q[worst, of_token]]),
        )

    return Explorer(
        title="The layer's output, quantized against float",
        controls=(
            Control("num_bits", "weight bits", (2, 3, 4, 5, 6, 7, 8), 8),
            Control("activation_bits", "activations", _ACTIVATION_BITS, "float", _bits_text),
            Control("scales", "scales", tuple(_PER), "per tensor"),
        ),
        compute=compute,
        draw=_draw,
        describe=_describe,
        num_values=weight.size + y.size,
    )


def relative_errors(y, y_q) -> np.ndarray:
    """The size of the error over that of `y`, along the last axis; where `y` is all zero, the size of the error."""
    size = np.linalg.norm(y, axis=-1)
    return np.linalg.norm(y_q - y, axis=-1) / np.where(size == 0, 1.0, size)


def _bits_text(bits) -> str:
    return "float" if bits == "float" else f"{bits} bits"


def _draw(result: LayerOutput) -> str:
    # Nearly all the points: one token with huge outputs must not squeeze all the others into a dot.
    reach = 1.15 * float(np.percentile(np.abs(result.scattered[0]), 97)) or 1.0
    span = (-reach, reach)
    chart = Chart(span, span, x_label="float output", y_label="quantized output", height=340)
    chart.line(span, span, style.INK, width=1.0, dash="5 4")
    chart.points(*result.scattered, style.QUANTIZED, radius=2.5, opacity=0.55)
    chart.points(*result.of_worst, style.ERROR, radius=3.5, opacity=0.8)
    legend = {"all tokens (small dots)": style.QUANTIZED, "the worst token (large dots)": style.ERROR}
    for line, (words, colour) in enumerate(legend.items()):
        chart.text(-reach, reach, words, colour=colour, anchor="start", dx=10, dy=16 + 16 * line)
    chart.text(reach, -reach, "dashed: no error", anchor="end", dx=-10, dy=-12)
    return chart.image("Scatter of a layer's quantized outputs against its float outputs")


def _describe(result: LayerOutput) -> str:
    return (
        f"Weights {result.num_bits} bits, activations {_bits_text(result.activation_bits)}, scales {result.scales}. "
        f"All tokens together: relative error {style.percent(result.relative_error)}, cosine similarity "
        f"{result.cosine:.4f}. The worst is token {result.worst_token}: relative error "
        f"{style.percent(result.worst_error)}."
    )

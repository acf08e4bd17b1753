"""Explorer of notebook 06: quantize a whole language model, or a part of it, and read what it still writes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from .. import style
from ..lm import LanguageModel, Yardstick, quantize_model
from .base import Control, Explorer
from .svg import Chart

_BITS = (8, 6, 4, 3, 2)
_SCALES = {
    "one": {"per": "tensor"},
    "one per row": {"per": "channel"},
    "groups of 32": {"per": "group", "group_size": 32},
}
_LAYERS = {
    "all linear layers": "layers.*",
    "attention only": "*.[qkvo]_proj",
    "feed-forward only": "*.[gud]*_proj",
    "embedding only": "embedding",
}
_HIGHEST = 1000.0  # times the float32 perplexity: what is worse is drawn at the top
_STORY_TOKENS = 24


@dataclass(frozen=True)
class Quantized:
    """What is left of a language model after quantization."""

    num_bits: int
    scales: str
    layers: str
    nbytes: int
    perplexity: float
    ratio: float  # to the perplexity of the float32 model
    divergence: float
    story: str


def language_model(model: LanguageModel, text: str, prompt: str) -> Explorer:
    """Quantize `model` at every number of bits, with coarse and fine scales, whole or in part.

    Perplexity and divergence are measured on `text`; the story is what the model writes after `prompt`, always its
    likeliest word. Rows of every layer must have a multiple of 32 weights.
    """
    yardstick = Yardstick(model, text)
    baseline = yardstick.measure(model).perplexity

    @cache  # the curve behind a point is made of other points
    def compute(layers, scales, num_bits):
        quantized = quantize_model(model, num_bits=num_bits, layers=_LAYERS[layers], **_SCALES[scales])
        found = yardstick.measure(quantized)
        return Quantized(
            num_bits=num_bits,
            scales=scales,
            layers=layers,
            nbytes=quantized.nbytes,
            perplexity=found.perplexity,
            ratio=found.perplexity / baseline,
            divergence=found.divergence,
            story=quantized.generate(prompt, _STORY_TOKENS).strip(),
        )

    def draw(result):
        curve = [compute(result.layers, result.scales, num_bits) for num_bits in _BITS]
        return _draw(result, curve, model.nbytes)

    return Explorer(
        title=f"What is left of {model.name}? (float32: {model.nbytes / 1e6:.2f} MB, perplexity {baseline:.2f})",
        controls=(
            Control("layers", "quantize", tuple(_LAYERS), "all linear layers"),
            Control("scales", "scales", tuple(_SCALES), "groups of 32"),
            Control("num_bits", "bits", _BITS, 8),
        ),
        compute=compute,
        draw=draw,
        describe=lambda result: _describe(result, prompt),
    )


def _height(ratio: float) -> float:
    return float(np.log10(min(max(ratio, 1.0), _HIGHEST)))


def _draw(result: Quantized, curve: list[Quantized], float_bytes: int) -> str:
    megabytes = [point.nbytes / 1e6 for point in curve]
    low, high = 0.9 * min(megabytes), 1.05 * max(megabytes)
    labels = {"x_label": "size of the whole model (MB)", "y_label": "perplexity, times float32's"}
    chart = Chart((low, high), (-0.15, 3.2), **labels, y_ticks=False)
    for ratio in (1, 2, 5, 10, 100, 1000):
        chart.line([low, high], [np.log10(ratio)] * 2, style.FAINT, width=1.0)
        chart.text(low, np.log10(ratio), f"{ratio}", anchor="end", size=11, dx=-6, dy=4)
    heights = [_height(point.ratio) for point in curve]
    chart.line(megabytes, heights, style.ORIGINAL, width=1.5)
    chart.points(megabytes, heights, style.ORIGINAL, radius=3.5)
    for point, x, y in zip(curve, megabytes, heights, strict=True):
        chart.text(x, y, str(point.num_bits), size=11, dy=-9)
    chart.points([result.nbytes / 1e6], [_height(result.ratio)], style.ERROR, radius=7)
    return chart.image("Perplexity of the quantized model against its size, a point for each number of bits")


def _describe(result: Quantized, prompt: str) -> str:
    return (
        f"{result.layers} at {result.num_bits} bits, scales: {result.scales}: {result.nbytes / 1e6:.2f} MB, perplexity "
        f"{result.perplexity:.4g} ({result.ratio:.3g} times float32's), KL {result.divergence:.3g}. "
        f"It writes: “{prompt} {result.story}”"
    )

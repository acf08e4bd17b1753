"""Explorer of notebook 02: where the bytes go when an array is quantized and packed, and what they buy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import style
from ..affine import quantize
from ..metrics import sqnr_db
from ..validation import finite_array
from .base import Control, Explorer
from .svg import Chart

_WIDTHS = (2, 3, 4, 5, 6, 7, 8)
_GROUP_SIZES = (128, 64, 32, 16, 8)
_PARTS = (("codes", style.QUANTIZED), ("scales", style.HIGHLIGHT), ("zero points", style.ERROR))


@dataclass(frozen=True)
class Storage:
    """The bytes of one array: in float32, as codes of a whole byte each, and packed."""

    size: int  # how many weights
    float_bytes: int
    code_dtype: str
    unpacked_bytes: int  # the codes in `code_dtype`
    packed_bytes: int
    scale_bytes: int
    zero_point_bytes: int
    reach: float  # of the picture, in bits per weight
    num_bits: int
    layout: str
    sqnr: float

    @property
    def total(self) -> int:
        return self.packed_bytes + self.scale_bytes + self.zero_point_bytes


def storage(x) -> Explorer:
    """See how many bytes `x` (any array) needs at 2 to 8 bits, with few or many scales.

    One scale for all, one per row (an index of the first axis), or one per group: those of 128, 64, 32, 16 and 8
    weights that divide the last axis.
    """
    x = finite_array(x, "x").astype(np.float32)
    layouts = _layouts(x.shape)

    def kept(num_bits, mapping, layout):
        return quantize(x, num_bits, symmetric=mapping == "symmetric", **layouts[layout])

    largest = max(kept(_WIDTHS[-1], "affine", layout).bits_per_weight for layout in layouts)
    reach = 1.03 * max(32.0, largest)

    def compute(num_bits, mapping, layout="one for all"):
        quantized = kept(num_bits, mapping, layout)
        packed = quantized.packed().nbytes
        return Storage(
            size=x.size,
            float_bytes=x.nbytes,
            code_dtype=str(quantized.codes.dtype),
            unpacked_bytes=quantized.codes.nbytes,
            packed_bytes=packed,
            scale_bytes=quantized.scale.nbytes,
            zero_point_bytes=quantized.nbytes - packed - quantized.scale.nbytes,
            reach=reach,
            num_bits=num_bits,
            layout=layout,
            sqnr=sqnr_db(x, quantized.dequantize()),
        )

    scales = Control("layout", "scales", tuple(layouts), "one for all")
    return Explorer(
        title="Where do the bytes go?",
        controls=(
            *([scales] if len(layouts) > 1 else []),  # a slider needs two positions
            Control("mapping", "mapping", ("symmetric", "affine"), "symmetric"),
            Control("num_bits", "bits", _WIDTHS, 4),
        ),
        compute=compute,
        draw=_draw,
        describe=_describe,
        num_values=x.size,
    )


def _layouts(shape: tuple[int, ...]) -> dict[str, dict]:
    """The ways to share scales that fit `shape`: how each reads, and the options of `quantize` for it."""
    layouts = {"one for all": {"per": "tensor"}}
    if len(shape) > 1:
        layouts["one per row"] = {"per": "channel"}
    for group_size in _GROUP_SIZES:
        if shape and shape[-1] > group_size and shape[-1] % group_size == 0:
            layouts[f"one per {group_size}"] = {"per": "group", "group_size": group_size}
    return layouts


def _draw(result: Storage) -> str:
    chart = Chart((0, result.reach), (0, 4), x_label="bits per weight", y_ticks=False, height=270)
    for i, (part, colour) in enumerate(_PARTS):
        where = result.reach * (0.56 + 0.14 * i)
        chart.text(where, 3.74, "\N{BLACK SQUARE}", colour=colour, anchor="start", size=16)
        chart.text(where, 3.74, part, anchor="start", dx=16, dy=-1)
    _bar(chart, 2.6, "float32", "", [(result.float_bytes, style.ORIGINAL)], result)
    colours = [colour for _, colour in _PARTS]
    for base, name, note, code_bytes in (
        (1.4, result.code_dtype, ", a whole byte for each code", result.unpacked_bytes),
        (0.2, "packed", "", result.packed_bytes),
    ):
        sizes = (code_bytes, result.scale_bytes, result.zero_point_bytes)
        _bar(chart, base, name, note, list(zip(sizes, colours, strict=True)), result)
    return chart.image("Bars of the bytes in float32, of codes with a whole byte each, and of packed codes")


def _bar(chart: Chart, base: float, name: str, note: str, parts: list[tuple[int, str]], result: Storage) -> None:
    """One bar of `parts` (bytes, colour) end to end, its name to the left, its bytes and the note above."""
    end = 0.0
    for nbytes, colour in parts:
        length = 8 * nbytes / result.size
        if nbytes:
            chart.bars([end + length / 2], [base + 0.55], length, colour, base=base)
        end += length
    total = sum(nbytes for nbytes, _ in parts)
    chart.text(0, base + 0.2, name, anchor="end", dx=-6)
    words = f"{total:,} bytes, {8 * total / result.size:.2f} bits per weight{note}"
    chart.text(0, base + 0.55, words, anchor="start", dy=-6)


def _describe(result: Storage) -> str:
    parts = [f"{result.packed_bytes:,} bytes of packed codes", f"{result.scale_bytes:,} of scales"]
    if result.zero_point_bytes:
        parts.append(f"{result.zero_point_bytes:,} of zero points")
    saved = 1 - result.total / result.float_bytes
    against = f"{style.percent(abs(saved))} {'less' if saved >= 0 else 'more'} than in float32"
    overhead = (result.scale_bytes + result.zero_point_bytes) / result.total
    beside = "scales and zero points" if result.zero_point_bytes else "scales"
    return (
        f"{result.num_bits} bits, scales {result.layout}: {' + '.join(parts)} make {result.total:,}, or "
        f"{8 * result.total / result.size:.2f} bits per weight, {against}. "
        f"{style.percent(overhead)} of it is {beside}. SQNR {style.decibels(result.sqnr)}."
    )

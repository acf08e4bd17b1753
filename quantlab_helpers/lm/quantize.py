"""Quantize a whole language model by rounding each weight to the nearest code, and see which layers suffer most.

The weights of the result are held as `PackedTensor`s, so its `nbytes` is what it takes in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import numpy as np
from tqdm.auto import tqdm

from ..affine import quantize
from ..packed import PackedTensor, pack_format, pack_integers
from ..validation import one_of
from .evaluate import MANY_PRODUCTS, Divergence, Yardstick
from .model import LINEARS, LanguageModel

METHODS = ("rtn",)
# Weights from which on a progress bar is shown, about two seconds' worth (by size: see MANY_PRODUCTS).
MANY_WEIGHTS = 2 * 10**8


def quantize_model(
    model: LanguageModel,
    method: str = "rtn",
    *,
    num_bits: int | Mapping[str, int] = 8,
    symmetric: bool = True,
    per: str = "channel",
    group_size: int | None = None,
    format: str | None = None,
    layers: str | Iterable[str] | None = None,
) -> LanguageModel:
    """Return `model` with the chosen layers quantized and held packed; it shares all other weights with `model`.

    method      "rtn": round to nearest
    num_bits    2 to 16; or a dict from layers to bits, which also says which layers (the last that matches counts)
    symmetric, per, group_size
                as in `quantize`, here with one scale for each row unless you say otherwise
    format      a name of `PACKED_FORMATS`, such as "FP8_E4M3", in place of integers; then `num_bits` and `symmetric` do
                not count
    layers      names with * for any letters, such as "layers.0.*" or ["*.q_proj", "embedding"]. None: every linear
                layer, that is all but the embedding and the head

    Raises ValueError or TypeError for options out of range, and for layers that are none of the model's or quantized
    already.

    >>> small = quantize_model(model, num_bits=4, per="group", group_size=32)                        # doctest: +SKIP
    """
    one_of(method, "method", METHODS)
    if isinstance(num_bits, Mapping):
        if layers is not None:
            raise ValueError("layers cannot be given where num_bits is a dict: its keys are the layers")
        bits = {name: b for pattern, b in num_bits.items() for name in matching(model, pattern)}
    else:
        names = model.linears if layers is None else matching(model, layers)
        bits = dict.fromkeys(names, num_bits)
    weights = {}
    is_quick = sum(int(np.prod(model.weights[name].shape)) for name in bits) < MANY_WEIGHTS
    for name in tqdm(bits, desc="quantizing", disable=is_quick, leave=False):
        if not isinstance(model.weights[name], np.ndarray):
            raise ValueError(f"layers must be float, but {name} is quantized already: {model.weights[name]}")
        try:
            weights[name] = _rounded(model.weights[name], bits[name], symmetric, per, group_size, format)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return model.replace(weights)


def _rounded(weight, num_bits, symmetric, per, group_size, format) -> PackedTensor:
    if format is not None:
        return pack_format(weight, format, per=per, group_size=group_size)
    return pack_integers(quantize(weight, num_bits, symmetric=symmetric, per=per, group_size=group_size))


def matching(model: LanguageModel, patterns: str | Iterable[str]) -> list[str]:
    """Return the names of the matrices that match a pattern, or any of several, in the model's order.

    Raises ValueError for a pattern that matches none.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in model.weights):
            first = ", ".join([*model.weights][: 1 + len(LINEARS)])
            raise ValueError(f"layers must match some of the model's, but {pattern!r} does not: {first} and so on")
    return [name for name in model.weights if any(fnmatchcase(name, pattern) for pattern in patterns)]


def sensitivity(
    model: LanguageModel, yardstick: Yardstick, *, layers: str | Iterable[str] | None = None, **options
) -> dict[str, Divergence]:
    """Quantize one layer at a time and return the divergence that each causes on its own.

    layers   names or patterns as in `quantize_model`; the layers that match one pattern are quantized together. None:
             every linear layer by itself
    options  those of `quantize_model`
    """
    patterns = list(model.linears) if layers is None else [layers] if isinstance(layers, str) else list(layers)
    is_quick = len(patterns) * model.num_parameters * yardstick.windows.inputs.size < MANY_PRODUCTS
    return {
        pattern: yardstick.measure(quantize_model(model, layers=pattern, **options)).divergence
        for pattern in tqdm(patterns, desc="one layer at a time", disable=is_quick, leave=False)
    }

"""Quantize a whole language model by any of the course's methods, and see which layers suffer most.

The result holds codes and scales, not floats: its `nbytes` is what it takes in memory.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import partial

import numpy as np
from tqdm.auto import tqdm

from ..affine import quantize
from ..kernel_linear import KernelLinear
from ..methods.gguf_tensor import gguf_quantize
from ..methods.llm_int8 import LlmInt8Linear
from ..methods.nf4 import nf4_quantize
from ..packed import pack_format, pack_integers
from ..validation import boolean, one_of
from .calibrated import awq_layers, calibration_tokens, gptq_layers, w8a8_layers
from .evaluate import MANY_PRODUCTS, Divergence, Yardstick
from .model import LINEARS, LanguageModel

# Weights from which on a progress bar is shown, about two seconds' worth (by size: see MANY_PRODUCTS).
MANY_WEIGHTS = 2 * 10**8


def quantize_model(
    model: LanguageModel,
    method: str = "rtn",
    *,
    layers: str | Iterable[str] | None = None,
    calibration=None,
    kernel: str | None = None,
    int8_activations: bool = False,
    **options,
) -> LanguageModel:
    """Return `model` with the chosen layers quantized; it shares all that does not change with `model`.

    layers       names with * for any letters, such as "layers.0.*" or ["*.q_proj", "*.k_proj"]. None: every linear
                 layer. "embedding" and "head", where the model has one, are for "rtn" and "gguf" only
    calibration  for the methods below that say so: a text, which is cut into windows of 512 tokens, or tokens
                 (windows, time)
    kernel       None, or "numba": the layers compute from their packed codes and never hold floats (`KernelLinear`).
                 For results of "rtn", "gptq" and "awq" that are symmetric integers of 8 bits per channel, or integers
                 of 4 bits in groups of 16, 32, 48, ... An embedding and the head that is tied to it are layers="*"
    int8_activations  with a kernel: quantize what comes in, too, token by token, and compute in integers

    method, and its options with what they are unless you say otherwise:

    "rtn"          round to nearest: num_bits=8, symmetric=True, per="channel", group_size=None as in `quantize`, or in
                   place of integers format=None, a name of `PACKED_FORMATS` such as "FP8_E4M3"
    "nf4"          block_size=64, double_quant=False, table="nf4" as in `nf4_quantize`
    "gguf"         type="Q4_1", or another block format of `GGUF_TYPES`, as in `gguf_quantize`
    "llm_int8"     threshold=6.0 as in `llm_int8_matmul`
    "gptq"         num_bits=4, group_size=None, symmetric=False, damping=0.01, act_order=False as in `gptq`, here with
                   static groups where act_order is True. Needs calibration
    "awq"          num_bits=4, group_size=None, grid=20, clip=False as in `awq`. Needs calibration
    "w8a8"         8-bit weights and activations: per="channel", activations_per="token", static=False. With
                   activations_per="tensor" and static=True, the scale of the activations is fixed by calibration
    "smoothquant"  "w8a8" after smoothing: alpha=0.5 as in `smoothquant_scales`. Needs calibration

    num_bits may be a dict from layers to bits, which also says which layers (the last that matches counts).

    Raises ValueError or TypeError for options out of range or of another method, and for layers that are none of the
    model's or quantized already.

    >>> small = quantize_model(model, num_bits=4, per="group", group_size=32)                        # doctest: +SKIP
    >>> better = quantize_model(model, "gptq", num_bits=4, group_size=32, calibration=text)          # doctest: +SKIP
    """
    run = METHODS[one_of(method, "method", METHODS)]
    _check_options(run, method, options)
    _check_kernel(kernel, int8_activations, method)
    if isinstance(bits := options.get("num_bits"), Mapping):
        if layers is not None:
            raise ValueError("layers cannot be given where num_bits is a dict: its keys are the layers")
        options["num_bits"] = {name: b for pattern, b in bits.items() for name in matching(model, pattern)}
        names = list(options["num_bits"])
    else:
        names = list(model.linears) if layers is None else matching(model, layers)
    for name in names:
        if not isinstance(model.weights[name], np.ndarray):
            raise ValueError(f"layers must be float, but {name} is quantized already: {model.weights[name]}")
        if method not in FOR_ALL_MATRICES and name not in model.linears:
            others = " and ".join(map(repr, FOR_ALL_MATRICES))
            raise ValueError(f"layers must be linear layers for method {method!r}; for {name} there are {others}")
    quantized = run(model, names, calibration, **options)
    if kernel is None:
        return quantized
    layer = partial(KernelLinear.from_packed, quantizes_inputs=int8_activations)
    return _one_by_one(quantized, names, lambda name: layer(quantized.weights[name]))


def _rtn(model, names, calibration, *, num_bits=8, symmetric=True, per="channel", group_size=None, format=None):
    bits = _bits(num_bits, names)

    def rounded(name: str):
        if format is not None:
            return pack_format(model.weights[name], format, per=per, group_size=group_size)
        return pack_integers(
            quantize(model.weights[name], bits[name], symmetric=symmetric, per=per, group_size=group_size)
        )

    return _one_by_one(model, names, rounded)


def _nf4(model, names, calibration, *, block_size=64, double_quant=False, table="nf4"):
    return _one_by_one(
        model, names, lambda name: nf4_quantize(model.weights[name], block_size, double_quant, table=table)
    )


def _gguf(model, names, calibration, *, type="Q4_1"):
    return _one_by_one(model, names, lambda name: gguf_quantize(model.weights[name], type))


def _llm_int8(model, names, calibration, *, threshold=6.0):
    return _one_by_one(model, names, lambda name: LlmInt8Linear.from_float(model.weights[name], threshold=threshold))


def _gptq(model, names, calibration, *, num_bits=4, group_size=None, symmetric=False, damping=0.01, act_order=False):
    grid = {"group_size": group_size, "symmetric": symmetric}
    tokens = calibration_tokens(model, calibration)
    return gptq_layers(model, _bits(num_bits, names), tokens, damping=damping, act_order=act_order, **grid)


def _awq(model, names, calibration, *, num_bits=4, group_size=None, grid=20, clip=False):
    tokens = calibration_tokens(model, calibration)
    return awq_layers(model, _bits(num_bits, names), tokens, group_size=group_size, grid=grid, clip=clip)


def _w8a8(model, names, calibration, *, per="channel", activations_per="token", static=False):
    tokens = calibration_tokens(model, calibration) if boolean(static, "static") else None
    how = {"per": per, "activations_per": activations_per, "static": static}
    return w8a8_layers(model, names, tokens, alpha=None, **how)


def _smoothquant(model, names, calibration, *, alpha=0.5, per="channel", activations_per="token", static=False):
    how = {"per": per, "activations_per": activations_per, "static": static}
    return w8a8_layers(model, names, calibration_tokens(model, calibration), alpha=alpha, **how)


METHODS: dict[str, Callable[..., LanguageModel]] = {
    "rtn": _rtn,
    "nf4": _nf4,
    "gguf": _gguf,
    "llm_int8": _llm_int8,
    "gptq": _gptq,
    "awq": _awq,
    "w8a8": _w8a8,
    "smoothquant": _smoothquant,
}
WITH_KERNELS = ("rtn", "gptq", "awq")  # whose results are packed integers
FOR_ALL_MATRICES = ("rtn", "gguf")  # whose results give single rows, as an embedding must


def _check_options(run: Callable, method: str, options: Mapping) -> None:
    allowed = [p.name for p in inspect.signature(run).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if unknown := [name for name in options if name not in allowed]:
        raise TypeError(f"method {method!r} has no option {unknown[0]!r}; it has {', '.join(allowed)}")


def _check_kernel(kernel, int8_activations, method: str) -> None:
    if boolean(int8_activations, "int8_activations") and kernel is None:
        raise ValueError('int8_activations goes with kernel="numba"; without one there is method "w8a8"')
    if kernel is None:
        return
    one_of(kernel, "kernel", ("numba",))
    if method not in WITH_KERNELS:
        raise ValueError(f"kernel must be None for method {method!r}; {', '.join(WITH_KERNELS)} have kernels")


def _bits(num_bits, names: Iterable[str]) -> dict[str, int]:
    return num_bits if isinstance(num_bits, Mapping) else dict.fromkeys(names, num_bits)


def _one_by_one(model: LanguageModel, names: list[str], quantized: Callable) -> LanguageModel:
    """Replace each layer by what `quantized` makes of its name."""
    found = {}
    is_quick = sum(math.prod(model.weights[name].shape) for name in names) < MANY_WEIGHTS
    for name in tqdm(names, desc="quantizing", disable=is_quick, leave=False):
        try:
            found[name] = quantized(name)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return model.replace(found)


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
    model: LanguageModel,
    yardstick: Yardstick,
    method: str = "rtn",
    *,
    layers: str | Iterable[str] | None = None,
    **options,
) -> dict[str, Divergence]:
    """Quantize one layer at a time and return the divergence that each causes on its own.

    layers           names or patterns as in `quantize_model`; the layers that match one pattern are quantized together.
                     None: every linear layer by itself
    method, options  those of `quantize_model`
    """
    patterns = list(model.linears) if layers is None else [layers] if isinstance(layers, str) else list(layers)
    is_quick = len(patterns) * model.num_parameters * yardstick.windows.inputs.size < MANY_PRODUCTS
    return {
        pattern: yardstick.measure(quantize_model(model, method, layers=pattern, **options)).divergence
        for pattern in tqdm(patterns, desc="one layer at a time", disable=is_quick, leave=False)
    }

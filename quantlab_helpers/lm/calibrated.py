"""The methods that look at what a model's layers see: GPTQ, AWQ, SmoothQuant and plain W8A8, over whole models.

Each reads the calibration text once, layer after layer, with every chosen layer replaced by a visitor that is shown the
layer's inputs and says with which matrix to go on:

GPTQ          quantizes the layer and goes on with the result, so that each layer is fitted to what it will really see
              ("true sequential")
the others    go on with the float matrix, as their authors' code does

AWQ and SmoothQuant divide a layer's inputs by scales s. In a model that costs nothing, because what comes before takes
the division over:

q_proj, k_proj, v_proj    attention_norm: its weight is divided by s
gate_proj, up_proj        ffn_norm: likewise
o_proj                    v_proj: its rows. Query heads that share their values share their scales, too
down_proj                 up_proj: its rows

SmoothQuant's scales are for layers behind a norm only, as in its authors' code for Llama; AWQ's are for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from tqdm.auto import tqdm

from ..methods.awq import awq
from ..methods.gptq import gptq_from_hessian, hessian
from ..methods.smoothquant import W8A8Linear, smoothquant_scales
from ..packed import PackedTensor, pack_integers
from ..validation import integer_array, one_of
from .evaluate import MANY_PRODUCTS
from .model import LanguageModel, LlamaConfig, apply_linear

WINDOW = 512
# What divides the inputs of which layers.
DIVIDED = {
    "attention_norm": ("q_proj", "k_proj", "v_proj"),
    "v_proj": ("o_proj",),
    "ffn_norm": ("gate_proj", "up_proj"),
    "up_proj": ("down_proj",),
}


def calibration_tokens(model: LanguageModel, calibration) -> np.ndarray:
    """Return what the model reads for calibration: tokens (windows, time).

    calibration  a text, which is cut into windows of 512 tokens; what is left at its end does not count. Or tokens
                 (windows, time)
    """
    if calibration is None:
        raise ValueError(
            "calibration must be a text such as the model is going to read, because this method looks at what its "
            "layers see: ql.lm.calibration_text(), or for TinyTales ql.lm.joined(ql.lm.calibration_tales())"
        )
    if not isinstance(calibration, str):
        tokens = integer_array(calibration, "calibration")
        if tokens.ndim != 2:
            raise ValueError(f"calibration must be a text, or tokens (windows, time), but its shape is {tokens.shape}")
        return tokens
    tokens = np.array(model.tokenizer.encode_prompt(calibration), np.int64)
    if len(tokens) < 2:
        raise ValueError(f"calibration must be a text of at least 2 tokens, not {calibration!r}")
    window = min(WINDOW, model.config.max_context, len(tokens))
    return tokens[: len(tokens) // window * window].reshape(-1, window)


def gptq_layers(
    model: LanguageModel,
    bits: Mapping[str, int],
    tokens: np.ndarray,
    *,
    group_size: int | None = None,
    symmetric: bool = False,
    damping: float = 0.01,
    act_order: bool = False,
) -> LanguageModel:
    """Quantize each layer with `gptq`, in the order in which the model uses them.

    With act_order, the scales of groups are chosen beforehand (static_groups), so that their columns stay side by side.
    """
    found: dict[str, PackedTensor] = {}
    latest = []  # the inputs that were seen last, and their Hessian

    def visit(name: str, inputs: np.ndarray) -> np.ndarray:
        if not latest or latest[0] is not inputs:  # q, k and v see the same, and so do gate and up
            latest[:] = inputs, hessian(inputs)
        quantized = gptq_from_hessian(
            model.weights[name],
            latest[1],
            bits[name],
            group_size=group_size,
            symmetric=symmetric,
            damping=damping,
            act_order=act_order,
            static_groups=act_order,
        )
        found[name] = pack_integers(quantized)
        return found[name].dequantize()

    _walk(model, bits, tokens, visit, "GPTQ")
    return model.replace(found)


def awq_layers(
    model: LanguageModel,
    bits: Mapping[str, int],
    tokens: np.ndarray,
    *,
    group_size: int | None = None,
    grid: int = 20,
    clip: bool = False,
) -> LanguageModel:
    """Quantize each layer with `awq`; layers that share their inputs share the scales."""
    found, scales = {}, {}

    def visit(name: str, inputs: np.ndarray) -> np.ndarray:
        divider = _divider(name)
        if divider not in scales:
            chosen = [member for member in _divided(divider) if member in bits]
            if len({bits[member] for member in chosen}) > 1:
                raise ValueError(f"num_bits must be the same for {', '.join(chosen)}, whose inputs AWQ scales together")
            shared = _value_columns(model.config) if divider.endswith("v_proj") else None
            result = awq(
                [model.weights[member] for member in chosen],
                inputs,
                bits[name],
                group_size=group_size,
                grid=grid,
                clip=clip,
                shared=shared,
            )
            scales[divider] = result.scales
            found.update(zip(chosen, map(pack_integers, result.quantized), strict=True))
        return model.weights[name]

    _walk(model, bits, tokens, visit, "AWQ")
    return _with_divided_inputs(model, found, scales)


def w8a8_layers(
    model: LanguageModel,
    names: Iterable[str],
    tokens: np.ndarray | None,
    *,
    alpha: float | None,
    per: str = "channel",
    activations_per: str = "token",
    static: bool = False,
) -> LanguageModel:
    """Quantize weights and activations to 8 bits; first smooth the activations behind norms, unless `alpha` is None."""
    one_of(activations_per, "activations_per", ("token", "tensor"))
    if static and activations_per == "token":
        raise ValueError('static goes with activations_per="tensor": tokens are not known beforehand')
    absmax, names = {}, list(names)

    def visit(name: str, inputs: np.ndarray) -> np.ndarray:
        absmax[name] = np.abs(inputs.reshape(-1, inputs.shape[-1])).max(axis=0)  # (in,)
        return model.weights[name]

    if tokens is not None:
        _walk(model, names, tokens, visit, "W8A8")
    scales = {}
    for name in names if alpha is not None else ():
        divider = _divider(name)
        if divider.endswith("norm") and divider not in scales:
            weights = [_float_matrix(model, member) for member in _divided(divider)]
            scales[divider] = smoothquant_scales(absmax[name], weights, alpha)
    found = {}
    for name in names:
        s = scales.get(_divider(name), np.float32(1))
        found[name] = W8A8Linear.from_float(
            model.weights[name] * s,
            per=per,
            activations_per=activations_per,
            activation_absmax=float((absmax[name] / s).max()) if static else None,
        )
    return _with_divided_inputs(model, found, scales)


@dataclass(frozen=True)
class _Visited:
    """Stands in for a matrix (out, in), and shows the inputs to a visitor when the layer is called."""

    name: str
    shape: tuple[int, int]
    visit: Callable[[str, np.ndarray], np.ndarray]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return apply_linear(self.visit(self.name, x), x)


def _walk(model: LanguageModel, names: Iterable[str], tokens: np.ndarray, visit: Callable, label: str) -> None:
    """Let the model read the tokens once, and visit(name, inputs) say with which matrix each layer goes on."""
    names = list(names)
    is_quick = model.num_parameters * tokens.size < MANY_PRODUCTS
    with tqdm(total=len(names), desc=label, disable=is_quick, leave=False) as bar:

        def counted(name: str, inputs: np.ndarray) -> np.ndarray:
            try:
                return visit(name, inputs)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            finally:
                bar.update()

        visited = {name: _Visited(name, model.weights[name].shape, counted) for name in names}
        model.replace(visited).hidden_states(tokens)


def _divider(name: str) -> str:
    """The name of what divides a layer's inputs: of "layers.3.q_proj" it is "layers.3.attention_norm"."""
    block, kind = name.rsplit(".", 1)
    return f"{block}.{next(divider for divider, members in DIVIDED.items() if kind in members)}"


def _divided(divider: str) -> list[str]:
    """The names of the layers whose inputs it divides."""
    block, kind = divider.rsplit(".", 1)
    return [f"{block}.{member}" for member in DIVIDED[kind]]


def _value_columns(config: LlamaConfig) -> np.ndarray:
    """Which row of v_proj each column of o_proj sees: (num_heads * head_size,)."""
    head, place = np.divmod(np.arange(config.num_heads * config.head_size), config.head_size)
    return head // (config.num_heads // config.num_kv_heads) * config.head_size + place


def _with_divided_inputs(model: LanguageModel, found: Mapping, scales: Mapping[str, np.ndarray]) -> LanguageModel:
    """Return the model with the layers `found`, which expect inputs / s, and with all that divides them by s.

    scales  divider -> s (in,). Layers behind it that are not among the found are multiplied by s
    """
    weights, norms = dict(found), {}
    for divider, s in scales.items():
        for name in _divided(divider):
            if name not in weights:
                weights[name] = _float_matrix(model, name) * s
        if divider in model.norms:
            norms[divider] = model.norms[divider] / s
        else:
            of_rows = np.empty(model.weights[divider].shape[0], np.float32)
            of_rows[_value_columns(model.config) if divider.endswith("v_proj") else slice(None)] = s
            weights[divider] = _rows_divided(weights.get(divider, model.weights[divider]), of_rows, divider)
    return model.replace(weights, norms)


def _rows_divided(weight, s: np.ndarray, name: str):
    """Divide the rows of a matrix by s (out,). Of a quantized one it is enough to divide the scales."""
    if isinstance(weight, np.ndarray):
        return weight / s[:, None]
    if isinstance(weight, PackedTensor) and weight.scale is not None and weight.scale.dtype == np.float32:
        return replace(weight, scale=np.broadcast_to(weight.scale, (len(s), weight.scale.shape[1])) / s[:, None])
    raise ValueError(f"layers must be float, or integers with scales, but {name} is {weight}")


def _float_matrix(model: LanguageModel, name: str) -> np.ndarray:
    if not isinstance(model.weights[name], np.ndarray):
        raise ValueError(f"layers must be float, but {name} is quantized already: {model.weights[name]}")
    return model.weights[name]

"""Take a model away: a folder in the format of Hugging Face, for transformers, vLLM and `load`.

    small = ql.lm.quantize_model(model, "gptq", num_bits=4, group_size=32, calibration=text)
    ql.lm.export_safetensors(small, "my-model")

Quantized layers are written as they are, codes and scales: see `compressed.py`. RoPE turns the first half of the
numbers of a query or key with the second there, so that rows that a GGUF file put in another order are put back.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..kernel_linear import KernelLinear
from ..packed import PackedTensor
from . import compressed
from .checkpoint import folder_names
from .model import LanguageModel, LlamaConfig
from .tokenizer import Tokenizer

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_FILES = {WEIGHTS, CONFIG, "tokenizer.json", "tokenizer_config.json", "generation_config.json"}


def export_safetensors(model: LanguageModel, folder, *, overwrite: bool = False) -> Path:
    """Write `model` to a folder in the format of Hugging Face and return its path.

    folder     its name. It must not be there yet
    overwrite  whether an earlier export in that folder may be replaced

    Float matrices are written in float32. Integers of 2 to 8 bits (from "rtn", "gptq" and "awq", with kernels or not)
    stay packed with their scales, in the layout of `compressed-tensors` ("pack-quantized"), which transformers reads if
    that library is installed, and vLLM for 4 and 8 bits. Embedding and head are written as the floats that they stand
    for, because vLLM has no packed ones: `export_gguf` keeps them small.

    Of compressed-tensors, transformers needs a version from 0.15 on, for other widths than 4 and 8 one from 0.18 on.
    Versions 0.18 to 0.20 load affine layers only with `quantization_config=CompressedTensorsConfig(dequantize=True)`,
    which in turn takes one width and group size for all layers.

    Nobody sees half a folder: it gets its name when it is complete. Raises FileExistsError; ValueError for matrices
    that the layout has no place for and that says what to do, and for a folder with other files in it.

    >>> export_safetensors(model, "tinytales-int4")                                                  # doctest: +SKIP
    """
    folder = _checked_folder(folder, overwrite)
    if not isinstance(model.tokenizer, Tokenizer):
        raise ValueError(f"model must have a tokenizer of the course's, as from `load`, not {model.tokenizer!r}")
    files = {CONFIG: _settings(model), **model.tokenizer.folder_files()}
    tensors, schemes = {}, {}
    for name, module in folder_names(model).items():
        _add_tensors(tensors, schemes, model, name, module)
    if schemes:
        linears = [folder_names(model)[name] for name in model.linears] + ["lm_head"]
        floats = [module for module in linears if module not in schemes]
        files[CONFIG]["quantization_config"] = compressed.quantization_config(schemes, floats)
    partial = folder.with_name(f".{folder.name}.part-{os.getpid()}")
    try:
        partial.mkdir()
        _write(partial, files, tensors)
        _give_name(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _checked_folder(folder, overwrite: bool) -> Path:
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"folder must be the name of a folder, not {folder!r}")
    folder = Path(folder).expanduser().absolute()
    if not folder.exists():
        return folder
    if not overwrite or not folder.is_dir():
        raise FileExistsError(f"{folder} is there already: choose another name, or say overwrite=True")
    if others := sorted(path.name for path in folder.iterdir() if path.name not in _FILES):
        raise ValueError(f"{folder} holds more than an export, such as {others[0]!r}: choose another name")
    return folder


def _settings(model: LanguageModel) -> dict:
    """Return the config.json of a model."""
    config, tokenizer = model.config, model.tokenizer
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.ffn_width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_size,
        "max_position_embeddings": config.max_context,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_base,
        "rope_scaling": _rope_scaling(config),
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": "head" not in model.weights,
        "torch_dtype": "float32",
        "bos_token_id": tokenizer.bos,
        "eos_token_id": tokenizer.eos,
    }
    return {key: value for key, value in settings.items() if value is not None}


def _rope_scaling(config: LlamaConfig) -> dict | None:
    if config.rope_factors is None:
        return None
    if config.rope_scaling is not None:
        return dict(config.rope_scaling)
    if len(set(config.rope_factors)) > 1:
        raise ValueError(
            "model must stretch its context in a way that config.json has a name for, but it was read from a GGUF file "
            "with a factor for each frequency: use export_gguf"
        )
    return {"rope_type": "linear", "factor": config.rope_factors[0]}


def _add_tensors(tensors: dict, schemes: dict, model: LanguageModel, name: str, module: str) -> None:
    """Add what is stored of a matrix or norm to `tensors` and, if it stays packed, its scheme to `schemes`."""
    if name in model.norms:
        tensors[f"{module}.weight"] = np.ascontiguousarray(model.norms[name], np.float32)
        return
    weight, order = _as_tensor(name, model.weights[name]), _row_order(model, name)
    if name not in model.linears and isinstance(weight, PackedTensor):
        weight = weight.dequantize()
    if isinstance(weight, np.ndarray):
        tensors[f"{module}.weight"] = np.ascontiguousarray(weight[order], np.float32)
        return
    weight = _reordered(weight, order)
    schemes[module] = compressed.scheme_of(weight)
    tensors |= {module + suffix: array for suffix, array in compressed.to_arrays(weight).items()}


def _as_tensor(name: str, weight) -> np.ndarray | PackedTensor:
    """Return a matrix as floats or as packed integers; ValueError says what to do with any other."""
    if isinstance(weight, KernelLinear) and not weight.quantizes_inputs:
        return weight.to_packed()
    if isinstance(weight, np.ndarray) or compressed.fits(weight):
        return weight
    if isinstance(weight, KernelLinear) or not hasattr(weight, "dequantize"):
        fix = 'quantize the weights alone, by "rtn", "gptq" or "awq" without int8_activations'
        raise ValueError(f"model must hold matrices, but {name} quantizes its inputs, too: {fix}, not {weight!r}")
    fix = 'export model.expanded(), its floats, or use export_gguf, which keeps the formats of "gguf"'
    raise ValueError(f"model must hold floats or integers of 2 to 8 bits, but {name} is {weight!r}: {fix}")


def _row_order(model: LanguageModel, name: str):
    """In which order the rows of a matrix are written: those of queries and keys by halves, not as neighbours."""
    if model.config.rope_layout == "half" or not name.endswith(("q_proj", "k_proj")):
        return slice(None)
    size, rows = model.config.head_size, np.arange(model.weights[name].shape[0])
    return rows.reshape(-1, size // 2, 2).swapaxes(1, 2).reshape(-1)  # (heads, which of both, pair)


def _reordered(tensor: PackedTensor, order) -> PackedTensor:
    def rows(array):
        return array if array is None or len(array) == 1 else array[order]

    return replace(tensor, data=tensor.data[order], scale=rows(tensor.scale), zero_point=rows(tensor.zero_point))


def _write(folder: Path, files: dict[str, dict], tensors: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)  # the library lets nobody else read it


def _give_name(partial: Path, folder: Path) -> None:
    """Rename what is complete; an earlier export goes first, and comes back if that fails."""
    if not folder.exists():
        partial.rename(folder)
        return
    earlier = folder.with_name(f"{partial.name}-earlier")
    folder.rename(earlier)
    try:
        partial.rename(folder)
    except OSError:
        earlier.rename(folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)

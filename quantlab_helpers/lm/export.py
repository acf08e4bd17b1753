"""Take a model away: a GGUF file for llama.cpp, Ollama and LM Studio.

    small = ql.lm.quantize_model(model, "gguf", type="Q4_1", layers="*")
    ql.lm.export_gguf(small, "my-model.gguf")

GGUF has block formats of its own. A matrix that is held in one of them is written as it is, byte for byte. Any other is
written in the type that you name, rounded once more where it was quantized by another method: what the file computes
is then measured by loading it.

The file: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. It turns neighbouring numbers of queries and keys
by RoPE, where Hugging Face's models turn the first half with the second, so the rows of their q_proj and k_proj are put
in another order.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..methods.gguf_tensor import BLOCK, GGUF_TYPES, GgufTensor, gguf_quantize
from ..validation import one_of
from .checkpoint import gguf_names
from .evaluate import MANY_PRODUCTS
from .model import LanguageModel

EXPORT_TYPES = ("F32", "F16", *GGUF_TYPES)


def export_gguf(model: LanguageModel, path, type: str = "F32", *, overwrite: bool = False) -> Path:
    """Write `model` to a GGUF file and return its path.

    path       the file, which ends in .gguf
    type       of every matrix that is not held in a GGUF type: "F32", "F16" or one of `GGUF_TYPES`. Rows that 32 does
               not divide stay F32. Norms are always F32
    overwrite  whether a file that is there already may be replaced

    Nobody sees half a file: it gets its name when it is complete. Raises FileExistsError; ValueError or TypeError for
    another ending or type, for layers that hold no matrix (those that quantize activations: "w8a8", "smoothquant",
    "llm_int8"), and for a tokenizer that GGUF has no name for.

    >>> export_gguf(model, "tinytales-q8_0.gguf", "Q8_0")                                            # doctest: +SKIP
    """
    path = _checked_path(path, overwrite)
    one_of(type, "type", EXPORT_TYPES)
    _check_matrices(model)
    from gguf import GGUFWriter

    partial = path.with_name(f"{path.name}.part")
    writer = GGUFWriter(partial, "llama")
    try:
        _write_settings(writer, model)
        names = gguf_names(model)
        is_quick = model.num_parameters < MANY_PRODUCTS / 1000
        for name in tqdm(names, desc=path.name, disable=is_quick, leave=False):
            _write_tensor(writer, model, name, names[name], type)
        if model.config.rope_factors is not None:
            writer.add_tensor("rope_freqs.weight", np.float32(model.config.rope_factors))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(partial, path)
    finally:
        writer.close()
        partial.unlink(missing_ok=True)
    return path


def _checked_path(path, overwrite: bool) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be the name of a file, not {path!r}")
    path = Path(path).expanduser()
    if path.suffix != ".gguf":
        raise ValueError(f"path must end in .gguf, not {path.name!r}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already: choose another name, or say overwrite=True")
    return path


def _check_matrices(model: LanguageModel) -> None:
    for name, weight in model.weights.items():
        if not isinstance(weight, np.ndarray) and not hasattr(weight, "dequantize"):
            raise ValueError(f"model must hold matrices, but {name} is a layer that GGUF has no place for: {weight!r}")


def _write_settings(writer, model: LanguageModel) -> None:
    config = model.config
    writer.add_name(model.name)
    writer.add_context_length(config.max_context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.ffn_width)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_size)
    writer.add_value_length(config.head_size)
    writer.add_rope_dimension_count(config.head_size)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.vocab_size)
    words = model.tokenizer.gguf_metadata(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words["pre"])
    writer.add_token_list(words["tokens"])
    writer.add_token_types(words["token_type"])
    writer.add_token_merges(words["merges"])
    writer.add_add_bos_token(words["add_bos_token"])
    if model.tokenizer.bos is not None:
        writer.add_bos_token_id(model.tokenizer.bos)
    if model.tokenizer.eos is not None:
        writer.add_eos_token_id(model.tokenizer.eos)
    if model.tokenizer.chat_template is not None:
        writer.add_chat_template(model.tokenizer.chat_template)


def _write_tensor(writer, model: LanguageModel, name: str, stored_name: str, type: str) -> None:
    from gguf import GGMLQuantizationType

    if name in model.norms:
        writer.add_tensor(stored_name, np.ascontiguousarray(model.norms[name], np.float32))
        return
    weight, order = model.weights[name], _row_order(model, name)
    if not isinstance(weight, GgufTensor):
        weight = weight if isinstance(weight, np.ndarray) else weight.dequantize()
        if type in ("F32", "F16") or weight.shape[1] % BLOCK:
            dtype = np.float16 if type == "F16" else np.float32
            writer.add_tensor(stored_name, np.ascontiguousarray(weight[order], dtype))
            return
        weight = gguf_quantize(weight, type)
    data = np.ascontiguousarray(weight.data[order])
    writer.add_tensor(stored_name, data, raw_dtype=GGMLQuantizationType[weight.type])


def _row_order(model: LanguageModel, name: str):
    """In which order the rows of a matrix are written: those of queries and keys as pairs of neighbours."""
    if model.config.rope_layout == "interleaved" or not name.endswith(("q_proj", "k_proj")):
        return slice(None)
    size, rows = model.config.head_size, np.arange(model.weights[name].shape[0])
    return rows.reshape(-1, 2, size // 2).swapaxes(1, 2).reshape(-1)  # (heads, pair, which of both)

"""Two tiny Llamas with golden logits, and how to write them as every kind of file that we load.

"tied"     the embedding is also the head; plain RoPE
"untied"   heads of 12 numbers (4 * 12 is not the width), and RoPE stretched as for Llama 3

The weights are multiples of 1/64 up to 127/64: float16 and BF16 hold them exactly.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "tiny_llama.npz"))
KINDS = ("tied", "untied")
_COMMON = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SETTINGS = {
    "tied": {**_COMMON, "tie_word_embeddings": True, "rope_theta": 10000.0},
    "untied": {
        **_COMMON,
        "tie_word_embeddings": False,
        "head_dim": 12,
        "rope_theta": 500.0,
        "rope_scaling": _LLAMA3,
    },
}
# A vocabulary of 64: special tokens, 60 letters from A to |, which stand for themselves, and one that is merged.
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = [*SPECIAL, "AB", *map(chr, range(ord("A"), ord("A") + 60))]
CODES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F64": np.float64, "I8": np.int8}


def weights(kind: str) -> dict[str, np.ndarray]:
    """The weights under the names of Hugging Face."""
    stored = {
        name.removeprefix(f"{kind}."): array for name, array in GOLDEN.items() if name.startswith(f"{kind}.model")
    }
    if f"{kind}.lm_head.weight" in GOLDEN:
        stored["lm_head.weight"] = GOLDEN[f"{kind}.lm_head.weight"]
    return {name: array.astype(np.float32) / 64 for name, array in stored.items()}


def write_folder(folder: Path, kind: str, code="F32", shards=1, extra=(), **settings) -> Path:
    """Write a folder as Hugging Face does; `extra` tensors and `settings` come in addition to the model's."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**SETTINGS[kind], **settings}))
    (folder / "tokenizer.json").write_text(tokenizer_json())
    tensors = list({**weights(kind), **dict(extra)}.items())
    if shards == 1:
        write_safetensors(folder / "model.safetensors", dict(tensors), code)
        return folder
    files = {f"model-{i + 1:05}-of-{shards:05}.safetensors": dict(tensors[i::shards]) for i in range(shards)}
    for file, some in files.items():
        write_safetensors(folder / file, some, code)
    weight_map = {name: file for file, some in files.items() for name in some}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], code: str) -> None:
    """Written by hand, because not every version of the library can write BF16."""
    header, data = {}, b""
    for name, array in tensors.items():
        stored = array.astype(CODES[code]).tobytes()
        header[name] = {"dtype": code, "shape": array.shape, "data_offsets": [len(data), len(data) + len(stored)]}
        data += stored
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def tokenizer_json() -> str:
    import tokenizers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({word: i for i, word in enumerate(WORDS)}, [("A", "B")]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer.to_str()


def write_gguf(path: Path, kind: str, type_name="F32", tensors=None, **fields) -> Path:
    """Write a GGUF file as llama.cpp's converter does. A field that is None is left out."""
    settings = SETTINGS[kind]
    width, heads, kv_heads = (settings[k] for k in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    head_size = settings.get("head_dim", width // heads)
    written = {
        "llama.block_count": 2,
        "llama.context_length": 128,
        "llama.embedding_length": width,
        "llama.feed_forward_length": 48,
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": kv_heads,
        "llama.attention.key_length": head_size,
        "llama.attention.value_length": head_size,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": head_size,
        "llama.rope.freq_base": settings["rope_theta"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": WORDS,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (64 - len(SPECIAL)),
        "tokenizer.ggml.merges": ["A B"],
        "tokenizer.ggml.eos_token_id": 0,
        **{key.replace("__", "."): value for key, value in fields.items()},
    }
    writer = gguf.GGUFWriter(path, written.pop("architecture", "llama"))
    adders = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in written.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None:
            adders[type(value)](key, value)
    quant_type = gguf.GGMLQuantizationType[type_name]
    for name, array in (gguf_tensors(kind) if tensors is None else tensors).items():
        if array.ndim == 1 or array.shape[-1] % gguf.GGML_QUANT_SIZES[quant_type][0]:
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, quant_type), raw_dtype=quant_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_tensors(kind: str) -> dict[str, np.ndarray]:
    """The weights under their GGUF names, and the rows of q and k in the order of that format."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    heads = {"q_proj": 4, "k_proj": 2}
    tensors = {}
    for name, array in weights(kind).items():
        for part, count in heads.items():
            if part in name:
                array = _permuted(array, count)
        tensors[names.get_name(name, try_suffixes=[".weight"])] = array
    if "rope_scaling" in SETTINGS[kind]:
        tensors["rope_freqs.weight"] = _rope_factors(SETTINGS[kind])
    return tensors


def _permuted(array: np.ndarray, heads: int) -> np.ndarray:
    """`LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py."""
    return array.reshape(heads, 2, len(array) // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)


def _rope_factors(settings: dict) -> np.ndarray:
    """The Llama 3 part of `LlamaModel.generate_extra_tensors` of llama.cpp's convert_hf_to_gguf.py."""
    rope, size = settings["rope_scaling"], settings["head_dim"]
    low, high, old = (rope[k] for k in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings"))
    factors = []
    for i in range(0, size, 2):
        wavelength = 2 * math.pi * settings["rope_theta"] ** (i / size)
        if wavelength < old / high:
            factors.append(1.0)
        elif wavelength > old / low:
            factors.append(rope["factor"])
        else:
            smooth = (old / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)

"""Loading a Llama: the course's models, a Hugging Face folder of safetensors, or a GGUF file.

    model = ql.lm.load("tinytales")            # ships with the course
    model = ql.lm.load("tinytales-small")      # half as wide
    model = ql.lm.load("smollm2-135m")         # downloads 93 MB, once
    model = ql.lm.load("~/models/llama")       # config.json, tokenizer.json and model.safetensors, or its shards
    model = ql.lm.load("model.gguf")

Whatever a file holds (BF16, float16, the quantized types of GGUF) becomes float32, one tensor at a time; but layers
that the library compressed-tensors packed stay packed (`compressed.py`). Names and layouts:
https://huggingface.co/docs/transformers/model_doc/llama and
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from ..gguf_file import GgufFile
from ..packed import PackedTensor
from ..validation import one_of, positive_number, whole_number
from . import compressed
from .download import SMOLLM2, fetch
from .model import LanguageModel, LlamaConfig
from .tokenizer import Tokenizer, read_json

# The models that ship with the course: folder -> name.
_SHIPPED = {"tinytales": "TinyTales", "tinytales-small": "TinyTales, small"}
_DATA = Path(__file__).parents[1] / "data"
_FLOATS = ("F32", "F16", "BF16")
_LARGEST, _LARGEST_HEAD = 2**31 - 1, 2**12  # sizes beyond them are damage
# The names of our matrices and norms in the two kinds of files, without the ".weight" at the end; {} is the layer.
_FOLDER_NAMES = {
    "embedding": "model.embed_tokens",
    "q_proj": "model.layers.{}.self_attn.q_proj",
    "k_proj": "model.layers.{}.self_attn.k_proj",
    "v_proj": "model.layers.{}.self_attn.v_proj",
    "o_proj": "model.layers.{}.self_attn.o_proj",
    "gate_proj": "model.layers.{}.mlp.gate_proj",
    "up_proj": "model.layers.{}.mlp.up_proj",
    "down_proj": "model.layers.{}.mlp.down_proj",
    "attention_norm": "model.layers.{}.input_layernorm",
    "ffn_norm": "model.layers.{}.post_attention_layernorm",
    "norm": "model.norm",
    "head": "lm_head",
}
_GGUF_NAMES = {
    "embedding": "token_embd",
    "q_proj": "blk.{}.attn_q",
    "k_proj": "blk.{}.attn_k",
    "v_proj": "blk.{}.attn_v",
    "o_proj": "blk.{}.attn_output",
    "gate_proj": "blk.{}.ffn_gate",
    "up_proj": "blk.{}.ffn_up",
    "down_proj": "blk.{}.ffn_down",
    "attention_norm": "blk.{}.attn_norm",
    "ffn_norm": "blk.{}.ffn_norm",
    "norm": "output_norm",
    "head": "output",
}


def load(source) -> LanguageModel:
    """Return a Llama with float32 weights, or with packed ones where a folder has them.

    source   "tinytales", "tinytales-small" (half as wide), "smollm2-135m" (see `fetch`), the path of a folder in the
             format of Hugging Face, or of a `.gguf` file

    What is called the float32 SmolLM2 here are the weights of its Q4_1 file, decoded: the file that pip can get. They
    were 4-bit already, in groups of 32, and the embedding 8-bit: see the data card, quantlab_helpers/data/README.md.

    Raises TypeError for what is not a path; FileNotFoundError; ConnectionError if SmolLM2 cannot be downloaded; and
    ValueError, which names the file, for one that is damaged, holds NaN or infinity, or is of a model that is no
    plain Llama (other architectures, biases, other quantized safetensors, other ways of stretching the context).
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be the name of a model or a path, not {source!r}")
    if source in _SHIPPED:
        return _load_folder(_DATA / source, _SHIPPED[source])
    if source == SMOLLM2:
        return _load_gguf(fetch(SMOLLM2), "SmolLM2-135M-Instruct (from Q4_1)")
    path = Path(source).expanduser().resolve()
    if path.is_dir():
        return _load_folder(path, path.name)
    if not path.exists():
        raise FileNotFoundError(f"there is no model {source}: looked for 'tinytales', {SMOLLM2!r}, and a file {path}")
    if path.suffix.lower() != ".gguf":
        raise ValueError(f"{path} must be a .gguf file, or a folder that holds config.json and safetensors")
    return _load_gguf(path, path.stem)


@contextmanager
def _about(path: Path):
    """Let what is wrong with a file be a ValueError that names the file."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"cannot load {path}: {error}") from error


# Folders of Hugging Face


def _load_folder(folder: Path, name: str) -> LanguageModel:
    for needed in ("config.json", "tokenizer.json"):
        if not (folder / needed).is_file():
            raise FileNotFoundError(f"there is no {needed} in {folder}, as there must be in a model's folder")
    readers = {}
    for file in _weight_files(folder):
        readers |= _safetensors(file)
    settings = read_json(folder / "config.json")
    with _about(folder / "config.json"):
        config = _folder_config(settings, most_layers=len(readers))
    has_head = not settings.get("tie_word_embeddings", False)
    if not has_head:
        readers.pop("lm_head.weight", None)  # some files repeat the embedding
    readers = {stored: read for stored, read in readers.items() if not stored.endswith("rotary_emb.inv_freq")}
    if quantization := settings.get("quantization_config"):
        with _about(folder / "config.json"):
            readers = _packed_readers(readers, quantization)
    tokenizer = Tokenizer.from_json(folder / "tokenizer.json")
    return _assembled(folder, name, config, tokenizer, _stored_names(config, _FOLDER_NAMES, has_head), readers)


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise FileNotFoundError(f"there must be {single.name} or {index.name} in {folder}: other formats are not read")
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(s, str) and s and Path(s).name == s for s in shards.values()):
        raise ValueError(f"{index} must have a weight_map from the names of tensors to files in the same folder")
    files = [folder / shard for shard in sorted(set(shards.values()))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise FileNotFoundError(f"there is no {missing[0]} in {folder}, which {index.name} names")
    return files


def _safetensors(path: Path) -> dict[str, Callable[[], np.ndarray]]:
    """Return, for each tensor in the file, its name and a function that reads only that one."""
    import ml_dtypes  # noqa: F401  (teaches NumPy the dtype "bfloat16", which safetensors then asks for)
    from safetensors import SafetensorError, safe_open

    def read(name):
        with safe_open(path, framework="np") as file:  # anew for each, so that no more of the file stays in memory
            kind, allowed = file.get_slice(name).get_dtype(), _kinds(name)
            if kind not in allowed:
                names = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
                raise ValueError(f"tensor {name!r} of {path} must be {names}, not {kind}")
            array = np.ascontiguousarray(file.get_tensor(name))
            return array.astype(np.float32, copy=False) if kind in _FLOATS else array

    try:
        with safe_open(path, framework="np") as file:
            return {name: partial(read, name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except SafetensorError as error:
        raise ValueError(f"{path} must be a whole safetensors file: {error}") from error


def _kinds(name: str) -> tuple[str, ...]:
    """The dtypes in which a tensor may be stored."""
    if name.endswith((compressed.PACKED, compressed.ZERO_POINT, compressed.SHAPE)):
        return ("I32", "I64")
    return _FLOATS


def _packed_readers(readers: dict[str, Callable], quantization: Mapping) -> dict[str, Callable]:
    """Put one reader, which gives a packed matrix, in the place of those of its several arrays."""
    method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
    one_of(method, "quant_method in quantization_config", ["compressed-tensors"])
    packed = compressed.PACKED
    modules = [stored.removesuffix(packed) for stored in readers if stored.endswith(packed)]
    readers = dict(readers)
    for module in modules:
        parts = {end: readers.pop(module + end) for end in compressed.ARRAYS if module + end in readers}
        readers[f"{module}.weight"] = partial(_read_packed, module, parts, compressed.scheme_for(module, quantization))
    return readers


def _read_packed(module: str, parts: dict[str, Callable], scheme: Mapping) -> PackedTensor:
    if missing := [end for end in compressed.ALWAYS if end not in parts]:
        raise ValueError(f"{module}{missing[0]} is missing, though there is {module}{compressed.PACKED}")
    try:
        return compressed.from_arrays({end: read() for end, read in parts.items()}, scheme)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{module}: {error}") from error


def _folder_config(settings: dict, most_layers: int) -> LlamaConfig:
    """Translate a config.json; what it leaves out has the value that transformers gives it."""
    one_of(settings.get("model_type"), "model_type", ["llama"])
    one_of(settings.get("hidden_act", "silu"), "hidden_act", ["silu"])
    for unsupported in ("attention_bias", "mlp_bias"):
        if settings.get(unsupported):
            raise ValueError(f"{unsupported} must be absent or false, not {settings[unsupported]!r}")
    size = partial(_size, settings)
    width, heads = size("hidden_size"), size("num_attention_heads")
    head_size = size("head_dim", width // heads, _LARGEST_HEAD)
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise ValueError(f"rope_scaling must be an object, not {rope!r}")
    rope_base = positive_number(rope.get("rope_theta", settings.get("rope_theta", 10000.0)), "rope_theta")
    return _checked(
        LlamaConfig(
            vocab_size=size("vocab_size"),
            width=width,
            ffn_width=size("intermediate_size"),
            num_layers=size("num_hidden_layers", largest=most_layers),
            num_heads=heads,
            num_kv_heads=size("num_key_value_heads", heads),
            head_size=head_size,
            max_context=size("max_position_embeddings", 2048),
            rope_base=rope_base,
            rope_factors=_rope_factors(rope, rope_base ** (-np.arange(0, head_size, 2) / head_size)),
            norm_eps=positive_number(settings.get("rms_norm_eps", 1e-6), "rms_norm_eps"),
            rope_scaling=rope or None,
        )
    )


def _rope_factors(rope: dict, frequencies: np.ndarray) -> tuple[float, ...] | None:
    """Return by how much each frequency is slowed down, so that a longer context fits in."""
    kind = one_of(rope.get("rope_type", rope.get("type", "default")), "rope_type", ["default", "linear", "llama3"])
    if kind == "default":
        return None
    factor = positive_number(rope.get("factor"), "factor in rope_scaling")
    if kind == "linear":
        return (factor,) * len(frequencies)
    # Llama 3 keeps what turns often within the original context, slows down what hardly turns, and blends in between.
    names = ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    low, high, original = (positive_number(rope.get(name), f"{name} in rope_scaling") for name in names)
    if low >= high:
        raise ValueError(f"low_freq_factor must be below high_freq_factor, not {low} and {high}")
    kept = np.clip((original * frequencies / (2 * np.pi) - low) / (high - low), 0, 1)
    return tuple(float(slower) for slower in 1 / (kept + (1 - kept) / factor))


# GGUF files


def _load_gguf(path: Path, name: str) -> LanguageModel:
    file = GgufFile(path)
    readers = {stored: partial(file.read, stored) for stored in file.tensors}
    with _about(path):
        one_of(file.metadata.get("general.architecture"), "general.architecture", ["llama"])
        if file.metadata.get("split.count", 1) != 1:
            raise ValueError("it is one of several files that a model was split into; merge them with llama-gguf-split")
        config = _gguf_config(file, readers.pop("rope_freqs.weight", None))
        tokenizer = Tokenizer.from_gguf(file.metadata)
    names = _stored_names(config, _GGUF_NAMES, has_head="output.weight" in readers)
    return _assembled(path, name, config, tokenizer, names, readers)


def _gguf_config(file: GgufFile, read_rope_factors: Callable[[], np.ndarray] | None) -> LlamaConfig:
    settings = {key.removeprefix("llama."): value for key, value in file.metadata.items() if key.startswith("llama.")}
    size = partial(_size, settings)
    width, heads = size("embedding_length"), size("attention.head_count")
    head_size = size("attention.key_length", width // heads, _LARGEST_HEAD)
    for key in ("attention.value_length", "rope.dimension_count"):
        if size(key, head_size) != head_size:
            raise ValueError(f"{key} must be {head_size}, the size of a head, not {size(key)}")
    rope_factors = read_rope_factors() if read_rope_factors else np.ones(head_size // 2)
    if one_of(settings.get("rope.scaling.type", "linear"), "rope.scaling.type", ["none", "linear"]) == "linear":
        factor = settings.get("rope.scaling.factor", settings.get("rope.scale_linear", 1.0))
        rope_factors = rope_factors * positive_number(factor, "rope.scaling.factor")
    embedding = file.tensors.get("token_embd.weight")
    return _checked(
        LlamaConfig(
            vocab_size=embedding.shape[0] if embedding and embedding.shape else 0,
            width=width,
            ffn_width=size("feed_forward_length"),
            num_layers=size("block_count", largest=len(file.tensors)),
            num_heads=heads,
            num_kv_heads=size("attention.head_count_kv", heads),
            head_size=head_size,
            max_context=size("context_length"),
            rope_base=positive_number(settings.get("rope.freq_base", 10000.0), "rope.freq_base"),
            rope_layout="interleaved",
            rope_factors=None if (rope_factors == 1).all() else tuple(map(float, rope_factors)),
            norm_eps=positive_number(settings.get("attention.layer_norm_rms_epsilon"), "layer_norm_rms_epsilon"),
        )
    )


def folder_names(model: LanguageModel) -> dict[str, str]:
    """Return the name in folders of Hugging Face of each matrix and norm of a model, without the ".weight"."""
    names = _stored_names(model.config, _FOLDER_NAMES, has_head="head" in model.weights)
    return {name: stored.removesuffix(".weight") for name, stored in names.items()}


def gguf_names(model: LanguageModel) -> dict[str, str]:
    """Return the name in GGUF files of each matrix and norm of a model."""
    return _stored_names(model.config, _GGUF_NAMES, has_head="head" in model.weights)


# What both have in common


def _size(settings: Mapping, key: str, default: int | None = None, largest: int = _LARGEST) -> int:
    value = settings.get(key)
    return whole_number(default if value is None else value, key, 1, largest)


def _checked(config: LlamaConfig) -> LlamaConfig:
    if config.num_heads % config.num_kv_heads:
        raise ValueError(
            f"the {config.num_heads} heads must be a multiple of the {config.num_kv_heads} key-value heads"
        )
    if config.head_size % 2:
        raise ValueError(f"the size of a head must be even, not {config.head_size}")
    factors = config.rope_factors
    if factors is not None and (len(factors) != config.head_size // 2 or not all(0 < f < np.inf for f in factors)):
        raise ValueError(f"the {config.head_size // 2} frequencies of RoPE need as many factors above 0, not {factors}")
    return config


def _stored_names(config: LlamaConfig, patterns: dict[str, str], has_head: bool) -> dict[str, str]:
    """Return our name of every matrix and norm -> its name in the file."""
    ours = ["embedding", *config.linear_shapes(), *config.norm_names()] + ["head"] * has_head
    stored = {}
    for name in ours:
        *layer, part = name.removeprefix("layers.").split(".")
        stored[name] = patterns[part].format(*layer) + ".weight"
    return stored


def _assembled(path: Path, name: str, config: LlamaConfig, tokenizer, stored_names, readers) -> LanguageModel:
    """Read every tensor of the model, refuse those that are not finite, and put the model together."""
    with _about(path):
        if missing := [stored for stored in stored_names.values() if stored not in readers]:
            raise ValueError(f"it must hold the tensor {missing[0]!r}, which is missing")
        if unknown := set(readers) - set(stored_names.values()):
            raise ValueError(f"it holds a tensor {min(unknown)!r}, for which a Llama has no place")
        if tokenizer.vocab_size > config.vocab_size:
            raise ValueError(f"its tokenizer has {tokenizer.vocab_size} tokens, but the model only {config.vocab_size}")
    arrays = {}
    for ours, stored in stored_names.items():
        with _about(path):
            arrays[ours] = readers[stored]()
        floats = arrays[ours].scale if isinstance(arrays[ours], PackedTensor) else arrays[ours]
        if not np.isfinite([floats.min(initial=0), floats.max(initial=0)]).all():
            raise ValueError(f"tensor {stored!r} of {path} must be finite, but it holds NaN or infinity")
    norms = {ours: arrays.pop(ours) for ours in config.norm_names()}
    with _about(path):
        return LanguageModel(config, arrays, norms, tokenizer, name)

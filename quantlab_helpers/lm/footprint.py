"""What a language model takes in memory and reads for each token, calculated from its shape alone.

    memory            = weights + KV cache + workspace
    tokens per second = bandwidth / bytes that are read for a token        at most: the "roofline"

To write one token, a model reads every weight once, and all keys and values of the text so far. It does only a few
operations with each number that it reads, so on most devices the reading sets the pace. With several users at a time
the weights are read once for all of them; each has keys and values of its own. Williams et al., "Roofline: an
insightful visual performance model", CACM 52 (2009); for language models: Pope et al., arXiv 2211.05102.

The weights are held as `quantize_model` holds them, to the byte. (Kernels of 4 bits fill rows up to a multiple of 64.)
Scales are float32 here; llama.cpp's are float16.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from ..validation import one_of, positive_number, whole_number
from .cache import CACHE_FORMATS
from .model import LanguageModel
from .quantize import quantize_model
from .shapes import ModelShape

# Tokens of a prompt that are worked on at a time, as in llama.cpp unless it is told otherwise (`n_ubatch`).
PROMPT_BLOCK = 512


@dataclass(frozen=True)
class WeightFormat:
    """How the weights of a matrix are held, and how good a model is whose linear layers are.

    num_bits          of a code
    group_size        weights that share a scale, along a row; None: a whole row
    scale_bytes       of each scale; 0 where there are none
    zero_point_bytes  of each zero point; 0 where there are none
    double_quant      NF4's scales are quantized, too: a byte for each, and a float32 for 256
    options           those of `quantize_model` that give it
    measured          its label in `methods_measured`

    >>> WEIGHT_FORMATS["AWQ"].matrix_bytes(64, 128)                       # codes, scales, zero points
    (4096, 512, 128)
    """

    num_bits: int
    group_size: int | None = None
    scale_bytes: int = 0
    zero_point_bytes: int = 0
    double_quant: bool = False
    options: Mapping = field(default_factory=dict)
    measured: str = ""

    @property
    def needs_calibration(self) -> bool:
        return self.options.get("method") in ("gptq", "awq")

    def matrix_bytes(self, rows: int, columns: int) -> tuple[int, int, int]:
        """Return the bytes of the codes, scales and zero points of a matrix (rows, columns).

        Rows are a multiple of `group_size` and of 8 weights, as in any Llama, so that no byte is filled in part.
        """
        groups = rows * columns // (self.group_size or columns)
        scales = groups + 4 * math.ceil(groups / 256) + 4 if self.double_quant else groups * self.scale_bytes
        return rows * columns * self.num_bits // 8, scales, groups * self.zero_point_bytes


_GROUPS = {"num_bits": 4, "group_size": 64}
_AFFINE = {**_GROUPS, "scale_bytes": 4, "zero_point_bytes": 1}
WEIGHT_FORMATS: dict[str, WeightFormat] = {
    "FP32": WeightFormat(32, measured="float32"),
    "FP16": WeightFormat(16, options={"method": "rtn", "format": "FP16"}, measured="FP16"),
    "BF16": WeightFormat(16, options={"method": "rtn", "format": "BF16"}, measured="BF16"),
    "INT8": WeightFormat(8, scale_bytes=4, options={"method": "rtn"}, measured="RTN, 8 bits"),
    "INT4": WeightFormat(
        **_AFFINE,
        options={"method": "rtn", "symmetric": False, "per": "group", **_GROUPS},
        measured="RTN, 4 bits in groups of 64",
    ),
    "NF4": WeightFormat(**_GROUPS, scale_bytes=4, options={"method": "nf4"}, measured="NF4"),
    "NF4 dq": WeightFormat(
        **_GROUPS,
        double_quant=True,
        options={"method": "nf4", "double_quant": True},
        measured="NF4, double quantization",
    ),
    "GPTQ": WeightFormat(**_AFFINE, options={"method": "gptq", **_GROUPS}, measured="GPTQ, 4 bits in groups of 64"),
    "AWQ": WeightFormat(**_AFFINE, options={"method": "awq", **_GROUPS}, measured="AWQ, 4 bits in groups of 64"),
}
EMBEDDING_FORMATS = ("FP32", "FP16", "BF16", "INT8", "INT4")  # which give single rows


@dataclass(frozen=True)
class Footprint:
    """The bytes of a model at work, item by item.

    codes, scales, zero_points  of the linear layers
    embedding                   with its scales
    head                        the output matrix, with its scales; 0 where it is the embedding
    norms                       float32
    kv_cache                    of all users, full
    workspace                   activations of a block of a prompt, and the logits of each of its tokens: what
                                llama.cpp sets aside (99.4 MiB for SmolLM2-135M, where this says 97.1)
    """

    codes: int
    scales: int
    zero_points: int
    embedding: int
    head: int
    norms: int
    kv_cache: int
    workspace: int

    @property
    def weights(self) -> int:
        """Bytes of all weights: what `LanguageModel.nbytes` counts."""
        return self.codes + self.scales + self.zero_points + self.embedding + self.head + self.norms

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.workspace

    @property
    def read(self) -> int:
        """Bytes that are read to write one token for each user: of an embedding that is no head, only some rows."""
        return self.weights - (self.embedding if self.head else 0) + self.kv_cache

    def tokens_per_second(self, bandwidth: float) -> float:
        """Return how many tokens each user gets at most, where `bandwidth` bytes can be read in a second."""
        return positive_number(bandwidth, "bandwidth") / self.read


def footprint(
    shape: ModelShape,
    format: str,
    *,
    embedding: str = "BF16",
    tokens: int = 1,
    users: int = 1,
    cache_format: str = "float16",
) -> Footprint:
    """Return what a model of a shape takes whose linear layers are held in a format of `WEIGHT_FORMATS`.

    embedding     the format of embedding and head: one of `EMBEDDING_FORMATS`
    tokens        that each user's KV cache holds, prompt and answer together
    users         texts that are read and written at the same time
    cache_format  one of `CACHE_FORMATS`

    Raises TypeError or ValueError for another format, and for numbers that are no whole numbers above 0.

    >>> from quantlab_helpers.lm import KNOWN_SHAPES
    >>> footprint(KNOWN_SHAPES["SmolLM2-135M"], "AWQ", tokens=2048).kv_cache
    47185920
    """
    one_of(format, "format", WEIGHT_FORMATS)
    one_of(embedding, "embedding", EMBEDDING_FORMATS)
    config = shape.config
    codes, scales, zero_points = _linear_bytes(shape, format)
    matrix = sum(WEIGHT_FORMATS[embedding].matrix_bytes(config.vocab_size, config.width))
    return Footprint(
        codes=codes,
        scales=scales,
        zero_points=zero_points,
        embedding=matrix,
        head=0 if shape.tied else matrix,
        norms=4 * len(config.norm_names()) * config.width,
        kv_cache=kv_cache_bytes(config, tokens, users, cache_format),
        workspace=4 * PROMPT_BLOCK * (config.width + max(config.vocab_size, 2 * config.ffn_width)),
    )


@cache
def _linear_bytes(shape: ModelShape, format: str) -> tuple[int, int, int]:
    """Bytes of the codes, scales and zero points of all linear layers."""
    parts = [WEIGHT_FORMATS[format].matrix_bytes(*size) for size in shape.config.linear_shapes().values()]
    return tuple(map(sum, zip(*parts, strict=True)))


def kv_cache_bytes(config, tokens: int, users: int = 1, cache_format: str = "float16") -> int:
    """Return the bytes of the keys and values of `users` texts of `tokens` tokens: those of `KVCache`."""
    one_of(cache_format, "cache_format", CACHE_FORMATS)
    size = config.head_size
    bytes_of_one = {"float32": 4 * size, "float16": 2 * size, "int8": size + 4}[cache_format]  # int8: and its scale
    vectors = 2 * config.num_layers * config.num_kv_heads
    vectors *= whole_number(tokens, "tokens", 1, 2**31 - 1) * whole_number(users, "users", 1, 2**31 - 1)
    return vectors * bytes_of_one


def hold_in(
    model: LanguageModel, format: str, *, embedding: str = "BF16", calibration=None, kernel: str | None = None
) -> LanguageModel:
    """Return a float model held as `footprint` counts it: linear layers in one format, embedding and head in another.

    calibration  for "GPTQ" and "AWQ"; see `quantize_model`, also for `kernel`

    >>> small = hold_in(model, "INT4", embedding="INT8")                                             # doctest: +SKIP
    """
    for layers, name, names in ((None, format, WEIGHT_FORMATS), (["embedding"], embedding, EMBEDDING_FORMATS)):
        held = WEIGHT_FORMATS[one_of(name, "embedding" if layers else "format", names)]
        if held.num_bits == 32:
            continue
        if layers and "head" in model.weights:
            layers = ["embedding", "head"]
        options = {**held.options, "calibration": calibration if held.needs_calibration else None}
        model = quantize_model(model, layers=layers, kernel=kernel if held.num_bits <= 8 else None, **options)
    return model

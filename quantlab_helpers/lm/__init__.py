"""Small language models: load one, quantize its layers, and measure what that does to it.

model = ql.lm.load("tinytales")
small = ql.lm.quantize_model(model, num_bits=4, per="group", group_size=32)
ql.lm.perplexity(small, ql.lm.joined(ql.lm.heldout_tales()))
"""

from .cache import CACHE_FORMATS, KVCache
from .checkpoint import load
from .deployment import Candidate, candidates, recommend
from .devices import DEVICES, Device, resident_growth, this_computer
from .download import fetch, is_available
from .evaluate import (
    Divergence,
    Measurement,
    Perplexity,
    Recall,
    Yardstick,
    kl_divergence,
    perplexity,
    recall_accuracy,
)
from .export import export_gguf
from .folder import export_safetensors
from .footprint import WEIGHT_FORMATS, Footprint, footprint, hold_in, kv_cache_bytes
from .measured import methods_measured, smollm2_measured
from .model import LINEARS, LanguageModel, LlamaConfig
from .quantize import matching, quantize_model, sensitivity
from .shapes import KNOWN_SHAPES, ModelShape, random_model
from .stand_in import smollm2_or_stand_in
from .texts import Question, Tale, calibration_tales, calibration_text, evaluation_text, heldout_tales, joined
from .tokenizer import Tokenizer

__all__ = [
    "CACHE_FORMATS",
    "DEVICES",
    "KNOWN_SHAPES",
    "LINEARS",
    "WEIGHT_FORMATS",
    "Candidate",
    "Device",
    "Divergence",
    "Footprint",
    "KVCache",
    "LanguageModel",
    "LlamaConfig",
    "Measurement",
    "ModelShape",
    "Perplexity",
    "Question",
    "Recall",
    "Tale",
    "Tokenizer",
    "Yardstick",
    "calibration_tales",
    "calibration_text",
    "candidates",
    "evaluation_text",
    "export_gguf",
    "export_safetensors",
    "fetch",
    "footprint",
    "heldout_tales",
    "hold_in",
    "is_available",
    "joined",
    "kl_divergence",
    "kv_cache_bytes",
    "load",
    "matching",
    "methods_measured",
    "perplexity",
    "quantize_model",
    "random_model",
    "recall_accuracy",
    "recommend",
    "resident_growth",
    "sensitivity",
    "smollm2_measured",
    "smollm2_or_stand_in",
    "this_computer",
]

"""What tools measured with the language models and what takes minutes, for those who have no time or no SmolLM2."""

from __future__ import annotations

import json

from ..validation import one_of
from .evaluate import Yardstick
from .model import LanguageModel
from .texts import DATA


def measured_row(yardstick: Yardstick, quantized: LanguageModel) -> dict:
    """Return what the tools store of a quantized model: plain numbers, with their standard errors."""
    found, linears = yardstick.measure(quantized), quantized.linears.values()
    return {
        "perplexity": float(found.perplexity),
        "perplexity_standard_error": found.perplexity.standard_error,
        "divergence": float(found.divergence),
        "divergence_standard_error": found.divergence.standard_error,
        "top1_agreement": found.divergence.top1_agreement,
        "bits_per_linear_weight": 8 * sum(w.nbytes for w in linears) / sum(w.shape[0] * w.shape[1] for w in linears),
    }


def smollm2_measured() -> dict:
    """Return what tools/measure_smollm2.py measured of rounding to nearest.

    That is the baseline's numbers, and under "rows" those of each variant by its label.

    A row holds the `options` of `quantize_model`, `perplexity`, `divergence` (both with `_standard_error`),
    `top1_agreement`, `nbytes` of the whole model and `bits_per_linear_weight`. "answers" are what some variants said,
    always their likeliest word, to "question".
    """
    return json.loads((DATA / "smollm2_measured.json").read_text(encoding="utf-8"))


def methods_measured(model: str = "smollm2-135m") -> dict[str, dict]:
    """Return what tools/measure_methods.py measured of every method: a row for each variant by its label.

    model  "smollm2-135m" or "tinytales"

    "float32" is the baseline. A row holds `perplexity` and `divergence`, both with `_standard_error`, `top1_agreement`,
    `bits_per_linear_weight`, `seconds` that quantizing took on the author's computer, and the `options`.
    """
    stored = json.loads((DATA / "methods_measured.json").read_text(encoding="utf-8"))
    found = stored[one_of(model, "model", stored)]
    exact = {"divergence": 0.0, "divergence_standard_error": 0.0, "top1_agreement": 1.0}
    perplexity = {name: found[name] for name in ("perplexity", "perplexity_standard_error")}
    baseline = {"options": {}, **perplexity, **exact, "bits_per_linear_weight": 32.0, "seconds": 0.0}
    return {"float32": baseline, **found["rows"]}

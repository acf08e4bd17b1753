"""What tools/measure_smollm2.py measured of SmolLM2-135M, which takes minutes, for those who do not have the model."""

from __future__ import annotations

import json

from .texts import DATA


def smollm2_measured() -> dict:
    """Return the stored measurements: the baseline's, and under "rows" those of each variant by its label.

    A row holds the `options` of `quantize_model`, `perplexity`, `divergence` (both with `_standard_error`),
    `top1_agreement`, `nbytes` of the whole model and `bits_per_linear_weight`. "answers" are what some variants said,
    always their likeliest word, to "question".
    """
    return json.loads((DATA / "smollm2_measured.json").read_text(encoding="utf-8"))

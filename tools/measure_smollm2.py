"""Write quantlab_helpers/data/smollm2_measured.json: what rounding to nearest costs SmolLM2-135M, for notebook 06.

    python tools/measure_smollm2.py              # downloads the model (93 MB) unless it is there; some 5 minutes

The same functions run live in notebook 06 for a learner who has the model. A test measures two of the rows again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import quantlab_helpers as ql
from quantlab_helpers.lm.measured import measured_row

OUT = Path(__file__).resolve().parents[1] / "quantlab_helpers" / "data" / "smollm2_measured.json"
GROUPS = {"per": "group", "group_size": 64}
QUESTION = "What is the longest river in South America, and where does it flow?"
CHAT = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
ANSWER_TOKENS = 40


def variants() -> dict[str, dict]:
    """Every variant that is measured: a label and the options of `quantize_model`."""
    affine = {"symmetric": False}
    found = {f"{bits} bits, one scale per row": {"num_bits": bits, **affine} for bits in (8, 6, 5, 4, 3, 2)}
    found |= {f"{bits} bits, groups of 64": {"num_bits": bits, **affine, **GROUPS} for bits in (8, 6, 5, 4, 3, 2)}
    found |= {f"{bits} bits, one scale": {"num_bits": bits, **affine, "per": "tensor"} for bits in (8, 6, 5, 4, 3, 2)}
    found |= {"4 bits, one scale per row, symmetric": {"num_bits": 4}}
    found |= {name: {"format": name} for name in ("FP16", "BF16", "FP8_E4M3", "MXFP4")}
    return found | {"NF4, groups of 64": {"format": "NF4", **GROUPS}}


ANSWERED = (
    *("8 bits, one scale per row", "4 bits, groups of 64", "4 bits, one scale per row, symmetric"),
    *("3 bits, one scale per row", "2 bits, groups of 64"),
)


def measure(model, yardstick, options: dict) -> dict:
    """Return one row of the table: the options, what was measured and its standard errors."""
    quantized = ql.lm.quantize_model(model, **options)
    return {"options": options, **measured_row(yardstick, quantized), "nbytes": quantized.nbytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    model = ql.lm.load("smollm2-135m")
    yardstick = ql.lm.Yardstick(model, ql.lm.evaluation_text())
    baseline = ql.lm.perplexity(model, ql.lm.evaluation_text())
    rows, answers = {}, {"float32": model.generate(CHAT, ANSWER_TOKENS)}
    for label, options in variants().items():
        rows[label] = measure(model, yardstick, options)
        print(
            f"{label:40} perplexity {rows[label]['perplexity']:14.2f}  KL {rows[label]['divergence']:.4f}", flush=True
        )
    for label in ANSWERED:
        answers[label] = ql.lm.quantize_model(model, **variants()[label]).generate(CHAT, ANSWER_TOKENS)
        print(f"{label:40} {answers[label]!r}", flush=True)
    stored = {
        "model": model.name,
        "text": "quantlab_helpers/data/evaluation.txt",
        "num_tokens": baseline.num_tokens,
        "perplexity": baseline,
        "perplexity_standard_error": baseline.standard_error,
        "nbytes": model.nbytes,
        "rows": rows,
        "question": QUESTION,
        "answers": answers,
    }
    out.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Write quantlab_helpers/data/methods_measured.json: every method of the course on both of its models.

    python tools/measure_methods.py              # downloads SmolLM2 (93 MB) unless it is there
    python tools/measure_methods.py --again      # also what is stored already: some 25 minutes

Each variant of a model is measured on the same held-out text against the same float32 baseline. "seconds" is how long
it took to quantize on the computer that ran this: compare the methods with each other, no more. A test measures some of
the rows again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import quantlab_helpers as ql
from quantlab_helpers.lm.measured import measured_row

OUT = Path(__file__).resolve().parents[1] / "quantlab_helpers" / "data" / "methods_measured.json"
WINDOW, WINDOWS = 512, 4  # of calibration
GROUP_SIZE = {"tinytales": 32, "smollm2-135m": 64}


def texts(name: str, model) -> tuple[str, dict[str, np.ndarray]]:
    """Return what a model is measured on, and tokens (windows, time) to calibrate with, by name."""
    tales, prose = ql.lm.joined(ql.lm.calibration_tales()), ql.lm.calibration_text()
    is_tinytales = name == "tinytales"
    usual, other = (tales, prose) if is_tinytales else (prose, tales)
    calibration = {"usual": windows(model, usual), "other": windows(model, other)}
    calibration |= {"little": calibration["usual"][:1], "short": calibration["usual"].reshape(-1, WINDOW // 4)}
    return ql.lm.joined(ql.lm.heldout_tales()) if is_tinytales else ql.lm.evaluation_text(), calibration


def windows(model, text: str) -> np.ndarray:
    return np.array(model.encode(text)[: WINDOW * WINDOWS]).reshape(WINDOWS, WINDOW)


def variants(name: str, model) -> dict[str, dict]:
    """Every variant: a label, and the options of `quantize_model`. "calibration" is a name of `texts`."""
    size = GROUP_SIZE[name]
    found = {}
    for bits, group_size in ((4, None), (4, size), (3, size), (4, 64)):  # 64 on both models
        note = f"{bits} bits" + (f" in groups of {group_size}" if group_size else "")
        width = {"num_bits": bits, "group_size": group_size}
        fitted = {**width, "calibration": "usual"}
        found |= {
            f"RTN, {note}": {"method": "rtn", "symmetric": False, "per": "group" if group_size else "channel", **width},
            f"GPTQ, {note}": {"method": "gptq", **fitted},
            f"GPTQ act-order, {note}": {"method": "gptq", "act_order": True, **fitted},
            f"AWQ, {note}": {"method": "awq", **fitted},
            f"AWQ clip, {note}": {"method": "awq", "clip": True, **fitted},
        }
    other = "prose" if name == "tinytales" else "tales"
    per_tensor = {"per": "tensor", "activations_per": "tensor"}
    but_down = [name for name in model.linears if not name.endswith("down_proj")]
    return found | {
        "GPTQ, 4 bits, calibrated on 512 tokens": {"method": "gptq", "num_bits": 4, "calibration": "little"},
        "GPTQ, 4 bits, calibrated in windows of 128": {"method": "gptq", "num_bits": 4, "calibration": "short"},
        f"GPTQ, 4 bits, calibrated on {other}": {"method": "gptq", "num_bits": 4, "calibration": "other"},
        "FP16": {"method": "rtn", "format": "FP16"},
        "BF16": {"method": "rtn", "format": "BF16"},
        "NF4": {"method": "nf4"},
        "NF4, double quantization": {"method": "nf4", "double_quant": True},
        "RTN, 8 bits": {"method": "rtn"},
        "LLM.int8()": {"method": "llm_int8"},
        "LLM.int8(), no outliers": {"method": "llm_int8", "threshold": 0},
        "W8A8 per tensor": {"method": "w8a8", **per_tensor},
        "W8A8 per token": {"method": "w8a8"},
        "W8A8 per token, down_proj in float": {"method": "w8a8", "layers": but_down},
        "SmoothQuant per tensor": {"method": "smoothquant", "calibration": "usual", **per_tensor},
        "SmoothQuant": {"method": "smoothquant", "calibration": "usual"},
    }


def measure(model, yardstick, calibration: dict, options: dict) -> dict:
    """Return one row of the table: the options, what was measured and its standard errors."""
    used = options | ({"calibration": calibration[options["calibration"]]} if "calibration" in options else {})
    start = time.perf_counter()
    quantized = ql.lm.quantize_model(model, **used)
    seconds = time.perf_counter() - start
    return {"options": options, **measured_row(yardstick, quantized), "seconds": round(seconds, 2)}


def measure_model(name: str, stored: dict) -> dict:
    """Return the baseline's numbers and a row for each variant, that of `stored` where it has one."""
    model = ql.lm.load(name)
    text, calibration = texts(name, model)
    yardstick = ql.lm.Yardstick(model, text)
    baseline = yardstick.measure(model).perplexity
    rows = {}
    for label, options in variants(name, model).items():
        if stored.get(label, {}).get("options") == options:
            rows[label] = stored[label]
            continue
        rows[label] = row = measure(model, yardstick, calibration, options)
        print(f"{label:45} perplexity {row['perplexity']:8.2f}  KL {row['divergence']:.4f}", flush=True)
    return {
        "num_tokens": baseline.num_tokens,
        "perplexity": baseline,
        "perplexity_standard_error": baseline.standard_error,
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--again", action="store_true", help="measure what is stored already, too")
    arguments = parser.parse_args()
    stored = {} if arguments.again or not arguments.out.exists() else json.loads(arguments.out.read_text("utf-8"))
    measured = {name: measure_model(name, stored.get(name, {}).get("rows", {})) for name in GROUP_SIZE}
    arguments.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

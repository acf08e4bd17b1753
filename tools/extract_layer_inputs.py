"""Write quantlab_helpers/data/layer_inputs.safetensors: enough of what one layer of SmolLM2 sees to calibrate with.

    python tools/extract_layer_inputs.py             # downloads the model (93 MB) unless it is there

The layer is the `v_proj` of `ql.sample_tensors()`. Its inputs are those of the calibration text and, held out, of the
evaluation text, each read in windows of 256 tokens, in float16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import quantlab_helpers as ql

OUT = Path(__file__).resolve().parents[1] / "quantlab_helpers" / "data" / "layer_inputs.safetensors"
LAYER = "layers.12.v_proj"
WINDOW = 256
CALIBRATION_WINDOWS, HELDOUT_WINDOWS = 4, 1


class Recorder:
    """Stands in for a matrix, computes what it computes, and keeps the inputs."""

    def __init__(self, weight: np.ndarray):
        self.weight, self.shape, self.inputs = weight, weight.shape, None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.inputs = x.reshape(-1, x.shape[-1]).copy()
        return x @ self.weight.T


def inputs_of(model: ql.lm.LanguageModel, text: str, windows: int) -> np.ndarray:
    """Return what LAYER sees of so many windows of a text: float16 (windows * WINDOW, in)."""
    tokens = np.array(model.encode(text)[: windows * WINDOW]).reshape(windows, WINDOW)
    recorder = Recorder(model.weights[LAYER])
    model.replace({LAYER: recorder}).hidden_states(tokens)
    return recorder.inputs.astype(np.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    model = ql.lm.load("smollm2-135m")
    sample = ql.sample_tensors()["v_proj"].weight
    assert np.array_equal(sample, model.weights[LAYER]), "the sample is of another layer"
    arrays = {
        "v_proj.calibration": inputs_of(model, ql.lm.calibration_text(), CALIBRATION_WINDOWS),
        "v_proj.heldout": inputs_of(model, ql.lm.evaluation_text(), HELDOUT_WINDOWS),
    }
    save_file(arrays, out, metadata={"source": "SmolLM2-135M-Instruct (Apache-2.0): see README.md"})
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

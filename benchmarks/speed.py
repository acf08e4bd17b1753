"""How fast are the kernels, and how fast do they make a model write? Everything side by side, in one run.

    python benchmarks/speed.py

First the memory: how fast it can be read. Then a product of a 16,384 x 4,096 matrix with a vector by each kernel, as a
share of that and as a multiple of NumPy's float32 `W @ x`. Then SmolLM2-135M, token by token after a short context, in
float32 (NumPy), 8 bits and 4 bits, and, where llama-cpp-python is installed, by llama.cpp from the same weights in the
block formats of the same width. All take turns, and medians are shown.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import quantlab_helpers as ql
from quantlab_helpers import kernels, timing
from quantlab_helpers.packed import pack_integers

ROWS, COLUMNS = 16_384, 4_096
TURNS = 15
CONTEXT, TOKENS = 64, 32
GROUPS = {"num_bits": 4, "per": "group", "group_size": 64}
# llama.cpp's numbers of the formats that it is to convert SmolLM2's file to (enum llama_ftype).
LLAMA_FORMATS = {"F32": 0, "Q8_0": 7, "Q4_1": 3}
RIVALS = {"float32, NumPy": "F32", "int8": "Q8_0", "int8 x int8": "Q8_0", "int4": "Q4_1", "int4 x int8": "Q4_1"}


def main() -> None:
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""  # Windows does not say
    print(f"{os.cpu_count()} cores{load}; medians of {TURNS} turns")
    print_products(*products())
    print_decoding()


# Products


def products() -> tuple[dict[str, Callable], dict[str, int]]:
    """What to measure, and how many bytes each reads."""
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32), rng.normal(size=COLUMNS).astype(np.float32)
    eight = pack_integers(ql.quantize(weight, 8, per="channel"))
    codes, scale = eight.data.view(np.int8), np.ascontiguousarray(eight.scale[:, 0])
    four = kernels.Int4Blocks.from_packed(pack_integers(ql.quantize(weight, **GROUPS)))
    four_bytes = sum(array.nbytes for array in four.arrays)
    x_codes, x_scale = kernels.quantize_vector(x)
    memory, read = np.ones(1 << 24, np.int64), kernels.compiled_loops().total
    calls = {
        "reading 128 MiB": lambda: read(memory),
        "float32, NumPy": lambda: weight @ x,
        "float32": lambda: kernels.float32_matvec(weight, x),
        "int8": lambda: kernels.int8_matvec(codes, scale, x),
        "int8 x int8": lambda: kernels.int8_int8_matvec(codes, scale, x_codes, x_scale),
        "int4": lambda: kernels.int4_matvec(four, x),
        "int4 x int8": lambda: kernels.int4_int8_matvec(four, x_codes, x_scale),
    }
    nbytes = [memory.nbytes, weight.nbytes, weight.nbytes, eight.nbytes, eight.nbytes, four_bytes, four_bytes]
    return calls, dict(zip(calls, nbytes, strict=True))


def print_products(calls: dict[str, Callable], nbytes: dict[str, int]) -> None:
    seconds = timing.side_by_side(calls, TURNS)
    speed = {name: nbytes[name] / seconds[name] / 1e9 for name in seconds}
    for name in seconds:
        share, ratio = speed[name] / speed["reading 128 MiB"], seconds["float32, NumPy"] / seconds[name]
        compared = "" if name.startswith("reading") else f"{share:5.0%} of that {ratio:6.2f} times NumPy's float32"
        print(f"{name:16} {seconds[name] * 1e3:7.2f} ms {speed[name]:6.1f} GB/s {compared}")


# Decoding


def print_decoding() -> None:
    model = ql.lm.load("smollm2-135m")
    tokens = model.encode(ql.lm.evaluation_text())[: CONTEXT + TOKENS]
    ours = {"float32, NumPy": model}
    for name, options in (("int8", {}), ("int4", GROUPS)):
        for suffix, int8_activations in (("", False), (" x int8", True)):
            ours[name + suffix] = ql.lm.quantize_model(
                model, layers="*", kernel="numba", int8_activations=int8_activations, **options
            )
    contenders = {name: decoder(each, tokens) for name, each in ours.items()}
    with tempfile.TemporaryDirectory() as folder:
        if importlib.util.find_spec("llama_cpp"):
            contenders |= {f"llama.cpp {name}": llama_decoder(Path(folder), name, tokens) for name in LLAMA_FORMATS}
        else:
            print("llama-cpp-python is not installed: no comparison with llama.cpp")
        speed = timing.medians(contenders, TURNS)
    for name in speed:
        line = f"{name:16} {speed[name]:7.1f} tokens/s {speed[name] / speed['float32, NumPy']:6.2f} times NumPy's"
        if (rival := f"llama.cpp {RIVALS.get(name)}") in speed:
            line += f" {speed[name] / speed[rival]:6.2f} times {rival}'s"
        print(line)


def decoder(model, tokens: list[int]) -> Callable[[], float]:
    """Return what measures tokens per second, with the logits of each."""
    cache = ql.lm.KVCache(model.config, len(tokens))
    model.hidden_states(tokens[:CONTEXT], cache)
    model.logits(tokens[:1], cache)  # compile

    def measure() -> float:
        cache.length = CONTEXT
        model.logits(tokens[CONTEXT : CONTEXT + 1], cache)  # wake the threads up
        start = time.perf_counter()
        for token in tokens[CONTEXT + 1 :]:
            model.logits([token], cache)
        return (TOKENS - 1) / (time.perf_counter() - start)

    return measure


def llama_decoder(folder: Path, name: str, tokens: list[int]) -> Callable[[], float]:
    """The same by llama.cpp, from SmolLM2's file converted to a format."""
    import llama_cpp

    path = folder / f"{name}.gguf"
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.allow_requantize = LLAMA_FORMATS[name], True
    source = os.fspath(ql.lm.fetch("smollm2-135m"))
    if llama_cpp.llama_model_quantize(source.encode(), os.fspath(path).encode(), options):
        raise OSError(f"llama.cpp could not convert {source} to {name}")
    threads = {"n_threads": os.cpu_count(), "n_threads_batch": os.cpu_count()}
    llama = llama_cpp.Llama(os.fspath(path), n_ctx=256, verbose=False, **threads)

    def measure() -> float:
        llama.reset()
        llama.eval(tokens[: CONTEXT + 1])
        start = time.perf_counter()
        for token in tokens[CONTEXT + 1 :]:
            llama.eval([token])
        return (TOKENS - 1) / (time.perf_counter() - start)

    return measure


if __name__ == "__main__":
    main()

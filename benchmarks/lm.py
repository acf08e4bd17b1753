"""How fast is the NumPy Llama? SmolLM2-135M: loading, reading 512 tokens, writing token by token.

    python benchmarks/lm.py

Prints tokens per second, the share of the machine's own float32 matrix product that reading reaches, and, where
llama-cpp-python is installed, llama.cpp's tokens per second on the same file (whose weights it keeps in 4 bits, while
ours are float32). Everything is measured in turns in one run, and medians are shown.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time

import numpy as np

import quantlab_helpers as ql

TURNS = 7
PREFILL = 512
DECODE = 32


def main() -> None:
    start = time.perf_counter()
    model = ql.lm.load("smollm2-135m")
    print(f"{model}\nloaded in {time.perf_counter() - start:.1f} s; {os.cpu_count()} cores")
    tokens = model.encode(ql.lm.evaluation_text())[: PREFILL + DECODE]
    rivals = {"NumPy": (lambda: numpy_prefill(model, tokens), lambda: numpy_decode(model, tokens))}
    if importlib.util.find_spec("llama_cpp"):
        llama = load_llama_cpp()
        rivals["llama.cpp"] = (lambda: llama_prefill(llama, tokens), lambda: llama_decode(llama, tokens))
    else:
        print("llama-cpp-python is not installed: no comparison with llama.cpp")

    gflops, seconds = [], {(name, kind): [] for name in rivals for kind in ("prefill", "decode")}
    for _ in range(TURNS):
        gflops.append(sgemm_gflops())
        for name, (prefill, decode) in rivals.items():
            seconds[name, "prefill"].append(prefill())
            seconds[name, "decode"].append(decode())
    speed = {
        (name, kind): (PREFILL if kind == "prefill" else DECODE) / statistics.median(found)
        for (name, kind), found in seconds.items()
    }
    for (name, kind), tokens_per_second in speed.items():
        ratio = tokens_per_second / speed["NumPy", kind]
        print(f"{name:10} {kind:8} {tokens_per_second:8.1f} tokens/s {ratio:6.2f} times NumPy's")
    # Two operations for each weight of a matrix; the embedding counts once, as the head.
    operations = 2 * sum(int(np.prod(weight.shape)) for weight in model.weights.values())
    reached, sgemm = operations * speed["NumPy", "prefill"] / 1e9, statistics.median(gflops)
    print(f"prefill: {reached:.0f} of {sgemm:.0f} GFLOP/s of a matrix product of 1536 x 1536, {reached / sgemm:.0%}")


def sgemm_gflops(size: int = 1536, repetitions: int = 5) -> float:
    a = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    start = time.perf_counter()
    for _ in range(repetitions):
        a @ a
    return repetitions * 2 * size**3 / (time.perf_counter() - start) / 1e9


def numpy_prefill(model, tokens) -> float:
    """Seconds to read PREFILL tokens, with the logits of all of them."""
    start = time.perf_counter()
    model.logits(tokens[:PREFILL])
    return time.perf_counter() - start


def numpy_decode(model, tokens) -> float:
    """Seconds to read DECODE more tokens one by one, with the logits of each."""
    cache = ql.lm.KVCache(model.config, PREFILL + DECODE)
    model.hidden_states(tokens[:PREFILL], cache)
    start = time.perf_counter()
    for token in tokens[PREFILL:]:
        model.logits([token], cache)
    return time.perf_counter() - start


def load_llama_cpp():
    from llama_cpp import Llama

    path, threads = str(ql.lm.fetch("smollm2-135m")), os.cpu_count()
    sizes = {"n_ctx": PREFILL + DECODE, "n_batch": PREFILL}
    return Llama(path, **sizes, n_threads=threads, n_threads_batch=threads, logits_all=True, verbose=False)


def llama_prefill(llama, tokens) -> float:
    llama.reset()
    start = time.perf_counter()
    llama.eval(tokens[:PREFILL])
    return time.perf_counter() - start


def llama_decode(llama, tokens) -> float:
    llama_prefill(llama, tokens)
    start = time.perf_counter()
    for token in tokens[PREFILL:]:
        llama.eval([token])
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

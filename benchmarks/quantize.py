"""How fast is `quantize`? 32 million floats to int8, beside the three lines that one writes first and a plain copy.

    python benchmarks/quantize.py

The three take turns, so that a busy machine slows them alike; each shows its median. GB/s are 1e9 bytes of float32
*input* per second. The copy reads and writes all the floats: what the memory can do.
"""

import statistics
import time
import tracemalloc

import numpy as np

import quantlab_helpers as ql

SIZE = 32_000_000
REPETITIONS = 9


def three_lines(x):
    """What one writes first: right, and three times through the memory for each of its steps."""
    scale = np.max(np.abs(x)) / 127
    return np.clip(np.round(x / scale), -128, 127).astype(np.int8)


def median_seconds(functions, repetitions):
    """Return the median time of each function: `repetitions` rounds in which each runs once."""
    times = {name: [] for name in functions}
    for _ in range(repetitions):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory(function):
    """Return the most bytes that `function` held at a time, its result included."""
    tracemalloc.start()
    function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def main():
    x = np.random.default_rng(seed=4).normal(scale=0.8, size=SIZE).astype(np.float32)
    target = np.empty_like(x)
    matrix = x.reshape(-1, 3200)
    functions = {
        "the three lines": lambda: three_lines(x),
        "ql.quantize": lambda: ql.quantize(x),
        "memcpy": lambda: np.copyto(target, x),
        "  affine": lambda: ql.quantize(x, symmetric=False),
        "  per channel (rows of 3200)": lambda: ql.quantize(matrix, per="channel"),
        "  per group of 32": lambda: ql.quantize(matrix, per="group", group_size=32),
    }
    seconds = median_seconds(functions, REPETITIONS)
    print(f"{SIZE:,} float32 to int8, medians of {REPETITIONS}; last, the speed in multiples of the three lines'")
    for name, time_taken in seconds.items():
        speedup = seconds["the three lines"] / time_taken
        print(f"{name:<30}{time_taken * 1e3:7.1f} ms {x.nbytes / time_taken / 1e9:6.1f} GB/s {speedup:5.1f} x")

    codes = ql.quantize(x).codes
    print("codes equal to the bit:", np.array_equal(codes, three_lines(x)))
    for name in ("the three lines", "ql.quantize"):
        print(f"peak memory of {name}: {peak_memory(functions[name]) / codes.nbytes:.2f} x the codes that it returns")


if __name__ == "__main__":
    main()

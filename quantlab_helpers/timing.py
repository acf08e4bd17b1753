"""How long things take, measured side by side: machines are noisy, so only what took turns in one run is compared.

    seconds = ql.timing.side_by_side({"NumPy": lambda: weight @ x, "int8": lambda: int8_matvec(codes, scale, x)})
    seconds["NumPy"] / seconds["int8"]                  # how many times as fast

Before each turn is a pause: the threads of BLAS keep their cores busy for some 30 ms after their work is done, and
would slow down whoever comes next. What is measured is first called some times, which compiles it and wakes cores up.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np

from .kernels import compiled_loops
from .validation import whole_number

PAUSE = 0.1  # seconds
READ_BYTES = 1 << 27  # more than caches hold


def side_by_side(calls: Mapping[str, Callable[[], object]], turns: int = 7, repeat: int = 10) -> dict[str, float]:
    """Return the seconds that each call takes: the median of `turns` turns of the mean of `repeat` calls in a row.

    Raises TypeError or ValueError for numbers that are no whole numbers above 0.
    """
    repeat = whole_number(repeat, "repeat", 1, 2**31 - 1)
    return medians({name: lambda call=call: _seconds(call, repeat) for name, call in calls.items()}, turns)


def medians(measures: Mapping[str, Callable[[], float]], turns: int = 7) -> dict[str, float]:
    """Let all take turns and return the median of what each says of itself, such as its tokens per second.

    Raises TypeError or ValueError where `turns` is no whole number above 0.
    """
    turns = whole_number(turns, "turns", 1, 2**31 - 1)
    found = {name: [] for name in measures}
    for _ in range(turns):
        for name, measure in measures.items():
            time.sleep(PAUSE)
            found[name].append(measure())
    return {name: statistics.median(values) for name, values in found.items()}


def read_bandwidth(turns: int = 5) -> float:
    """Return how many bytes per second all threads read from memory on this machine, by adding up 128 MiB.

    Where numba is not installed one thread of NumPy reads, and the result is lower.
    """
    array = np.ones(READ_BYTES // 8, np.int64)
    loops = compiled_loops()
    read = array.sum if loops is None else lambda: loops.total(array)
    return READ_BYTES / side_by_side({"reading": read}, turns, repeat=3)["reading"]


def _seconds(call: Callable[[], object], repeat: int) -> float:
    for _ in range(repeat):
        call()
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat

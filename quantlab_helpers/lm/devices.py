"""Devices on which a model may have to run: how much memory they have, and how fast it can be read.

The bandwidth that is printed on the box is that of the memory chips. A program gets less, by an amount that depends on
the device; so each device also has what llama.cpp was measured to read while it wrote tokens on its CPU: the bytes of
the model times tokens per second.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass

from ..timing import read_bandwidth
from .cache import KVCache
from .footprint import hold_in
from .model import LanguageModel, LlamaConfig
from .shapes import ModelShape, random_model

GB = 10**9


@dataclass(frozen=True)
class Device:
    """A device, in bytes and bytes per second.

    memory     that is built in
    usable     that is left for a model: our assumption, which leaves room for the system and for other programs
    peak       bandwidth of the memory chips; None where it is not known
    bandwidth  that was measured
    source     who says so
    """

    name: str
    memory: float
    usable: float
    peak: float | None
    bandwidth: float
    source: str


# Peaks are transfers per second times the width of the bus.
DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device(
            "phone",
            memory=8 * GB,
            usable=4 * GB,
            peak=67.2 * GB,
            bandwidth=21.6 * GB,
            source="Galaxy S23 Ultra: LPDDR5X-8400, 64 bits (Snapdragon 8 Gen 2). A 2B model of 1.30 GiB at 15.48 "
            "tokens/s, 5 threads: github.com/ggml-org/llama.cpp/issues/26957",
        ),
        Device(
            "Raspberry Pi 5",
            memory=4 * GB,
            usable=3 * GB,
            peak=17.1 * GB,
            bandwidth=10.2 * GB,
            source="LPDDR4X-4267, 32 bits (product brief). Files of five widths, 9.8 to 10.6 GB/s each: "
            "github.com/ggml-org/llama.cpp/issues/26484",
        ),
        Device(
            "laptop",
            memory=16 * GB,
            usable=10 * GB,
            peak=68.2 * GB,
            bandwidth=53.3 * GB,
            source="MacBook Air M1: LPDDR4X-4266, 128 bits. A 7B model at 71.2 ms a token on the CPU: "
            "github.com/ggml-org/llama.cpp/pull/1642",
        ),
    )
}


def this_computer() -> Device:
    """Return the computer that runs this: its memory, what is free now, and its bandwidth, measured."""
    import psutil

    memory = psutil.virtual_memory()
    source = f"measured now, {os.cpu_count()} cores"
    return Device("this computer", memory.total, memory.available, None, read_bandwidth(), source)


def resident_growth(
    shape: ModelShape,
    format: str,
    *,
    embedding: str = "BF16",
    tokens: int = 1,
    users: int = 1,
    cache_format: str = "float16",
) -> int:
    """Return by how many bytes a fresh Python process grows when it holds a random model and full KV caches.

    The arguments are those of `footprint`; formats that need calibration are left out. What is counted is the pages
    that are in memory ("resident set size", RSS). The float model, which is made first, is gone by then.

    Raises RuntimeError with what the process said if it fails.
    """
    # Without this, the C library may keep the floats' memory for later.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import _grow; _grow()"],
        input=pickle.dumps((shape, (format, embedding), (tokens, users, cache_format))),
        capture_output=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the process failed: {done.stderr.decode(errors='replace')}")
    return int(done.stdout)


def _grow() -> None:
    import psutil

    shape, formats, sizes = pickle.load(sys.stdin.buffer)
    process = psutil.Process()
    _held(ModelShape(LlamaConfig(64, 64, 64, 1, 1, 1, 64, 64), tied=False), formats, (1, 1, "float16"))  # load all code
    before = process.memory_info().rss
    held = _held(shape, formats, sizes)
    print(process.memory_info().rss - before)
    del held


def _held(shape: ModelShape, formats: tuple[str, str], sizes: tuple[int, int, str]) -> tuple[LanguageModel, KVCache]:
    format, embedding = formats
    tokens, users, cache_format = sizes
    cache = KVCache(shape.config, tokens, users, format=cache_format)
    for part in (cache.keys, cache.values):
        part.codes.fill(0)  # memory that nobody has written to is not there yet
        if part.scale is not None:
            part.scale.fill(1)
    return hold_in(random_model(shape), format, embedding=embedding), cache

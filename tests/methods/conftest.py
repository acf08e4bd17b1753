"""ggml's bytes to compare with: recorded ones, and its own C code."""

import ctypes
import os
from pathlib import Path

import gguf
import numpy as np
import pytest


@pytest.fixture(scope="session")
def ggml_golden():
    with np.load(Path(__file__).parents[1] / "golden" / "ggml_blocks.npz") as data:
        return dict(data)


@pytest.fixture(scope="session")
def ggml():
    """A function that quantizes a matrix by ggml's C code. Without the library the tests are skipped, but not in CI."""
    try:
        import libggml
    except ImportError:
        complaint = "no ggml found: python -m pip install libggml-python"
        if os.environ.get("CI"):
            pytest.fail(complaint)
        pytest.skip(complaint)
    folder = Path(libggml.__file__).parent
    library = next(path for path in sorted(folder.rglob("*ggml-base.*")) if path.suffix in (".so", ".dylib", ".dll"))
    quantize = ctypes.CDLL(str(library)).ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]

    def encode(weight, name):
        kind = gguf.GGMLQuantizationType[name]
        values, size = gguf.GGML_QUANT_SIZES[kind]
        data = np.zeros((len(weight), weight.shape[1] // values * size), np.uint8)
        written = quantize(int(kind), weight.ctypes.data, data.ctypes.data, 0, *weight.shape, None)
        assert written == data.nbytes
        return data

    return encode

"""Q8_0 and Q4_0, the two simplest block formats of llama.cpp's GGUF files: 32 neighbours of a row share a scale.

    Q8_0   34 bytes   scale = absmax / 127, in float16       32 codes of 8 bits, signed          8.5 bits per weight
    Q4_0   18 bytes   scale = largest / -8, in float16       32 codes of 4 bits, less 8          4.5 bits per weight

"largest" is the value of the largest magnitude, with its sign. So it gets the code -8, the one that a symmetric
range leaves out, and the 4 bits are used in full: at the other end 7 times the scale is the last.

The bytes are those of ggml (`quantize_row_q8_0_ref`, `quantize_row_q4_0_ref` in ggml-quants.c), each format with its
own rounding: halves away from zero, and halves up. Codes are found with the scale before it is rounded to float16.
"""

from __future__ import annotations

import numpy as np

from ..validation import float32_array

BLOCK = 32
# A block as it lies in the file. In Q4_0 a byte holds value j in its low nibble and value j + 16 in its high one.
Q8_0 = np.dtype([("scale", "<f2"), ("codes", "i1", BLOCK)])
Q4_0 = np.dtype([("scale", "<f2"), ("codes", "u1", BLOCK // 2)])
_LARGEST_SCALE = float(np.finfo(np.float16).max)


def encode_q8_0(weight) -> np.ndarray:
    """Return weight (..., in) as the bytes of Q8_0: uint8 (..., in / 32 * 34).

    Raises ValueError or TypeError for NaN, infinity, magnitudes above 127 * 65504, and an axis that 32 does not divide.

    >>> encode_q8_0(np.arange(32.0))[:6]               # 31 / 127 in float16, then the codes 0, 4, 8, 12
    array([208,  51,   0,   4,   8,  12], dtype=uint8)
    """
    groups = _groups(weight, 127)  # (..., blocks, 32)
    scale = np.abs(groups).max(axis=-1, keepdims=True) / np.float32(127)
    steps = groups * _reciprocal(scale)
    whole = np.trunc(steps)
    whole += np.trunc(2 * (steps - whole))  # from one half on, one more
    return _bytes_of_blocks(Q8_0, scale, whole)


def decode_q8_0(data) -> np.ndarray:
    """Return the weight (..., in) that bytes of Q8_0, uint8 (..., in / 32 * 34), stand for: float32."""
    blocks = _blocks_of_bytes(data, Q8_0)
    return _restored(blocks, blocks["codes"])


def encode_q4_0(weight) -> np.ndarray:
    """Return weight (..., in) as the bytes of Q4_0: uint8 (..., in / 32 * 18).

    Raises ValueError or TypeError for NaN, infinity, magnitudes above 8 * 65504, and an axis that 32 does not divide.

    >>> encode_q4_0(np.arange(32.0) - 16)[:6]          # scale 2 in float16, then 0 and 8, 1 and 9, 1 and 9, 2 and 10
    array([  0,  64, 128, 145, 145, 162], dtype=uint8)
    """
    groups = _groups(weight, 8)  # (..., blocks, 32)
    largest = np.take_along_axis(groups, np.abs(groups).argmax(axis=-1, keepdims=True), axis=-1)  # the first of them
    scale = (largest + 0.0) / np.float32(-8)  # + 0.0 turns -0 into 0, as ggml does in a block of zeros
    codes = np.minimum(groups * _reciprocal(scale) + np.float32(8.5), 15).astype(np.uint8)
    return _bytes_of_blocks(Q4_0, scale, codes[..., : BLOCK // 2] | codes[..., BLOCK // 2 :] << 4)


def decode_q4_0(data) -> np.ndarray:
    """Return the weight (..., in) that bytes of Q4_0, uint8 (..., in / 32 * 18), stand for: float32."""
    blocks = _blocks_of_bytes(data, Q4_0)
    codes = np.concatenate([blocks["codes"] & 15, blocks["codes"] >> 4], axis=-1)  # (..., blocks, 32)
    return _restored(blocks, codes.astype(np.int8) - 8)


def _groups(weight, steps: int) -> np.ndarray:
    """Return the weight as float32 (..., blocks, 32), or raise an error where its scales would not fit in float16."""
    weight = float32_array(weight, "weight")
    if not weight.shape or weight.shape[-1] % BLOCK:
        raise ValueError(f"weight must have a last axis that {BLOCK} divides, but its shape is {weight.shape}")
    if (largest := np.abs(weight).max()) > steps * _LARGEST_SCALE:
        raise ValueError(f"weight must be within +-{steps * _LARGEST_SCALE:.0f}, but it reaches {largest:.8g}")
    return weight.reshape(*weight.shape[:-1], -1, BLOCK)


def _reciprocal(scale: np.ndarray) -> np.ndarray:
    """Return 1 / scale, or 0 where that is beyond float32: such a scale is 0 in float16."""
    with np.errstate(divide="ignore", over="ignore"):
        reciprocal = 1 / scale
    return np.where(np.isfinite(reciprocal), reciprocal, np.float32(0))


def _bytes_of_blocks(block: np.dtype, scale: np.ndarray, codes: np.ndarray) -> np.ndarray:
    blocks = np.empty(scale.shape[:-1], block)  # (..., blocks)
    blocks["scale"] = scale[..., 0]
    blocks["codes"] = codes
    return blocks.view(np.uint8)


def _blocks_of_bytes(data, block: np.dtype) -> np.ndarray:
    data = np.asarray(data)
    if data.dtype != np.uint8:
        raise TypeError(f"data must be uint8, not {data.dtype}")
    if not data.shape or not data.size or data.shape[-1] % block.itemsize:
        raise ValueError(f"data must hold whole blocks of {block.itemsize} bytes in each row, but is of {data.shape}")
    return np.ascontiguousarray(data).view(block)


def _restored(blocks: np.ndarray, codes: np.ndarray) -> np.ndarray:
    real = codes * blocks["scale"].astype(np.float32)[..., None]  # (..., blocks, 32)
    return real.reshape(*blocks.shape[:-1], -1)

"""b-bit codes <-> bytes, so that every claim about memory is about bytes that are really there.

NumPy has no 4-bit array: codes of 2 to 7 bits still occupy a whole byte each until they are packed. The
layout is a stream of bits, least significant bit first: code `i` occupies bits `i*b` to `i*b + b - 1` of
the stream, and bit `k` of the stream is bit `k % 8` of byte `k // 8`. At 4 bits that is two codes a byte,
the first in the low nibble (as in ONNX and MX; bitsandbytes puts the first in the high nibble).
"""

from __future__ import annotations

import math
import numbers

import numpy as np

from .validation import boolean, integer_array, whole_number

# Codes worked on at a time, so that temporaries stay in cache. A multiple of 8: a block fills whole bytes.
BLOCK = 1 << 15


def packed_size(count: int, num_bits: int) -> int:
    """Return how many bytes `count` codes of `num_bits` bits each occupy when packed."""
    return -(-count * num_bits // 8)


def pack(codes, num_bits: int) -> np.ndarray:
    """Pack integer codes of `num_bits` bits (1 to 8) into a 1-d uint8 array of `packed_size` bytes.

    `codes` may have any shape and is read in C order. The codes are either unsigned, 0 to 2**num_bits - 1,
    or signed, -2**(num_bits-1) to 2**(num_bits-1) - 1, which are stored in two's complement. Codes that do
    not fit raise ValueError, anything but integers TypeError. Spare bits at the end are 0.

    >>> pack([1, 2, 15], 4)                   # 0x21, 0x0F: the first code is the low nibble
    array([33, 15], dtype=uint8)
    """
    num_bits = whole_number(num_bits, "num_bits", 1, 8)
    flat = integer_array(codes, "codes").reshape(-1)
    _check_range(flat, num_bits)
    data = np.empty(packed_size(flat.size, num_bits), np.uint8)
    for start in range(0, flat.size, BLOCK):
        block = flat[start : start + BLOCK]
        first = start * num_bits // 8
        data[first : first + packed_size(block.size, num_bits)] = _pack_block(block, num_bits)
    return data


def unpack(data, num_bits: int, shape, *, signed: bool = False) -> np.ndarray:
    """Return the codes that `pack(codes, num_bits)` made `data` from, in the given shape (a tuple, or one number).

    `data` is a uint8 array or bytes of exactly `packed_size` bytes, else ValueError. The bytes do not say
    whether the codes were signed, so you do: the result is uint8 from 0 to 2**num_bits - 1, or with
    `signed=True` int8 from -2**(num_bits-1) to 2**(num_bits-1) - 1.

    >>> unpack(pack([1, 2, 15], 4), 4, (3,))
    array([ 1,  2, 15], dtype=uint8)
    >>> unpack(pack([1, 2, -1], 4), 4, (3,), signed=True)
    array([ 1,  2, -1], dtype=int8)
    """
    num_bits = whole_number(num_bits, "num_bits", 1, 8)
    signed = boolean(signed, "signed")
    lengths = (shape,) if isinstance(shape, numbers.Integral) else shape
    if not isinstance(lengths, tuple | list) or not all(isinstance(n, numbers.Integral) and n >= 0 for n in lengths):
        raise ValueError(f"shape must be whole numbers, 0 or more, not {shape!r}")
    if isinstance(data, bytes | bytearray | memoryview):
        data = np.frombuffer(data, np.uint8)
    data = np.asarray(data)
    if data.dtype != np.uint8:
        raise TypeError(f"data must be bytes or a uint8 array, not {data.dtype}")
    count = math.prod(int(n) for n in lengths)
    expected = packed_size(count, num_bits)
    if data.size != expected:
        raise ValueError(f"data must be {expected} bytes for {count} codes of {num_bits} bits, but it is {data.size}")
    codes = np.empty(shape, np.uint8)
    flat, data = codes.reshape(-1), data.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        block = flat[start : start + BLOCK]
        first = start * num_bits // 8
        _unpack_block(data[first : first + packed_size(block.size, num_bits)], num_bits, block)
    if signed:
        sign_bit = np.uint8(1 << (num_bits - 1))
        codes ^= sign_bit  # two's complement: the sign bit stands for minus its value, so flip it ...
        codes -= sign_bit  # ... and subtract its value (uint8 wraps round just as int8 needs it)
        codes = codes.view(np.int8)
    return codes


def _check_range(codes: np.ndarray, num_bits: int) -> None:
    lowest, highest = codes.min(initial=0), codes.max(initial=0)
    qmin, qmax = (-(2 ** (num_bits - 1)), 2 ** (num_bits - 1) - 1) if lowest < 0 else (0, 2**num_bits - 1)
    if lowest < qmin or highest > qmax:
        raise ValueError(f"codes must be from {qmin} to {qmax} to fit in {num_bits} bits, not {lowest} to {highest}")


# A word is the smallest run of codes that fills whole bytes: 2 codes in 1 byte at 4 bits, 8 codes in 3 bytes
# at 3 bits. It is put together in one integer, of which the low bytes are kept.


def _word(num_bits: int) -> tuple[int, int, np.dtype]:
    """Return how many codes and how many bytes a word has, and a little-endian integer type for it."""
    codes_per_word = 8 // math.gcd(num_bits, 8)
    bytes_per_word = codes_per_word * num_bits // 8
    return codes_per_word, bytes_per_word, np.dtype("u1" if bytes_per_word == 1 else "<u8")


def _pack_block(codes: np.ndarray, num_bits: int) -> np.ndarray:
    codes_per_word, bytes_per_word, dtype = _word(num_bits)
    lanes = np.zeros((-(-codes.size // codes_per_word), codes_per_word), dtype)
    lanes.reshape(-1)[: codes.size] = codes  # negative codes become their two's complement ...
    lanes &= dtype.type(2**num_bits - 1)  # ... of which the low bits are stored
    words = lanes[:, 0].copy()
    for i in range(1, codes_per_word):
        words |= lanes[:, i] << dtype.type(i * num_bits)
    data = words.view(np.uint8).reshape(len(words), -1)[:, :bytes_per_word]
    return data.reshape(-1)[: packed_size(codes.size, num_bits)]


def _unpack_block(data: np.ndarray, num_bits: int, codes: np.ndarray) -> None:
    codes_per_word, bytes_per_word, dtype = _word(num_bits)
    words = np.zeros(-(-codes.size // codes_per_word), dtype)
    padded = np.zeros((len(words), bytes_per_word), np.uint8)
    padded.reshape(-1)[: data.size] = data
    words.view(np.uint8).reshape(len(words), -1)[:, :bytes_per_word] = padded
    lanes = np.empty((len(words), codes_per_word), np.uint8)
    for i in range(codes_per_word):
        lanes[:, i] = words >> dtype.type(i * num_bits) & dtype.type(2**num_bits - 1)
    codes[:] = lanes.reshape(-1)[: codes.size]

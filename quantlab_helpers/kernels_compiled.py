"""The loops of `kernels.py`, compiled by numba when they are first called, and kept on disk for the next time.

What makes a loop fast here: it reads memory in order; its arithmetic is in the narrowest type that is exact, because a
vector register of 64 bytes holds 64 int8, 32 int16 or 16 float32 numbers (numba would widen every integer to 64 bits,
so each result is cast back); and the order of a sum of floats is left to the compiler ("reassoc"), without which no sum
can be done in vectors.

Each loop exists twice: on one thread, and with the rows shared out among all threads (`prange`).
"""

from __future__ import annotations

from types import FunctionType
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from .kernels import BLOCK_ROWS, TILE

FLOAT_TILE = TILE // 2  # with float activations: there are registers for so many of them
_FASTMATH = {"reassoc", "contract", "nsz"}


class Loop(NamedTuple):
    """One loop, compiled twice."""

    on_one_thread: object
    on_all_threads: object


def compiled(function, **options):
    """Return the function as numba compiles it when it is first called."""
    try:
        return njit(function, cache=True, fastmath=_FASTMATH, **options)
    except RuntimeError:  # no folder can be written to, neither the package's nor the user's: compile in each process
        return njit(function, fastmath=_FASTMATH, **options)


def _loop(function) -> Loop:
    twin = FunctionType(function.__code__, function.__globals__)
    twin.__qualname__ = f"{function.__qualname__}_on_all_threads"  # by which numba tells apart what it keeps on disk
    return Loop(compiled(function), compiled(twin, parallel=True))


@compiled
def _dot(row, x):
    total = np.float32(0)
    for i in range(x.size):
        total += np.float32(row[i]) * x[i]
    return total


@compiled
def _int_dot(row, x):
    total = np.int32(0)
    for i in range(x.size):
        total = np.int32(total + np.int32(row[i]) * np.int32(x[i]))
    return total


@_loop
def float32(weight, x, y):
    """y = weight @ x: weight float32 (out, in)."""
    for r in prange(y.size):
        y[r] = _dot(weight[r], x)


@_loop
def int8(codes, scale, x, y):
    """y = scale * (codes @ x): codes int8 (out, in), scale float32 (out,)."""
    for r in prange(y.size):
        y[r] = _dot(codes[r], x) * scale[r]


@_loop
def int8_int8(codes, scale, x, x_scale, y):
    """y = scale * x_scale * (codes @ x) with x int8, summed in int32."""
    for r in prange(y.size):
        y[r] = np.float32(_int_dot(codes[r], x)) * scale[r] * x_scale


@compiled
def _sums(tiles):
    sums = np.zeros(len(tiles), np.float32)
    for tile in range(len(tiles)):
        for i in range(FLOAT_TILE):
            sums[tile] += tiles[tile, i]
    return sums


@compiled
def _int_sums(tiles):
    sums = np.zeros(len(tiles), np.int32)
    for tile in range(len(tiles)):
        for i in range(TILE):
            sums[tile] += tiles[tile, i]
    return sums


@_loop
def int4(data, scale, zero_point, x, y):
    """y = (scale * (codes - zero_point)) @ x: for the layout see `kernels.Int4Blocks`; y (blocks, 64)."""
    tiles = x.reshape(-1, FLOAT_TILE)
    sums = _sums(tiles)
    for block in prange(y.shape[0]):
        if zero_point is None:
            _int4_block(data[block], scale[block], None, tiles, sums, y[block])
        else:
            _int4_block(data[block], scale[block], zero_point[block], tiles, sums, y[block])


@compiled
def _int4_block(data, scale, zero_point, tiles, sums, y):
    tiles_per_group = len(tiles) // len(scale)
    totals = np.zeros(BLOCK_ROWS, np.float32)
    for group in range(len(scale)):
        for tile in range(group * tiles_per_group, (group + 1) * tiles_per_group):
            x, pairs = tiles[tile], data[tile * FLOAT_TILE // 2 : (tile + 1) * FLOAT_TILE // 2]
            for r in range(BLOCK_ROWS):
                total = np.float32(0)
                for i in range(FLOAT_TILE // 2):
                    low, high = np.uint8(pairs[i, r] & 15), np.uint8(pairs[i, r] >> 4)
                    total += np.float32(low) * x[2 * i] + np.float32(high) * x[2 * i + 1]
                zero = np.float32(8) if zero_point is None else np.float32(zero_point[group, r])
                totals[r] += scale[group, r] * (total - zero * sums[tile])  # one correction for the whole tile
    y[:] = totals


@_loop
def int4_int8(data, scale, zero_point, x, x_scale, y):
    """The same with x int8: exact integers up to the scales."""
    tiles = x.reshape(-1, TILE)
    sums = _int_sums(tiles)
    for block in prange(y.shape[0]):
        if zero_point is None:
            _int4_int8_block(data[block], scale[block], None, tiles, sums, x_scale, y[block])
        else:
            _int4_int8_block(data[block], scale[block], zero_point[block], tiles, sums, x_scale, y[block])


@compiled
def _int4_int8_block(data, scale, zero_point, tiles, sums, x_scale, y):
    tiles_per_group = len(tiles) // len(scale)
    products, totals = np.empty(BLOCK_ROWS, np.int16), np.zeros(BLOCK_ROWS, np.float32)
    for group in range(len(scale)):
        for tile in range(group * tiles_per_group, (group + 1) * tiles_per_group):
            x, pairs = tiles[tile], data[tile * TILE // 2 : (tile + 1) * TILE // 2]
            for r in range(BLOCK_ROWS):  # int16 only, apart from the floats: twice as many numbers in a register
                total = np.int16(0)
                for i in range(TILE // 2):
                    low, high = np.int16(np.uint8(pairs[i, r] & 15)), np.int16(np.uint8(pairs[i, r] >> 4))
                    total = np.int16(total + low * np.int16(x[2 * i]) + high * np.int16(x[2 * i + 1]))
                products[r] = total
            for r in range(BLOCK_ROWS):
                zero = np.int32(8) if zero_point is None else np.int32(zero_point[group, r])
                totals[r] += scale[group, r] * np.float32(np.int32(products[r] - zero * sums[tile]))
    for r in range(BLOCK_ROWS):
        y[r] = totals[r] * x_scale


@compiled
def quantize_int8(x, smallest_scale, codes):
    """Fill codes (in,) with those of `quantize(x, 8)`, and return its scale."""
    absmax = np.float32(0)
    for i in range(x.size):
        absmax = max(absmax, abs(x[i]))
    scale = np.float32(1) if absmax == 0 else max(absmax / np.float32(127), smallest_scale)
    for i in range(x.size):
        codes[i] = np.int8(np.rint(x[i] / scale))
    return scale


def _total(array):
    """The sum of int64 numbers, as many as a multiple of 65,536: it is here to see how fast memory can be read."""
    pieces, result = array.reshape(-1, 1 << 16), np.int64(0)
    for i in prange(len(pieces)):
        result += pieces[i].sum()
    return result


total = compiled(_total, parallel=True)

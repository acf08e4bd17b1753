"""Packed integers in the layout of the library `compressed-tensors`, which transformers and vLLM read.

A layer "X" that is quantized has, in place of "X.weight",

X.weight_packed      int32 (out, words): each row's codes as one stream of bits, the lowest first, in whole words.
                     Codes are unsigned: of symmetric ones 2**(num_bits - 1) is added
X.weight_scale       float32 (out, groups)
X.weight_zero_point  int32 (words, groups), affine only: the zero points of each column of scales, packed likewise
X.weight_shape       int64 (2,): out, in

and config.json says in `quantization_config` which layers are, and how ("pack-quantized"). Our bits lie in the same
order: only the offset of symmetric codes and the filling of rows differ.

https://github.com/vllm-project/compressed-tensors
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from ..packed import PackedTensor
from ..packing import pack, unpack
from ..validation import one_of, whole_number

FORMAT = "pack-quantized"
PACKED, SCALE, ZERO_POINT, SHAPE = ".weight_packed", ".weight_scale", ".weight_zero_point", ".weight_shape"
ALWAYS = (PACKED, SCALE, SHAPE)  # the zero points are of affine matrices only
ARRAYS = (*ALWAYS, ZERO_POINT)
_WORD = np.dtype("<i4")


def fits(tensor) -> bool:
    """Whether a matrix can be held in this layout: integers of 2 to 8 bits, with a scale per tensor, row or group."""
    integers = [f"{kind}{bits}" for kind in ("INT", "UINT") for bits in range(2, 9)]
    return isinstance(tensor, PackedTensor) and tensor.format in integers


def scheme_of(tensor: PackedTensor) -> dict:
    """Return how a matrix is quantized, as it stands in `quantization_config`."""
    groups = tensor.scale.shape[1]
    return {
        "num_bits": tensor.num_bits,
        "type": "int",
        "symmetric": _is_symmetric(tensor),
        "strategy": "channel" if groups == 1 else "group",
        "group_size": None if groups == 1 else tensor.shape[1] // groups,
        "dynamic": False,
    }


def to_arrays(tensor: PackedTensor) -> dict[str, np.ndarray]:
    """Return the arrays of a matrix, suffix of the name -> array. One scale for all rows is written for each."""
    rows, columns = tensor.shape
    arrays = {
        PACKED: _in_words(_codes(tensor), tensor.num_bits),
        SCALE: np.broadcast_to(tensor.scale, (rows, tensor.scale.shape[1])).astype(np.float32),
        SHAPE: np.array([rows, columns], np.int64),
    }
    if not _is_symmetric(tensor):
        zero_point = np.broadcast_to(tensor.zero_point, (rows, tensor.zero_point.shape[1]))
        arrays[ZERO_POINT] = np.ascontiguousarray(_in_words(zero_point.T, tensor.num_bits).T)
    return arrays


def from_arrays(arrays: Mapping[str, np.ndarray], scheme: Mapping) -> PackedTensor:
    """Return the matrix that `to_arrays` wrote, or the library. Raises ValueError for arrays that do not fit together.

    arrays  suffix of the name -> array
    """
    num_bits = whole_number(scheme.get("num_bits"), "num_bits", 2, 8)
    symmetric = bool(scheme.get("symmetric", True))
    shape = arrays[SHAPE]
    if shape.shape != (2,) or not (shape > 0).all():
        raise ValueError(f"weight_shape must be two sizes, not {shape.tolist()}")
    rows, columns = map(int, shape)
    packed, scale = arrays[PACKED], arrays[SCALE]
    if scale.ndim != 2 or len(scale) != rows or columns % scale.shape[1]:
        raise ValueError(f"weight_scale must be of each row and groups of {columns} columns, not {scale.shape}")
    codes = _from_words(packed, num_bits, (rows, columns), "weight_packed")
    zero_point = None
    if symmetric:
        codes ^= np.uint8(1 << (num_bits - 1))  # signed again, in two's complement of num_bits
    else:
        stored = arrays.get(ZERO_POINT)
        if stored is None:
            raise ValueError("weight_zero_point is missing, though the layer is not symmetric")
        zero_point = _from_words(stored.T, num_bits, (scale.shape[1], rows), "weight_zero_point").T.copy()
    per_run = 8 // np.gcd(num_bits, 8)  # so many codes fill whole bytes, as a row does
    data = pack(np.pad(codes, ((0, 0), (0, -columns % per_run))), num_bits).reshape(rows, -1)
    name = f"{'INT' if symmetric else 'UINT'}{num_bits}"
    return PackedTensor(data, scale, zero_point, num_bits, (rows, columns), name)


def _is_symmetric(tensor: PackedTensor) -> bool:
    """Whether there is nothing to say about zero points: also where all are in the middle, as symmetric GPTQ's are."""
    return tensor.zero_point is None or bool((tensor.zero_point == 1 << (tensor.num_bits - 1)).all())


def _codes(tensor: PackedTensor) -> np.ndarray:
    """The unsigned codes of a matrix: uint8 (out, in)."""
    per_row = 8 * tensor.data.shape[1] // tensor.num_bits
    codes = unpack(tensor.data, tensor.num_bits, (len(tensor.data), per_row))[:, : tensor.shape[1]]
    return codes ^ np.uint8(1 << (tensor.num_bits - 1)) if tensor.format.startswith("INT") else codes


def _in_words(codes: np.ndarray, num_bits: int) -> np.ndarray:
    """Pack each row of unsigned codes into whole words: int32 (rows, words)."""
    words = -(-codes.shape[1] * num_bits // 32)
    whole = -(-words * 32 // num_bits)  # codes that fill the words, and perhaps a little more
    whole += -whole % 8
    rows = pack(np.pad(codes, ((0, 0), (0, whole - codes.shape[1]))), num_bits).reshape(len(codes), -1)
    return np.ascontiguousarray(rows[:, : 4 * words]).view(_WORD)


def _from_words(words: np.ndarray, num_bits: int, shape: tuple[int, int], name: str) -> np.ndarray:
    """Return the codes, uint8 of `shape`, that `_in_words` packed."""
    rows, columns = shape
    expected = (rows, -(-columns * num_bits // 32))
    if words.shape != expected:
        raise ValueError(f"{name} must be {expected[1]} words for {columns} codes in {rows} rows, not {words.shape}")
    data = np.ascontiguousarray(words, _WORD).view(np.uint8)
    whole = 8 * -(-data.shape[1] // num_bits)  # codes in runs that fill whole bytes
    filled = np.pad(data, ((0, 0), (0, whole * num_bits // 8 - data.shape[1])))
    return unpack(filled, num_bits, (rows, whole))[:, :columns].copy()


# quantization_config


def quantization_config(schemes: Mapping[str, dict], floats: Iterable[str]) -> dict:
    """Return the `quantization_config` of a model.

    schemes  module -> what `scheme_of` says of it
    floats   the linear layers that are not quantized
    """
    distinct, groups = [], {}
    for scheme in schemes.values():
        if scheme not in distinct:
            distinct.append(scheme)
    for number, scheme in enumerate(distinct):
        names = [name for name, each in schemes.items() if each == scheme]
        groups[f"group_{number}"] = {
            "targets": ["Linear"] if len(distinct) == 1 else names,
            "weights": scheme,
            "input_activations": None,
            "output_activations": None,
            "format": FORMAT,
        }
    return {
        "quant_method": "compressed-tensors",
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": list(floats),
    }


def scheme_for(module: str, config: Mapping) -> dict:
    """Return how a module is quantized, by a model's `quantization_config`.

    Raises ValueError for anything but integer weights that are packed, and for a module that no group is for.
    """
    groups = config.get("config_groups")
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise ValueError(f"config_groups must be an object of objects, not {groups!r}")
    for group in groups.values():
        if any(_matches(module, target) for target in group.get("targets", ())):
            one_of(group.get("format") or config.get("format"), "format in quantization_config", [FORMAT])
            weights = group.get("weights") or {}
            one_of(weights.get("type", "int"), "type in quantization_config", ["int"])
            one_of(weights.get("strategy"), "strategy in quantization_config", ["channel", "group"])
            if group.get("input_activations"):
                raise ValueError(f"activations must stay float, but quantization_config quantizes those of {module}")
            return weights
    raise ValueError(f"quantization_config must have a group for {module}, whose weights are packed")


def _matches(module: str, target: str) -> bool:
    """Whether a target of a group is this linear layer: by its class, by its name, or by "re:" and a pattern."""
    if target.startswith("re:"):
        return re.match(target[3:], module) is not None
    return target in ("Linear", module)

"""Reading GGUF, the file format of llama.cpp: the metadata at once, the tensors one at a time.

    file = GgufFile("model.gguf")
    file.metadata["general.architecture"]              # "llama"
    file.tensors["token_embd.weight"].shape            # (49152, 576)
    file.read("token_embd.weight")                     # float32, however the file holds it

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Quantized types are decoded by the `gguf` package.
Its own reader makes two arrays for each word of the vocabulary, which takes seconds; this one does not.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_DIMENSIONS = 4
_DECODED_AT_A_TIME = 2**20  # numbers, about: so that what decoding needs in between stays small
# The types of a single value in the metadata by their number: codes that `struct` and NumPy share.
_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
# The types of tensors that are plain numbers.
_PLAIN = {"F32": "f4", "F16": "f2", "F64": "f8", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8"}


@dataclass(frozen=True)
class TensorInfo:
    """How a tensor is stored, and where in the file."""

    shape: tuple[int, ...]  # in NumPy's order; the file lists the dimensions backwards
    type_name: str  # such as "F32" or "Q4_1"
    offset: int
    nbytes: int


class GgufFile:
    """A GGUF file, whose tensors stay on disk until they are read.

    metadata   name -> number, bool, str, list of str, or array of numbers
    tensors    name -> TensorInfo

    Raises ValueError, which names the file, if it is of another kind, cut short or damaged: every tensor lies inside
    it.
    """

    def __init__(self, path):
        self.path = Path(path)
        if self.path.stat().st_size == 0:  # cannot be mapped
            raise ValueError(f"{self.path} is empty: a GGUF file begins with {_MAGIC!r}")
        cursor = _Cursor(memoryview(np.memmap(self.path, np.uint8, "r")), self.path)
        if (magic := bytes(cursor.take(4))) != _MAGIC:
            raise ValueError(f"{self.path} is not a GGUF file: it must begin with {_MAGIC!r}, not {magic!r}")
        if (version := cursor.number("I")) & 0xFFFF == 0:  # a small number, written by a machine of the other order
            cursor.order, version = ">", version >> 24
        if version not in _VERSIONS:
            raise ValueError(f"{self.path} must be of GGUF version {' or '.join(map(str, _VERSIONS))}, not {version}")
        num_tensors, num_fields = cursor.count("tensors", 24), cursor.count("metadata fields", 13)
        self.metadata = dict(cursor.field() for _ in range(num_fields))
        headers = [cursor.tensor_header() for _ in range(num_tensors)]
        self._order = cursor.order
        self.tensors = self._located(headers, cursor.position, len(cursor.data))

    def _located(self, headers: list, end_of_headers: int, file_bytes: int) -> dict[str, TensorInfo]:
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"general.alignment of {self.path} must be a power of two, not {alignment!r}")
        start = -(-end_of_headers // alignment) * alignment
        tensors = {}
        for name, shape, type_number, offset in headers:
            type_name, nbytes = self._stored_as(name, shape, type_number)
            if name in tensors:
                raise ValueError(f"{self.path} must hold one tensor {name!r}, not two")
            if (end := start + offset + nbytes) > file_bytes:
                raise ValueError(
                    f"{self.path} is cut short: its tensor {name!r} ends at byte {end}, the file at {file_bytes}"
                )
            tensors[name] = TensorInfo(shape, type_name, start + offset, nbytes)
        return tensors

    def _stored_as(self, name: str, shape: tuple[int, ...], type_number: int) -> tuple[str, int]:
        """Return the name of the type and the bytes that the tensor takes."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        try:
            kind = GGMLQuantizationType(type_number)
        except ValueError:
            raise ValueError(
                f"tensor {name!r} of {self.path} has type {type_number}, which the gguf package does not know"
            ) from None
        block, block_bytes = GGML_QUANT_SIZES[kind]
        columns = shape[-1] if shape else 1
        if 0 in shape or columns % block:
            raise ValueError(
                f"tensor {name!r} of {self.path} must have rows of whole blocks of {block} numbers, not shape {shape}"
            )
        return kind.name, math.prod(shape) // block * block_bytes

    def read(self, name: str) -> np.ndarray:
        """Return a tensor as a new float32 array. NaN and infinity are kept.

        Raises KeyError for a name that is not in `tensors`, ValueError for a type that gguf cannot decode and for
        numbers beyond float32.
        """
        info = self.tensors[name]
        # Mapped anew for each tensor, so that no more of the file stays in memory.
        stored = np.memmap(self.path, np.uint8, "r", info.offset, info.nbytes).view(np.ndarray)
        if info.type_name in _PLAIN:
            numbers = stored.view(self._order + _PLAIN[info.type_name]).reshape(info.shape)
            try:
                with np.errstate(over="raise", invalid="ignore"):
                    return numbers.astype(np.float32)
            except FloatingPointError:
                raise ValueError(f"tensor {name!r} of {self.path} holds numbers beyond float32's largest") from None
        try:
            return self._decoded(stored, info)
        except NotImplementedError as error:
            raise ValueError(f"tensor {name!r} of {self.path} cannot be decoded: {error}") from error

    def _decoded(self, stored: np.ndarray, info: TensorInfo) -> np.ndarray:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        if self._order == ">":
            raise NotImplementedError(f"{info.type_name} in big-endian byte order")
        decoded = np.empty((math.prod(info.shape[:-1]), info.shape[-1]), np.float32)
        rows = stored.reshape(len(decoded), -1)
        step = max(1, _DECODED_AT_A_TIME // info.shape[-1])
        with np.errstate(all="ignore"):  # a scale may be infinite in a damaged file
            for i in range(0, len(rows), step):
                decoded[i : i + step] = dequantize(rows[i : i + step], GGMLQuantizationType[info.type_name])
        return decoded.reshape(info.shape)


class _Cursor:
    """A position in the file, which moves on with each value that is read, and never beyond the end."""

    def __init__(self, data: memoryview, path: Path):
        self.data, self.path, self.position, self.order = data, path, 0, "<"

    def take(self, nbytes: int) -> memoryview:
        start, self.position = self.position, self.position + nbytes
        if self.position > len(self.data):
            raise ValueError(
                f"{self.path} is cut short or damaged: {nbytes} bytes must follow byte {start}, "
                f"but it has {len(self.data)} in all"
            )
        return self.data[start : self.position]

    def number(self, code: str):
        return struct.unpack(self.order + code, self.take(struct.calcsize("=" + code)))[0]

    def count(self, what: str, least_bytes: int) -> int:
        """Return a number of things that take at least so many bytes each; they must fit in the rest of the file."""
        count = self.number("Q")
        if count * least_bytes > (rest := len(self.data) - self.position):
            raise ValueError(f"{self.path} is damaged: {count} {what} cannot be in the {rest} bytes that are left")
        return count

    def text(self) -> str:
        # A word that is not UTF-8 must not keep us from the rest of the file.
        return str(self.take(self.number("Q")), "utf-8", "replace")

    def field(self) -> tuple[str, object]:
        name, kind = self.text(), self.number("I")
        if kind == _TEXT:
            return name, self.text()
        if kind in _CODES:
            return name, self.number(_CODES[kind])
        item_kind = self.number("I") if kind == _LIST else None
        if item_kind == _TEXT:
            return name, [self.text() for _ in range(self.count("strings", 8))]
        if item_kind in _CODES:
            dtype = np.dtype(self.order + _CODES[item_kind])
            stored = self.take(self.count("numbers", dtype.itemsize) * dtype.itemsize)
            return name, np.frombuffer(stored, dtype).astype(dtype.newbyteorder("="))
        found = f"a list of type {item_kind}" if kind == _LIST else f"type {kind}"
        raise ValueError(f"{name!r} in {self.path} must be a number, a string or a list of those, not {found}")

    def tensor_header(self) -> tuple[str, tuple[int, ...], int, int]:
        """Return name, shape, number of the type, and offset from the start of the data."""
        name, dimensions = self.text(), self.number("I")
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError(
                f"tensor {name!r} of {self.path} must have at most {_MOST_DIMENSIONS} dimensions, not {dimensions}"
            )
        shape = struct.unpack(f"{self.order}{dimensions}Q", self.take(8 * dimensions))
        return name, shape[::-1], self.number("I"), self.number("Q")

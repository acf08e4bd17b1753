"""A file that is a header of fixed size and then nothing but the data, so that its size can be accounted for.

The header is one line of JSON, readable with `head -1`, padded with spaces to HEADER_BYTES bytes. It says
what the data is, how many bytes follow (`nbytes`) and their checksum (`crc32`, of the header's other fields
and the data).
"""

from __future__ import annotations

import json
import os
import zlib

HEADER_BYTES = 256
FORMAT = "quantlab-1"


def write_file(path, fields: dict, data: bytes) -> None:
    """Write `fields` and `data` to a file of exactly HEADER_BYTES + len(data) bytes.

    An existing file is replaced. Raises ValueError if the fields do not fit in the header.
    """
    fields = {"format": FORMAT, **fields, "nbytes": len(data)}
    line = json.dumps({**fields, "crc32": _checksum(fields, data)}).ljust(HEADER_BYTES - 1) + "\n"
    if len(line) > HEADER_BYTES:
        raise ValueError(f"fields must fit in {HEADER_BYTES} bytes of JSON, not {len(line)}: {fields}")
    with open(path, "wb") as file:
        file.write(line.encode() + data)


def read_file(path) -> tuple[dict, bytes]:
    """Return `(fields, data)` of a file that `write_file` wrote.

    Raises ValueError if it is another kind of file, cut short or damaged, saying what was expected.
    """
    with open(path, "rb") as file:
        line, data = file.read(HEADER_BYTES), file.read()
    try:
        fields = json.loads(line)
        checksum = fields.pop("crc32")
        expected = HEADER_BYTES + fields["nbytes"]
        known = fields["format"] == FORMAT
    except (ValueError, KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise ValueError(
            f"{os.fspath(path)} is not a saved tensor: it should begin with {HEADER_BYTES} bytes of JSON "
            f"of format {FORMAT!r}"
        )
    if len(line) + len(data) != expected:
        raise ValueError(f"{os.fspath(path)} should be {expected} bytes by its header, not {len(line) + len(data)}")
    if _checksum(fields, data) != checksum:
        raise ValueError(f"{os.fspath(path)} is damaged: its contents should have the checksum {checksum}")
    return fields, data


def _checksum(fields: dict, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(json.dumps(fields).encode()))

"""Save a file in one step: whoever reads it finds the old content or the new one, whole.

Jupyter's own manager of files writes *into* the old file. Two saves of one notebook at the same time, from two tabs for
example, then mix, and a server that is stopped while it writes leaves a half.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager


class WholeFiles(AsyncLargeFileManager):
    """Jupyter's manager of files, but for how it writes."""

    @contextlib.contextmanager
    def atomic_writing(self, os_path, text=True, encoding="utf-8", **options):
        """Give an open file to write to; what was written gets the name `os_path` when all of it is on the disk."""
        with self.perm_to_403(os_path), replacing(os_path, text, encoding, **options) as file:
            yield file


@contextlib.contextmanager
def replacing(path, text=True, encoding="utf-8", **options):
    """Open a new file beside `path`, which takes its place if nothing goes wrong."""
    path = Path(path).resolve()  # of a symbolic link, the file that it names
    descriptor, temporary = tempfile.mkstemp(prefix=".~", dir=path.parent)
    try:
        with open(descriptor, "w" if text else "wb", encoding=encoding if text else None, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

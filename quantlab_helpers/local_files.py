"""Small files that the course keeps for a learner on this computer, such as scores: where they are, and with care.

They are in `$QUANTLAB_HOME`, or else in the user's data folder. Nobody sees half a file: each is written under another
name and then gets its own in one step. One that is damaged is never overwritten, but set aside, and the learner told.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from IPython.display import display

from .messages import Message

_PATIENCE = 5  # seconds for which another notebook may be writing; whoever takes longer was killed


def home() -> Path:
    """Return the folder of a learner's files, which need not be there yet."""
    return _folder("QUANTLAB_HOME", "XDG_DATA_HOME", ".local/share", "Application Support")


def cache() -> Path:
    """Return the folder of what can be downloaded again, which need not be there yet."""
    return _folder("QUANTLAB_CACHE", "XDG_CACHE_HOME", ".cache", "Caches")


def _folder(ours: str, on_linux: str, on_linux_else: str, on_mac: str) -> Path:
    """The folder that the environment variable `ours` names, or the one that each system has for such files."""
    if given := os.environ.get(ours):
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "quantlab"
    if sys.platform == "darwin":
        return Path.home() / "Library" / on_mac / "quantlab"
    return Path(os.environ.get(on_linux) or Path.home() / on_linux_else) / "quantlab"


def read_json(name: str, is_valid: Callable[[dict], bool] = lambda content: True) -> dict:
    """Return the object in the file `name` of `home()`: {} if there is none.

    A file that holds something else, or an object that is not valid, is set aside under another name, and a message
    says so. Raises OSError that names the fix if the file cannot be read.
    """
    path = home() / name
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and is_valid(content):
            return content
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, RecursionError):
        pass
    except OSError as error:
        raise _failure(error) from error
    aside = _unused(path)
    try:
        os.replace(path, aside)
    except FileNotFoundError:  # another notebook was quicker
        return {}
    except OSError as error:
        raise _failure(error) from error
    display(Message("note", f"{path} was damaged.", (f"It is kept as {aside.name}, and a new one begins.",)))
    return {}


def update_json(
    name: str, change: Callable[[dict], dict], is_valid: Callable[[dict], bool] = lambda content: True
) -> dict:
    """Write `change(content)` in place of what the file `name` of `home()` holds, and return it.

    Two notebooks that do so at the same time take turns. Raises what `read_json` raises.
    """
    path = home() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _turn(path.with_name(f"{name}.lock")):
            content = change(read_json(name, is_valid))
            _write(path, json.dumps(content, indent=1, ensure_ascii=False))
    except OSError as error:
        raise _failure(error) from error
    return content


def _write(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", newline="\n", dir=path.parent, prefix=f"{path.name}.", suffix=".part", delete=False
    ) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(file.name, path)
        except BaseException:
            file.close()
            Path(file.name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _turn(lock: Path) -> Iterator[None]:
    """Wait until nobody else has the lock, which is a file, then have it. (There is no other lock on every system.)"""
    start = time.monotonic()
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            if time.monotonic() - start > _PATIENCE:
                lock.unlink(missing_ok=True)
                start = time.monotonic()
        except PermissionError:  # the folder is read-only; but Windows says so of a lock that is being removed, too
            if sys.platform != "win32" or time.monotonic() - start > _PATIENCE:
                raise
        time.sleep(0.02)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _unused(path: Path) -> Path:
    """Return a name beside `path` that no file has."""
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    return aside


def _failure(error: OSError) -> OSError:
    if "QUANTLAB_HOME" in str(error):
        return error
    return OSError(f"cannot use {home()} ({error}): set QUANTLAB_HOME to a folder of yours")

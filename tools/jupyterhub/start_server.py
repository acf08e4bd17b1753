"""What starts when a student logs in: hand out the notebooks, then be the student's Jupyter server.

JupyterHub runs this as the student, never as root: nothing here can write where the student could not.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

from whole_files import replacing

_RECORD = ".handed_out.json"


def hand_out(notebooks: Path, folder: Path) -> None:
    """Copy every file of `notebooks` into the student's `folder`, unless it is there. What is there is never changed.

    A file that the instructor changed comes as a new one, "01_name (version 2).ipynb". A file that the student
    deleted comes back.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / _RECORD
    versions = json.loads(record.read_text()) if record.exists() else {}  # name -> digests of its versions
    for source in sorted(notebooks.rglob("*")):
        name = source.relative_to(notebooks)
        if source.is_file() and not any(part.startswith(".") for part in name.parts):
            content = source.read_bytes()
            digests = versions.setdefault(str(name), [])
            if (digest := hashlib.sha256(content).hexdigest()) not in digests:
                digests.append(digest)
            number = digests.index(digest) + 1
            target = folder / (name if number == 1 else name.with_stem(f"{name.stem} (version {number})"))
            if not target.exists():
                _write(target, content)
    _write(record, json.dumps(versions, indent=1).encode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, text=False) as file:
        file.write(content)


def main() -> None:
    home = Path.home()
    os.umask(0o077)
    if home.stat().st_uid == os.getuid():  # in a container it may be root's, and nobody else is there
        home.chmod(0o700)  # on many a Linux, a new home can be read by everybody
    # The kernels' sockets are files there, and the name of a socket may have 107 letters: hence a short one.
    os.environ.setdefault("JUPYTER_RUNTIME_DIR", str(home / ".jupyter-run"))
    if limit := int(os.environ.get("MEM_LIMIT") or 0):  # for each process: the server itself, and each kernel
        import resource  # not on Windows, where the tests of hand_out run, too

        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        hand_out(Path(os.environ["QUANTLAB_NOTEBOOKS"]), home / "quantlab")
    except (OSError, ValueError) as error:  # a full disk, a record that was edited: the student can work all the same
        print(f"Could not hand out the notebooks: {error}", file=sys.stderr)

    from jupyterhub.singleuser import main as serve

    serve()


if __name__ == "__main__":
    main()

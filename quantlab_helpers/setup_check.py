"""Is everything there that the course needs? Says yes in one line, or names what to do."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

from IPython.display import display

from .messages import Message

_PYTHON = (3, 11)
# The lowest versions that the notebooks rely on; requirements.txt asks for at least these.
_NEEDED = {
    "numpy": (2, 0),
    "matplotlib": (3, 9),
    "ipywidgets": (8, 1),
    "ml_dtypes": (0, 5),
    "safetensors": (0, 4),
    "gguf": (0, 19),
    "tokenizers": (0, 20),
    "threadpoolctl": (3, 2),
    "tqdm": (4, 66),
    "numba": (0, 61),
}


def check_setup() -> None:
    """Look for each package that the notebooks need, and for its version; show what is missing and the fix."""
    problems = [problem for problem in map(_problem, _NEEDED) if problem]
    if sys.version_info < _PYTHON:
        problems.append(f"this is Python {sys.version.split()[0]}; {'.'.join(map(str, _PYTHON))} or newer is needed")
    if problems:
        fix = f"Run in the course's folder: `{sys.executable} -m pip install -r requirements.txt`, then restart."
        display(Message("hint", "Something is missing.", (*problems, fix)))
    else:
        display(Message("good", f"Python and {', '.join(_NEEDED)}: all here. You are ready.", ()))


def _problem(package: str) -> str:
    needed = ".".join(map(str, _NEEDED[package]))
    try:
        found = version(package)
    except PackageNotFoundError:
        return f"{package} is not installed ({needed} or newer is needed)"
    numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    return "" if numbers >= _NEEDED[package] else f"{package} is {found}; {needed} or newer is needed"

"""Run notebooks and store their outputs as the repository keeps them.

    python tools/refresh_outputs.py                     # all notebooks
    python tools/refresh_outputs.py notebooks/01*.ipynb

Only for authors: it rewrites the outputs of the files that it is given (never their cells' text). It stores no
timings and no widget state: without a kernel, GitHub and JupyterLab show an explorer's picture at its start.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tqdm import tqdm

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"


def run(path: Path) -> nbformat.NotebookNode:
    """The notebook at `path`, run from top to bottom, with its new outputs and the state of its widgets."""
    notebook = nbformat.read(path, as_version=4)
    options = {"timeout": 300, "record_timing": False, "coalesce_streams": True}
    where = {"metadata": {"path": str(path.parent)}}
    return NotebookClient(notebook, kernel_name="python3", resources=where, **options).execute()


def refresh(path: Path) -> None:
    """Run the notebook at `path` and write it back with its new outputs.

    A cell that fails stops it, and so does a disk that is full: the file stays as it was.
    """
    notebook = run(path)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    notebook.metadata.language_info = {"name": "python"}  # the full entry names the author's Python version
    unfinished = path.with_suffix(".ipynb.unfinished")
    try:
        nbformat.write(notebook, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def main(arguments: list[str]) -> None:
    paths = [Path(argument) for argument in arguments] or sorted(NOTEBOOKS.glob("*.ipynb"))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the same sums as in the tests
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # and what is measured against them has one core, too
    with tempfile.TemporaryDirectory() as home:
        os.environ["QUANTLAB_HOME"] = home  # the author's own progress and scores are nobody's business
        for path in tqdm(paths, unit="notebook"):
            refresh(path)


if __name__ == "__main__":
    main(sys.argv[1:])

"""The tool that stores a notebook's outputs: it keeps the text, and a notebook that fails stays as it was."""

import os

import nbformat
import pytest
import refresh_outputs as tool
from nbclient.exceptions import CellExecutionError


def _write(path, *sources):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbformat.write(notebook, path)


def test_outputs_are_stored_without_widgets_and_timings(tmp_path):
    path = tmp_path / "lesson.ipynb"
    _write(path, "import ipywidgets\nprint('before')", "ipywidgets.IntSlider(3)")
    tool.refresh(path)
    stored = nbformat.read(path, as_version=4)
    assert stored.cells[0].outputs[0].text == "before\n"
    assert "text/plain" in stored.cells[1].outputs[0].data
    assert tool.WIDGET not in stored.cells[1].outputs[0].data
    assert "widgets" not in stored.metadata
    assert all("execution" not in cell.metadata for cell in stored.cells)
    assert [p.name for p in tmp_path.iterdir()] == ["lesson.ipynb"]


def test_a_notebook_that_fails_stays_as_it_was(tmp_path):
    path = tmp_path / "lesson.ipynb"
    _write(path, "1 / 0")
    before = path.read_bytes()
    with pytest.raises(CellExecutionError):
        tool.refresh(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["lesson.ipynb"]


def test_until_all_is_written_the_old_notebook_stands(tmp_path, monkeypatch):
    path = tmp_path / "lesson.ipynb"
    _write(path, "1 + 1")
    before = path.read_bytes()

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        tool.refresh(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["lesson.ipynb"]

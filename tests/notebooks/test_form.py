"""What every notebook of the course has in common: its anatomy and the outputs that the repository keeps."""

import re
from urllib.parse import unquote

import course
import pytest

MOST_CODE_LINES = 15  # a class can read that much aloud
MOST_COLUMNS = 100  # more would scroll sideways in JupyterLab on a laptop
WIDGET = "application/vnd.jupyter.widget-view+json"


def _code_cells(name):
    return [cell for cell in course.read(name).cells if cell.cell_type == "code"]


def _prose(name):
    return "\n".join(cell.source for cell in course.read(name).cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("name", course.NAMES)
def test_every_cell_was_run_in_order_without_an_error(name):
    cells = _code_cells(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"]


@pytest.mark.parametrize("name", course.NAMES)
def test_stored_outputs_hold_no_widget_state_timings_or_paths(name):
    notebook = course.read(name)
    assert "widgets" not in notebook.metadata
    for cell in _code_cells(name):
        assert "execution" not in cell.metadata
        for output in cell.outputs:
            assert WIDGET not in output.get("data", {})
            assert not re.search(r"/(home|root|tmp|Users|work)/", str(output.get("data", output.get("text", ""))))


@pytest.mark.parametrize("name", course.NAMES)
def test_no_control_character_is_in_a_cell(name):
    """Such as the form feed that a forgotten backslash makes of \\frac."""
    for cell in course.read(name).cells:
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", cell.source), cell.source


@pytest.mark.parametrize("name", course.NAMES)
def test_code_cells_are_short(name):
    for cell in _code_cells(name):
        lines = cell.source.splitlines()
        assert len(lines) <= MOST_CODE_LINES, cell.source
        assert max(map(len, lines)) <= MOST_COLUMNS, cell.source


def _pages():
    readme = course.FOLDER.parent / "README.md"
    return {readme: readme.read_text(encoding="utf-8"), **{path: _prose(path.stem) for path in course.NOTEBOOKS}}


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.stem)
def test_links_and_images_lead_to_files_that_are_there(page):
    for target in re.findall(r"\]\(([^)#\s]+)", _pages()[page]):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.stem)
def test_links_into_a_notebook_lead_to_a_heading(page):
    """JupyterLab names a heading by its text with dashes for spaces."""
    for name, anchor in re.findall(r"\]\((?:notebooks/)?(\w+)\.ipynb#([^)\s]+)\)", _pages()[page]):
        headings = re.findall(r"^#+ (.+)$", _prose(name), re.MULTILINE)
        assert unquote(anchor) in [heading.replace(" ", "-") for heading in headings], f"{name}: {anchor}"


def test_files_that_the_readme_names_are_there():
    root = course.FOLDER.parent
    named = re.findall(r"`([\w/]+\.(?:py|toml|txt|ipynb))`", (root / "README.md").read_text(encoding="utf-8"))
    assert named
    for name in named:
        assert (root / name).exists() or list(root.glob(f"*/**/{name}")), name


@pytest.mark.parametrize("page", ["README.md", "notebooks/00_start_here.ipynb"])
def test_the_map_lists_every_notebook_with_its_minutes(page):
    page = course.FOLDER.parent / page
    for path in course.NOTEBOOKS:
        if path != page:
            minutes = re.search(r"About (\d+) minutes", _prose(path.stem)).group(1)
            assert re.search(rf"{path.name}\) \|.* \| {minutes} \|", _pages()[page]), path.name


@pytest.mark.parametrize("name", [name for name in course.NAMES if name != "00_start_here"])
def test_anatomy(name):
    source = "\n".join(cell.source for cell in _code_cells(name))
    prose = _prose(name)
    assert "import quantlab_helpers as ql" in _code_cells(name)[0].source
    assert "After this you can" in prose
    assert re.search(r"About \d+ minutes", prose)
    assert "ql.predict(" in source and ".compare(" in source
    assert course.exercises_in(name)
    assert re.search(r"[●○]{3} · \d+ minutes", prose)
    assert "*Your answer:*" in prose and "<summary>A good answer mentions" in prose
    assert "## Summary" in prose
    assert "ql.explorers." in source


def test_the_only_cells_with_ignored_outputs():
    """Only what depends on a model that a learner may not have, or on the computer, such as what measures time."""
    tagged = {
        cell.id
        for name in course.NAMES
        for cell in _code_cells(name)
        if {"nbval-ignore-output", "nbval-skip", "raises-exception"} & set(cell.metadata.get("tags", ()))
        or "NBVAL_" in cell.source
    }
    with_smollm2 = {"06-35", "09-42"}
    timed = {"10-08", "10-09", "10-11", "10-17", "10-19", "10-21", "10-25", "10-29", "11-26", "11-44", "11-48"}
    memory_of_a_process = {"11-24"}
    assert tagged == with_smollm2 | timed | memory_of_a_process

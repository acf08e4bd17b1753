"""Hand-outs: what is stripped is gone, the rest runs, and nothing that exists is ever touched."""

import ast
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import course
import lessons
import make_handout
import nbformat
import pytest
from nbclient import NotebookClient

EVERYTHING = {"outputs", "answers", "explorers"}
GOES_WITH = {  # texts in the prose, and what they are stripped with
    "<details>": "answers",
    "A good answer mentions": "answers",
    "open the fold": "answers",
    "Clear Outputs": "outputs",
    "| **Explorer** |": "explorers",
}
STRIPS = [set(), {"outputs"}, {"answers"}, {"explorers"}, EVERYTHING]


def _read(path):
    return nbformat.read(path, as_version=4)


def _prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def _files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", params=STRIPS, ids=lambda strip: "+".join(sorted(strip)) or "nothing")
def handout(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classroom") / "hand-out"
    make_handout.make_handout(folder, strip=request.param)
    return folder, request.param


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classroom") / "mine"
    make_handout.make_handout(folder, solved=True)
    return folder


@pytest.fixture(scope="module")
def for_nbgrader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classroom") / "course"
    make_handout.make_handout(folder, nbgrader=True)
    return folder


def test_what_is_stripped_is_gone_and_the_rest_is_there(handout):
    folder, strip = handout
    for name in course.NAMES:
        original, notebook = course.read(name), _read(folder / "notebooks" / f"{name}.ipynb")
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert any(cell.outputs for cell in code) == ("outputs" not in strip)
        prose, whole = _prose(notebook), _prose(original)
        for text, part in GOES_WITH.items():
            assert (text in prose) == (text in whole and part not in strip)
        assert prose.count(lessons.ANSWER) == whole.count(lessons.ANSWER)
        shown = [cell for cell in code if "ql.explorers." in cell.source]
        explorers = [cell for cell in original.cells if lessons.without_explorer(cell) is not None]
        assert len(shown) == (0 if "explorers" in strip else len(explorers))
        assert prose.count("there is a panel with sliders here") == len(explorers) - len(shown)
        assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
        nbformat.validate(notebook)
        if not strip:
            assert notebook == original


def test_every_text_that_is_stripped_is_in_the_course():
    whole = "".join(_prose(course.read(name)) for name in course.NAMES)
    assert all(text in whole for text in GOES_WITH)


def test_what_is_left_of_an_explorer_and_of_the_text_below_it(handout):
    folder, strip = handout
    for name in course.NAMES:
        cells = {cell.id: cell for cell in _read(folder / "notebooks" / f"{name}.ipynb").cells}
        for cell, below in itertools.pairwise(course.read(name).cells):
            if lessons.without_explorer(cell) is None:
                continue
            if "explorers" in strip:
                assert cell.id not in cells or not cells[cell.id].outputs
            told, text = "**What to notice.**", cells[below.id].source if below.id in cells else ""
            assert (told in text) == (told in below.source and "answers" not in strip)
            asked = told in below.source and "answers" in strip and "explorers" not in strip
            assert ("**What do you notice?**" in text) == asked


@pytest.mark.parametrize("name", course.NAMES)
def test_an_explorer_ends_its_cell_so_that_nothing_else_goes_with_it(name):
    for cell in course.read(name).cells:
        if (rest := lessons.without_explorer(cell)) is not None:
            assert len(ast.parse(cell.source).body) == len(ast.parse(rest).body) + 1


def test_no_other_text_is_lost(handout):
    """Apart from folds, what is to be noticed below an explorer, and the two lines of notebook 00."""
    folder, strip = handout
    for name in course.NAMES:
        lost = set(_prose(course.read(name)).splitlines())
        lost -= set(_prose(_read(folder / "notebooks" / f"{name}.ipynb")).splitlines())
        if "answers" in strip:
            for part in (lessons.FOLD, lessons.NOTICED):
                lost -= {line for found in part.finditer(_prose(course.read(name))) for line in found[0].splitlines()}
            lost = {line for line in lost if "open the fold below" not in line}
        for line in lost:
            assert name == "00_start_here" and ("Clear Outputs" in line or "| **Explorer**" in line), line


def test_links_and_images_lead_to_files_that_are_there(handout):
    folder, _ = handout
    for path in [folder / "README.md", *(folder / "notebooks").glob("*.ipynb")]:
        text = path.read_text(encoding="utf-8") if path.suffix == ".md" else _prose(_read(path))
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            assert target.startswith("https://") or (path.parent / target).exists(), f"{path}: {target}"


def test_jupyterlab_starts_where_it_can_open_all_links(handout):
    """It opens nothing outside of its root, which is the folder of the notebook if none is given."""
    for folder in (lessons.ROOT, handout[0]):
        start = r"jupyter lab (?:--notebook-dir=(?P<root>\S+) )?(?P<notebook>\S+)"
        command = re.search(start, (folder / "README.md").read_text(encoding="utf-8"))
        first = folder / command["notebook"]
        root = (folder / command["root"] if command["root"] else first.parent).resolve()
        for path in first.parent.glob("*.ipynb"):
            for target in re.findall(r"\]\(([^)#\s]+)", _prose(_read(path))):
                assert target.startswith("https://") or (path.parent / target).resolve().is_relative_to(root), target


def test_it_holds_the_package_and_how_to_start(handout):
    folder, _ = handout
    program = "import quantlab_helpers as ql; ql.check_setup(); print(ql.__file__, len(ql.sample_tensors()))"
    run = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert "You are ready" in run.stdout
    assert str(folder / "quantlab_helpers") in run.stdout
    requirements = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert requirements[-1] == "-e ."
    packages = [found[0] for line in requirements if (found := re.match(r"\w[\w-]*", line))]
    assert len(packages) == len(set(packages))
    assert {"numpy", "jupyterlab", "numba"} < set(packages)
    assert not {"pytest", "nbval", "playwright", "nbconvert"} & set(packages)
    assert not any("tests" in line for line in requirements)
    assert "requirements.txt" in (folder / "README.md").read_text(encoding="utf-8")
    assert not [path for path in folder.rglob("*") if path.name.endswith((".egg-info", ".unfinished"))]


def test_a_stripped_notebook_runs(handout):
    folder, _ = handout
    path = folder / "notebooks" / "01_float32_to_int8.ipynb"
    NotebookClient(_read(path), timeout=120, resources={"metadata": {"path": str(path.parent)}}).execute()


def test_some_notebooks_of_all(tmp_path):
    """Links to those that are left out become plain text."""
    make_handout.main([str(tmp_path / "new"), "--strip", "outputs", "05", "notebooks/01_float32_to_int8.ipynb"])
    found = sorted((tmp_path / "new" / "notebooks").iterdir())
    assert [path.stem for path in found] == ["01_float32_to_int8", "05_per_channel"]
    assert "Next: 2 · What do we really save?" in _prose(_read(found[0]))
    assert "Next: 6 · A small language model, and how" in _prose(_read(found[1]))
    assert "[data card](../quantlab_helpers/data/README.md)" in _prose(_read(found[1]))


def test_a_picture_beside_the_notebooks_goes_along(tmp_path, monkeypatch):
    picture = "![The first lesson](images/lesson.png)"
    notebook = course.read("01_float32_to_int8")
    notebook.cells[0].source += f"\n\n{picture}"
    monkeypatch.setattr(lessons, "read", lambda name: notebook)
    monkeypatch.setattr(make_handout.make_instructor_guide, "guide", str)
    for nbgrader, place in ((False, "notebooks"), (True, "source/01_float32_to_int8")):
        folder = tmp_path / place.split("/")[0]
        make_handout.make_handout(folder, ["01_float32_to_int8"], nbgrader=nbgrader)
        assert (folder / place / "images" / "lesson.png").stat().st_size > 1000
        assert picture in _read(folder / place / "01_float32_to_int8.ipynb").cells[0].source


@pytest.mark.parametrize("arguments", [["5"], ["05"], ["05_per_channel"], ["notebooks/05_per_channel.ipynb", "5"]])
def test_names_of_notebooks(arguments):
    assert make_handout.chosen_names(arguments) == ["05_per_channel"]


def test_the_first_notebook_has_a_number_too_and_no_name_is_none():
    assert make_handout.chosen_names(["0"]) == make_handout.chosen_names(["00"]) == ["00_start_here"]
    with pytest.raises(ValueError, match="there is no notebook ''"):
        make_handout.chosen_names([""])


def test_a_solved_copy_and_its_guide(solved):
    for name in course.NAMES:
        notebook = _read(solved / "notebooks" / f"{name}.ipynb")
        for cell, ours in zip(notebook.cells, course.solved(name).cells, strict=True):
            assert cell.source == (lessons.solved_source(ours.source) if lessons.is_capstone(ours) else ours.source)
            assert lessons.PLACEHOLDER not in cell.source
            assert "not started" not in lessons.text_of(cell)
    assert "# QuantLab: instructor guide" in (solved / "instructor_guide.md").read_text(encoding="utf-8")


def test_no_output_of_a_solved_copy_was_made_without_a_recipe(solved):
    cells = _read(solved / "notebooks" / "11_deploy.ipynb").cells
    capstone = next(i for i, cell in enumerate(cells) if lessons.is_capstone(cell))
    assert any(cell.get("outputs") for cell in cells[:capstone])
    assert not any(cell.get("outputs") for cell in cells[capstone:])


def test_in_a_course_folder_nothing_but_the_marked_cells_differs(for_nbgrader):
    """Without the solutions and the grading cells it is the learners' notebook, stripped."""
    assert {path.name for path in (for_nbgrader / "source").iterdir()} == set(course.NAMES)
    for name in course.NAMES:
        stripped = make_handout.prepared(course.read(name), {"outputs", "answers"}, lambda file: file)
        marked = _read(for_nbgrader / "source" / name / f"{name}.ipynb").cells
        learners = [cell for cell in marked if not cell.metadata.get("nbgrader", {}).get("locked")]
        between = re.compile(r"    ### BEGIN SOLUTION.*### END SOLUTION", re.DOTALL)
        unmarked = [between.sub(lessons.PLACEHOLDER, cell.source) for cell in learners if cell.cell_type == "code"]
        assert unmarked == [cell.source for cell in stripped.cells if cell.cell_type == "code"]
        assert not [cell for cell in marked if cell.get("outputs") or "<details>" in cell.source]


def test_every_exercise_and_reflection_earns_points(for_nbgrader):
    for name in course.NAMES:
        cells = _read(for_nbgrader / "source" / name / f"{name}.ipynb").cells
        marks = [cell.metadata.nbgrader for cell in cells if "nbgrader" in cell.metadata]
        assert len({mark["grade_id"] for mark in marks}) == len(marks)
        assert all(mark["points"] > 0 for mark in marks if mark["grade"])
        assert [mark["grade_id"] for mark in marks if not mark["grade"]] == course.exercises_in(name)
        for cell, below in itertools.pairwise(cells):
            if exercise := lessons.exercise_in(cell):
                assert f'ql.grade("{exercise}", {exercise}, points={below.metadata.nbgrader["points"]})' in below.source
        by_hand = [mark for mark in marks if mark["grade"] and mark["solution"]]
        assert len(by_hand) == _prose(course.read(name)).count(f"\n\n{lessons.ANSWER}\n\n")


def test_a_course_folder_holds_what_students_install_as_any_hand_out_does(for_nbgrader, solved):
    installed = {"pyproject.toml", "requirements.txt"}
    expected = {file for file in _files(solved) if file in installed or file.startswith("quantlab_helpers/")}
    assert _files(for_nbgrader / "for_students") == expected
    for file in expected:
        assert (for_nbgrader / "for_students" / file).read_bytes() == (solved / file).read_bytes()
    assert "`for_students/`" in (for_nbgrader / "README.md").read_text(encoding="utf-8")


def test_the_reflection_asks_for_the_capstone_where_the_readme_says(for_nbgrader):
    readme = (for_nbgrader / "README.md").read_text(encoding="utf-8")
    number = re.search(r"question (\d) of that notebook's reflection asks for it", readme).group(1)
    assert re.search(rf"^{number}\. Which recipe .* capstone", _prose(course.read("11_deploy")), re.MULTILINE)


def test_links_between_assignments(for_nbgrader):
    for path in (for_nbgrader / "source").rglob("*.ipynb"):
        for target in re.findall(r"\]\(([^)#\s]+)", _prose(_read(path))):
            assert target.startswith("https://") or (path.parent / target).exists(), f"{path}: {target}"


@pytest.fixture(params=["hand-out", "nbgrader"])
def options(request):
    return {"nbgrader": request.param == "nbgrader"}


def test_a_hand_out_over_an_existing_folder_is_refused(tmp_path, options):
    folder = tmp_path / "mine"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "notebooks" / "01_float32_to_int8.ipynb").write_text("my answers")
    with pytest.raises(FileExistsError, match=r"exists already.*choose a new name"):
        make_handout.make_handout(folder, **options)
    assert _files(tmp_path) == {"mine/notebooks/01_float32_to_int8.ipynb"}
    assert (folder / "notebooks" / "01_float32_to_int8.ipynb").read_text() == "my answers"


def test_a_second_hand_out_does_not_replace_the_first(tmp_path, capsys):
    make_handout.main([str(tmp_path / "new"), "01"])
    before = {path: (tmp_path / path).read_bytes() for path in _files(tmp_path)}
    with pytest.raises(SystemExit, match=r"Nothing was written: .*new exists already"):
        make_handout.main([str(tmp_path / "new"), "01", "--strip", "outputs"])
    assert {path: (tmp_path / path).read_bytes() for path in _files(tmp_path)} == before


def test_a_file_or_a_link_of_that_name_is_kept(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link", "dangling"):
        with pytest.raises(FileExistsError, match="exists already"):
            make_handout.make_handout(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "elsewhere", "file", "link"]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_empty_folder_may_be_used(tmp_path, options):
    (tmp_path / "empty").mkdir()
    make_handout.make_handout(tmp_path / "empty", ["01_float32_to_int8"], **options)
    assert (tmp_path / "empty" / "README.md").exists()


def test_the_folder_that_one_is_in_is_kept(tmp_path, monkeypatch):
    """To replace it by a new one of the same name would leave the shell in a folder that is gone."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for name in (Path("."), tmp_path / "empty", Path("..") / "empty"):
        with pytest.raises(FileExistsError, match="is the folder that you are in: give the name of a new one"):
            make_handout.make_handout(name)
    assert Path.cwd().samefile(tmp_path / "empty")
    assert not list((tmp_path / "empty").iterdir())


def test_a_folder_in_a_place_that_is_not_there_or_in_the_course_itself(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere to make new in: make it first"):
        make_handout.make_handout(tmp_path / "nowhere" / "new")
    for own in ("notebooks", "quantlab_helpers"):
        with pytest.raises(FileExistsError, match=rf"inside the course's own {own}/"):
            make_handout.make_handout(lessons.ROOT / own / "new")
        assert not (lessons.ROOT / own / "new").exists()


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "interrupted"])
@pytest.mark.parametrize("step", ["copytree", "copy"])
def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch, error, step):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(shutil, step, fail)
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(type(error)):
            make_handout.make_handout(tmp_path / name, ["01_float32_to_int8"])
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_folder_that_somebody_else_fills_in_the_meantime_is_kept(tmp_path, monkeypatch):
    def slow(*_):
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "theirs").write_text("theirs")

    monkeypatch.setattr(make_handout, "_write_folder", slow)
    with pytest.raises(FileExistsError, match="exists already"):
        make_handout.make_handout(tmp_path / "new")
    assert _files(tmp_path) == {"new/theirs"}


def test_what_the_command_says(tmp_path, capsys):
    make_handout.main([str(tmp_path / "new"), "01"])
    assert "1 notebooks" not in (said := capsys.readouterr().out)
    assert "README.md" in said and "give the predictions away" in said
    make_handout.main([str(tmp_path / "stripped"), "01", "05", "--strip", "outputs"])
    assert "predictions" not in (said := capsys.readouterr().out)
    assert "2 notebooks" in said
    with pytest.raises(SystemExit, match=r"Nothing was written: there is no notebook '99'; the notebooks are: 00_"):
        make_handout.main([str(tmp_path / "other"), "99"])
    for contradiction in (["--nbgrader"], ["--strip", "answers"]):
        with pytest.raises(SystemExit):
            make_handout.main([str(tmp_path / "other"), "--solved", *contradiction])
    assert not (tmp_path / "other").exists()

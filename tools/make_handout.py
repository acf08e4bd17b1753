"""Make a hand-out of the course: a new folder with what a class needs to run it.

    python tools/make_handout.py ../monday                                    # everything, as the course has it
    python tools/make_handout.py ../monday 01 05 --strip outputs --strip answers
    python tools/make_handout.py ../mine --solved                             # for you: every exercise solved
    python tools/make_handout.py ../course --nbgrader                         # a course folder for nbgrader

Nothing that exists is ever written over: NEW_FOLDER must be new or empty. If anything fails, nothing is left behind.

  --strip outputs    no stored outputs (they give the predictions away)
  --strip answers    no model answers to the reflections, and no "What to notice" right below an explorer
  --strip explorers  a note in place of each slider panel
  --solved           exercises and the capstone hold their references; the instructor guide lies beside the notebooks
  --nbgrader         source/NAME/NAME.ipynb for `nbgrader generate_assignment NAME`: exercises are solution cells,
                     each followed by a locked cell that grades it, reflections are graded by hand;
                     outputs and answers are always stripped; students install what is in for_students/
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import lessons
import make_instructor_guide
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

_NO_EXPLORER = (
    "*In the full course there is a panel with sliders here. This hand-out leaves it out: skip the request to drag "
    "and its questions, and read on.*"
)
_OPEN_THE_FOLD = re.compile(r", then open the fold below( it)?")
_CLEAR_OUTPUTS = re.compile(r"\*\*Before you start a notebook, choose \*Edit → Clear Outputs.*\n\n")
_EXPLORER_ROW = re.compile(r"^\| \*\*Explorer\*\* \|.*\n", re.MULTILINE)
_LINK = re.compile(r"\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")
_MARKS = ("    ### BEGIN SOLUTION", "    ### END SOLUTION")  # nbgrader cuts out what is between them

_NBGRADER_CONFIG = '''\
"""nbgrader for QuantLab. Run nbgrader in this folder, in an environment that has the course's requirements, too."""

import atexit
import os
import shutil
import tempfile

c = get_config()  # noqa: F821 (nbgrader defines it)
c.CourseDirectory.course_id = "quantlab"
c.ClearSolutions.code_stub = {{"python": "{code}"}}
c.ClearSolutions.text_stub = "{text}"
c.Execute.timeout = 60  # seconds for a cell

# What students pass while they are graded is not your own progress.
os.environ["QUANTLAB_HOME"] = tempfile.mkdtemp(prefix="quantlab-grading-")
atexit.register(shutil.rmtree, os.environ["QUANTLAB_HOME"], ignore_errors=True)
'''

_README = """\
# QuantLab

An interactive Jupyter course on neural-network quantization. In this folder, best in a fresh virtual environment
(Python 3.11 or newer):

```
python -m pip install -r requirements.txt
jupyter lab --notebook-dir=. {first}
```

`requirements.txt` lists all that the notebooks need, and `quantlab_helpers/`, the course's own package, which is
installed from this folder: keep the folder where it is.

{rows}
"""

_README_NBGRADER = """\
# QuantLab for nbgrader

In this folder, in an environment that has the course's `requirements.txt` and `nbgrader`:

```
nbgrader generate_assignment {name}   # source/ -> release/, the students' version
nbgrader autograde {name}             # submitted/STUDENT/{name}/ -> autograded/ and gradebook.db
nbgrader export                       # all scores as grades.csv
nbgrader generate_feedback {name}     # feedback/STUDENT/{name}/, a page for each student
```

Students get `for_students/`, which they install by `python -m pip install -r requirements.txt` in it, and the notebook
from `release/`. Only that one can be graded: one from a plain hand-out has no marks, and nbgrader gives it 0 points
without a word.

A right function earns all points of its exercise; one that is right on some of the examples earns their share.
Reflections are graded by hand: `jupyter lab` in this folder, then the menu *Nbgrader → Formgrader*;
`instructor_guide.md` has model answers. The capstone of notebook 11 is not counted by itself, since its speed depends
on the machine: question 4 of that notebook's reflection asks for it.

{rows}
"""


def make_handout(
    folder: Path, names=lessons.NAMES, *, strip=frozenset(), solved: bool = False, nbgrader: bool = False
) -> None:
    """Write the hand-out to `folder`, which must be new or empty: FileExistsError says what to do."""
    folder = folder.absolute()
    _check_free(folder)
    unfinished = folder.with_name(f"{folder.name}.unfinished-{uuid.uuid4().hex[:8]}")
    try:
        unfinished.mkdir()
        if nbgrader:
            _write_course_folder(unfinished, names, {*strip, "outputs", "answers"})
        else:
            _write_folder(unfinished, names, strip, solved)
        _check_free(folder)  # it took a moment
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _check_free(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()) or (folder.is_dir() and any(folder.iterdir())):
        fix = "choose a new name, or move what is there out of the way"
        raise FileExistsError(f"{folder} exists already, and a hand-out never writes over anything: {fix}")
    if folder.resolve() == Path.cwd():  # an empty folder is replaced by a new one, under the feet of the shell
        raise FileExistsError(f"{folder} is the folder that you are in: give the name of a new one")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {folder.parent} to make {folder.name} in: make it first")
    for own in (lessons.FOLDER, lessons.ROOT / "quantlab_helpers"):
        if own in folder.resolve().parents:
            raise FileExistsError(f"{folder} is inside the course's own {own.name}/: choose a folder elsewhere")


def _write_folder(folder: Path, names, strip, solved: bool) -> None:
    """A folder that runs by itself: notebooks, the package, what it needs and how to start."""

    def link_to(file):
        goes_along = file.startswith("../quantlab_helpers/") or _is_beside_notebooks(file)
        return file if goes_along or Path(file).stem in names else None

    (folder / "notebooks").mkdir()
    for name in names:
        notebook = prepared(lessons.read(name), strip, link_to)
        if solved:
            _solve(notebook)
        nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")
        _copy_linked_files(notebook, folder / "notebooks")
    _write_package(folder)
    rows = _rows(names, "notebooks/{0}.ipynb")
    _write(folder / "README.md", _README.format(first=f"notebooks/{names[0]}.ipynb", rows=rows))
    if solved:
        _write(folder / "instructor_guide.md", make_instructor_guide.guide())


def _write_package(folder: Path) -> None:
    """The course's package, and all that is needed to install it from this folder."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(lessons.ROOT / "quantlab_helpers", folder / "quantlab_helpers", ignore=ignored)
    shutil.copy(lessons.ROOT / "pyproject.toml", folder)
    _write(folder / "requirements.txt", _requirements())


def _write_course_folder(folder: Path, names, strip) -> None:
    """A course folder of nbgrader: one assignment for each notebook, what students install, settings, how to go on."""

    def link_to(file):
        stem = Path(file).stem
        return f"../{stem}/{stem}.ipynb" if stem in names else file if _is_beside_notebooks(file) else None

    for name in names:
        notebook = prepared(lessons.read(name), strip, link_to)
        _mark_for_nbgrader(notebook)
        assignment = folder / "source" / name
        assignment.mkdir(parents=True)
        nbformat.write(notebook, assignment / f"{name}.ipynb")
        _copy_linked_files(notebook, assignment)
    _write_package(folder / "for_students")
    settings = _NBGRADER_CONFIG.format(code=lessons.PLACEHOLDER.strip(), text=lessons.ANSWER)
    _write(folder / "nbgrader_config.py", settings)
    rows = _rows(names, "source/{0}/{0}.ipynb")
    _write(folder / "README.md", _README_NBGRADER.format(name=names[-1], rows=rows))
    _write(folder / "instructor_guide.md", make_instructor_guide.guide())


def prepared(notebook, strip, link_to: Callable[[str], str | None]):
    """The notebook without what is in `strip`; `link_to` gives the new place of a linked file, None for none."""
    cells, below_explorer = [], False
    for cell in notebook.cells:
        rest = lessons.without_explorer(cell)
        if cell.cell_type == "markdown":
            cell.source = _prepared_prose(cell.source, strip, link_to, below_explorer=below_explorer)
        elif "outputs" in strip:
            _clear_outputs(cell)
        below_explorer = rest is not None
        if below_explorer and "explorers" in strip:
            cell.source = rest
            _clear_outputs(cell)
        cells += [cell] if cell.source else []
        if below_explorer and "explorers" in strip:
            cells.append(new_markdown_cell(_NO_EXPLORER, id=f"{cell.id}-note"))
    notebook.cells = cells
    return notebook


def _prepared_prose(text: str, strip, link_to, *, below_explorer: bool) -> str:
    if "answers" in strip:
        text = _OPEN_THE_FOLD.sub("", lessons.FOLD.sub("", text))
        if below_explorer:
            asked = "" if "explorers" in strip else "**What do you notice?**\n\n"
            text = lessons.NOTICED.sub(asked, text, count=1).strip()
    if "outputs" in strip:
        text = _CLEAR_OUTPUTS.sub("", text)
    if "explorers" in strip:
        text = _EXPLORER_ROW.sub("", text)
    return _LINK.sub(lambda link: _relinked(link, link_to), text)


def _relinked(link: re.Match, link_to) -> str:
    """A link with its new target; where there is none, only its text."""
    file, hash_sign, heading = link["target"].partition("#")
    if "://" in file or not file:
        return link[0]
    target = link_to(file)
    return f"[{link['text']}]({target}{hash_sign}{heading})" if target else link["text"]


def _clear_outputs(cell) -> None:
    cell.outputs, cell.execution_count = [], None


def _solve(notebook) -> None:
    """Fill in every exercise and the capstone.

    Outputs below an exercise stay right, because they were made with the reference, too; those below the capstone were
    made without a recipe.
    """
    for cell in notebook.cells:
        if lessons.exercise_in(cell) or lessons.is_capstone(cell):
            cell.source = lessons.solved_source(cell.source)
            _clear_outputs(cell)
    for cell in itertools.dropwhile(lambda cell: not lessons.is_capstone(cell), notebook.cells):
        if cell.cell_type == "code":
            _clear_outputs(cell)


def _mark_for_nbgrader(notebook) -> None:
    """Exercises become solution cells, each with a locked cell below that grades it; answers are graded by hand."""
    points = {section.exercise: section.difficulty.count("●") for section in lessons.sections(notebook)}
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if name := lessons.exercise_in(cell):
            cell.source = lessons.solved_source(cell.source, marks=_MARKS)
            cell.metadata.nbgrader = _nbgrader(name, solution=True)
            source = (
                f'# Checks {name} once more and counts its points.\nql.grade("{name}", {name}, points={points[name]})'
            )
            grading = _nbgrader(f"{name}-points", grade=True, locked=True, points=points[name])
            cells.append(new_code_cell(source, id=f"{cell.id}-points", metadata={"nbgrader": grading}))
        elif cell.source == lessons.ANSWER:
            questions = len(re.findall(r"^\d+\. ", cells[-2].source, re.MULTILINE))
            cell.metadata.nbgrader = _nbgrader(f"reflection-{cell.id}", grade=True, solution=True, points=questions)
    notebook.cells = cells


def _nbgrader(grade_id: str, *, grade=False, solution=False, locked=False, **points) -> dict:
    return {
        "schema_version": 3,
        "grade_id": grade_id,
        "grade": grade,
        "solution": solution,
        "locked": locked,
        "task": False,
        **points,
    }


def _copy_linked_files(notebook, folder: Path) -> None:
    """What the notebook's prose shows or links to in the notebooks' own folder, such as pictures."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for link in _LINK.finditer(text):
        if _is_beside_notebooks(link["target"]):
            copy = folder / link["target"]
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(lessons.FOLDER / link["target"], copy)


def _is_beside_notebooks(target: str) -> bool:
    path = (lessons.FOLDER / target).resolve()
    return path.is_file() and path.suffix != ".ipynb" and lessons.FOLDER in path.parents


def _requirements() -> str:
    """The course's requirements without those of its tests and its website."""
    text = (lessons.ROOT / "requirements.txt").read_text(encoding="utf-8")
    text = re.sub(r"# (?:Tests|Website)\n(?:.+\n)*\n", "", text)
    return text.replace("the course, its tests and its website need", "the course needs")


def _rows(names, place: str) -> str:
    notebooks = {name: lessons.read(name) for name in names}
    rows = (
        f"- [{lessons.title(notebook)}]({place.format(name)}), about {lessons.minutes(notebook)} minutes"
        for name, notebook in notebooks.items()
    )
    return "\n".join(rows)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def chosen_names(arguments: list[str]) -> list[str]:
    """The notebooks that are meant by "05", "05_per_channel" or a path to it, in the course's order; by none: all."""
    meant = []
    for argument in arguments:
        stem = Path(argument).name.removesuffix(".ipynb")
        found = [name for name in lessons.NAMES if stem in (name, name[:2], str(int(name[:2])))]
        if not found:
            raise ValueError(f"there is no notebook {argument!r}; the notebooks are: {', '.join(lessons.NAMES)}")
        meant += found
    return [name for name in lessons.NAMES if name in meant or not arguments]


def main(arguments: list[str]) -> None:
    summary, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="NEW_FOLDER", type=Path)
    parser.add_argument("notebooks", metavar="NOTEBOOK", nargs="*", help="such as 05 or 05_per_channel; default: all")
    parser.add_argument("--strip", action="append", choices=("outputs", "answers", "explorers"), default=[])
    parser.add_argument("--solved", action="store_true")
    parser.add_argument("--nbgrader", action="store_true")
    given = parser.parse_intermixed_args(arguments)
    if given.solved and (given.nbgrader or "answers" in given.strip):
        parser.error("--solved is your own copy: it goes neither with --nbgrader nor with --strip answers")
    try:
        names = chosen_names(given.notebooks)
        options = {"strip": set(given.strip), "solved": given.solved, "nbgrader": given.nbgrader}
        make_handout(given.folder, names, **options)
    except (OSError, ValueError) as error:
        sys.exit(f"Nothing was written: {error}.")
    count = "1 notebook" if len(names) == 1 else f"{len(names)} notebooks"
    print(f"{given.folder}: {count}. How to go on stands in {given.folder / 'README.md'}.")
    if not given.nbgrader and not given.solved and "outputs" not in given.strip:
        print("The stored outputs are still there, and give the predictions away: --strip outputs leaves them out.")


if __name__ == "__main__":
    main(sys.argv[1:])

"""The notebooks of the course as the tools and the tests read them: their cells, sections and solutions."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from quantlab_helpers import capstone, exercises

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]

PLACEHOLDER = "    ...  # your code here"  # what a learner replaces in the cell of an exercise
ANSWER = "*Your answer:*"  # the cell below a reflection
FOLD = re.compile(r"<details>\n<summary>A good answer mentions.*?</summary>\n+(.*?)\n*</details>\n*", re.DOTALL)
# One paragraph: what else answers the questions stands in it, behind a line break. What comes after it is left to all.
NOTICED = re.compile(r"\*\*What to notice\.\*\*\s+(.+?)(?:\n\n|\Z)", re.DOTALL)
_RECIPE = "def recipe("  # how the cell of the capstone begins
_EXERCISE = re.compile(r'^@ql\.exercise\("(\w+)"\)', re.MULTILINE)
_EXPLORER = re.compile(r"^ql\.explorers\.\w+\(.*", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## (?P<title>.+?)(?:\s+(?P<difficulty>[●○]{3}) · (?P<minutes>\d+) minutes)?$", re.MULTILINE)


def read(name: str):
    """The notebook called `name` (without the ending)."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def exercise_in(cell) -> str | None:
    """The name of the exercise that a code cell holds, if it holds one."""
    found = _EXERCISE.search(cell.source) if cell.cell_type == "code" else None
    return found and found.group(1)


def is_capstone(cell) -> bool:
    """Whether it is the code cell in which the recipe of the capstone is written."""
    return cell.cell_type == "code" and cell.source.startswith(_RECIPE)


def without_explorer(cell) -> str | None:
    """The source of a code cell that ends with an explorer, without it; None for any other cell."""
    found = _EXPLORER.search(cell.source) if cell.cell_type == "code" else None
    return found and cell.source[: found.start()].rstrip()


def explorer_in(cell) -> str:
    """The line that shows the explorer."""
    return _EXPLORER.search(cell.source).group(0)


def model_answers(cell) -> list[str]:
    """What a good answer mentions, by the cell's fold, for each question."""
    found = FOLD.search(cell.source) if cell.cell_type == "markdown" else None
    answers = re.split(r"^\d+\. ", found.group(1), flags=re.MULTILINE)[1:] if found else []
    return [answer.strip() for answer in answers]


def text_of(cell) -> str:
    """What a code cell shows, as plain text."""
    outputs = cell.get("outputs", [])
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def minutes(notebook) -> int:
    """What the notebook's first cell says that it takes."""
    return int(re.search(r"About (\d+) minutes", notebook.cells[0].source).group(1))


def title(notebook) -> str:
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


def solved_source(stub: str, *, marks: tuple[str, ...] = ()) -> str:
    """The cell of an exercise, or of the capstone, with the reference's code in place of the placeholder.

    Two `marks`, if given, stand around that code.
    """
    if PLACEHOLDER not in stub:
        raise ValueError(f"this cell has no line {PLACEHOLDER!r}:\n{stub}")
    is_recipe = stub.startswith(_RECIPE)
    reference = capstone.within_budget if is_recipe else exercises.get(_EXERCISE.search(stub).group(1)).reference
    before, after = marks or ("", "")
    return stub.replace(PLACEHOLDER, "\n".join(filter(None, (before, _body(reference), after))))


def _body(function) -> str:
    """The source of a function without its head and its docstring."""
    source = inspect.getsource(function)
    definition = ast.parse(source).body[0]
    head = definition.body[0].end_lineno if ast.get_docstring(definition) else definition.body[0].lineno - 1
    return "\n".join(source.splitlines()[head:]).strip("\n")


@dataclass
class Section:
    """A stretch of a notebook under one heading."""

    title: str
    difficulty: str = ""  # of an exercise or the capstone
    stated: int | None = None  # minutes, where the heading states them
    cells: list = field(default_factory=list)  # (a cell, the part of its text that is in this section)

    @property
    def exercise(self) -> str | None:
        return next((name for cell, _ in self.cells if (name := exercise_in(cell))), None)

    @property
    def holds_capstone(self) -> bool:
        return any(is_capstone(cell) for cell, _ in self.cells)

    @property
    def explorers(self) -> int:
        return sum(without_explorer(cell) is not None for cell, _ in self.cells)

    @property
    def length(self) -> int:
        """How much there is to read: characters of prose and code, without what is folded away."""
        return sum(len(FOLD.sub("", text)) for _, text in self.cells)


def sections(notebook) -> list[Section]:
    """The notebook cut at its headings; what stands before the first one belongs to the opening."""
    found = [Section("Opening")]
    for cell in notebook.cells:
        headings = list(_HEADING.finditer(cell.source)) if cell.cell_type == "markdown" else []
        ends = [heading.start() for heading in headings] + [len(cell.source)]
        found[-1].cells.append((cell, cell.source[: ends[0]]))
        for heading, end in zip(headings, ends[1:], strict=True):
            stated = heading["minutes"] and int(heading["minutes"])
            text = cell.source[heading.end() : end]
            found.append(Section(heading["title"], heading["difficulty"] or "", stated, [(cell, text)]))
    return found

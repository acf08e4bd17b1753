"""Write the instructor guide: plans, minutes, questions with answers, exercises with their mistakes, the capstone.

    python tools/make_instructor_guide.py ../guide.md

All of it is read from the notebooks and from the tables of the exercises and the capstone. NEW_FILE must be new:
nothing is written over.
"""

from __future__ import annotations

import inspect
import itertools
import re
import sys
from pathlib import Path

import lessons

from quantlab_helpers import capstone, exercises

_PER_QUESTION = 2  # minutes to write an answer to a question of a reflection
_PER_EXPLORER = 2  # minutes to drag and to talk about it
_MEETING = 90
# What is taught in each block of a plan: a notebook, and the exercises that the block leaves out.
_NINETY_MINUTES = {"In one go": {"00_start_here": (), "01_float32_to_int8": (), "05_per_channel": ("per_group",)}}
_A_DAY = {
    "First block": {"00_start_here": (), "01_float32_to_int8": (), "02_memory_savings": ()},
    "Second block": {"04_quantized_linear_layer": ("straight_through",), "05_per_channel": ("per_group",)},
    "Third block": {"06_small_language_model": ("mixed_precision",)},
    "Fourth block": {"08_gptq": ()},
}


def guide() -> str:
    """The whole guide in Markdown."""
    notebooks = {name: lessons.read(name) for name in lessons.NAMES}
    parts = ["# QuantLab: instructor guide", _INTRODUCTION, "## Plans", _plans(notebooks)]
    parts += [_chapter(notebook) for notebook in notebooks.values()]
    return "\n\n".join(part for part in parts if part) + "\n"


_INTRODUCTION = f"""\
Read from the notebooks and from the exercises' tables by `tools/make_instructor_guide.py`. It gives all answers away.

Minutes: those of whole notebooks and of exercises are stated in the notebooks. An explorer counts {_PER_EXPLORER}
minutes and a question of a reflection {_PER_QUESTION}; what is left is shared among the sections by their length, as a
rough guide. An exercise that a class leaves out costs nothing: its cell runs as it is, and the reference steps in."""


def block_rows(notebooks: dict, block: dict) -> list[tuple[int, str]]:
    """The rows (minutes, what) of a block of 90 minutes; the last one is what is left for questions."""
    rows = []
    for name, left_out in block.items():
        stated = {section.exercise: section.stated for section in lessons.sections(notebooks[name])}
        without = f", without {' and '.join(f'`{exercise}`' for exercise in left_out)}" if left_out else ""
        minutes = lessons.minutes(notebooks[name]) - sum(stated[exercise] for exercise in left_out)
        rows.append((minutes, lessons.title(notebooks[name]) + without))
    return [*rows, (_MEETING - sum(minutes for minutes, _ in rows), "questions")]


def weeks(notebooks: dict) -> list[list[str]]:
    """All notebooks in their order, cut into three weeks so that the longest is as short as possible."""
    names, count = list(notebooks), len(notebooks)
    cuts = ((names[:a], names[a:b], names[b:]) for a, b in itertools.combinations(range(1, count), 2))
    return min(map(list, cuts), key=lambda parts: max(_total(notebooks, part) for part in parts))


def _total(notebooks: dict, names) -> int:
    return sum(lessons.minutes(notebooks[name]) for name in names)


def _plans(notebooks: dict) -> str:
    parts = []
    for title, blocks in (("90 minutes", _NINETY_MINUTES), ("A day: four blocks of 90 minutes", _A_DAY)):
        parts.append(f"### {title}")
        for name, block in blocks.items():
            rows = block_rows(notebooks, block)
            parts.append(_table(["minutes", name], [*rows, (f"**{sum(m for m, _ in rows)}**", "**together**")]))
    parts.append("### Three weeks")
    for number, names in enumerate(weeks(notebooks), start=1):
        rows = [(lessons.minutes(notebooks[name]), lessons.title(notebooks[name])) for name in names]
        total = _total(notebooks, names)
        at_home = max(0, total - 2 * _MEETING)
        plan = f"{total - at_home} in two meetings of {_MEETING}, {at_home} at home"
        parts.append(_table(["minutes", f"Week {number}"], [*rows, (f"**{total}**", f"**together: {plan}**")]))
    return "\n\n".join(parts)


def _chapter(notebook) -> str:
    sections = lessons.sections(notebook)
    goals = re.search(r"\*\*After this you can\*\*\n(?:- .*\n?)+", notebook.cells[0].source).group(0).strip()
    rows = [(m or "under 1", _named(s)) for m, s in zip(section_minutes(notebook), sections, strict=True)]
    parts = [
        f"## {lessons.title(notebook)} ({lessons.minutes(notebook)} minutes)",
        goals,
        _table(["minutes", "section"], rows),
        _predictions(notebook),
        _explorers(notebook),
        *(_exercise(section) for section in sections if section.exercise),
        *(_capstone(section) for section in sections if section.holds_capstone),
        _reflections(notebook),
    ]
    return "\n\n".join(part for part in parts if part)


def section_minutes(notebook) -> list[int]:
    """Minutes of each section; together those of the notebook."""
    sections = lessons.sections(notebook)
    fixed = [
        (section.stated or 0) + _PER_EXPLORER * section.explorers + _PER_QUESTION * len(_questions(section))
        for section in sections
    ]
    rest = lessons.minutes(notebook) - sum(fixed)
    ends = itertools.accumulate(section.length for section in sections)
    length = sum(section.length for section in sections)
    shared = [0, *(round(rest * end / length) for end in ends)]  # up to the end of each: so they add up
    return [
        minutes + after - before for minutes, (before, after) in zip(fixed, itertools.pairwise(shared), strict=True)
    ]


def _named(section) -> str:
    what = f"{section.difficulty} `{section.exercise}`" if section.exercise else section.difficulty
    return f"{section.title} ({what}, of these {section.stated})" if section.stated else section.title


def _questions(section) -> list[str]:
    """The numbered questions of a reflection."""
    if not section.title.endswith("Reflect"):
        return []
    return re.findall(r"^\d+\. (.+)$", section.cells[0][1], re.MULTILINE)


def _predictions(notebook) -> str:
    """Each question that learners commit to, with what the notebook measures later."""
    asked, measured = {}, {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            asked.update((name, text) for name, _, text in _PREDICT.findall(cell.source))
            told = _MEASURED.findall(lessons.text_of(cell))
            measured.update(zip(_COMPARE.findall(cell.source), told, strict=True))
    rows = [f"- {text} *{measured[name]}*" for name, text in asked.items()]
    return "\n".join(["### Predictions\n", *rows]) if rows else ""


_PREDICT = re.compile(r"(\w+) = ql\.predict\(\s*([\"'])(.*?)\2")
_COMPARE = re.compile(r"(\w+)\.compare\(")
_MEASURED = re.compile(r"Measured: (.*)\.$", re.MULTILINE)


def _explorers(notebook) -> str:
    """The questions above each explorer, and what is to be noticed."""
    parts = []
    for before, cell, after in zip(notebook.cells, notebook.cells[1:], notebook.cells[2:], strict=False):
        if lessons.without_explorer(cell) is not None and (noticed := lessons.NOTICED.search(after.source)):
            asked = re.search(r"^1\. .+\Z", before.source, re.MULTILINE | re.DOTALL).group(0)
            parts.append(f"`{lessons.explorer_in(cell)}`\n\n{asked}\n\n{noticed.group(1)}")
    return "\n\n".join(["### Explorers", *parts]) if parts else ""


def _exercise(section) -> str:
    task = exercises.get(section.exercise)
    mistakes = [(_plain(wrong.mistake), _plain(wrong.hint)) for wrong in task.wrong_answers]
    hints = "\n".join(f"{step}. {_plain(hint)}" for step, hint in enumerate(task.hints, start=1))
    return "\n\n".join(
        [
            f"### Exercise `{task.name}` {section.difficulty} ({section.stated} minutes)",
            f"Checked: {_plain(task.checked)}.",
            f"Hints:\n\n{hints}",
            _table(["common mistake", "the hint that it earns"], mistakes),
            f"```python\n{inspect.getsource(task.reference).rstrip()}\n```",
        ]
    )


def _capstone(section) -> str:
    budget = capstone.Budget()
    hints = [(what, _plain(hint)) for what, hint in capstone.HINTS.items()]
    return "\n\n".join(
        [
            f"### Capstone {section.difficulty} ({section.stated} minutes)",
            f"Limits: at most {budget.megabytes:g} MB for all weights, at least {budget.tokens_per_second:g} tokens/s "
            f"on the learner's computer, a KL of at most {budget.divergence:g}.",
            _table(["what is wrong", "the hint that it earns"], hints),
            f"```python\n{inspect.getsource(capstone.within_budget).rstrip()}\n```",
        ]
    )


def _reflections(notebook) -> str:
    questions = [question for section in lessons.sections(notebook) for question in _questions(section)]
    answers = [answer for cell in notebook.cells for answer in lessons.model_answers(cell)]
    rows = zip(questions, answers, strict=True)
    parts = [f"**{question.replace('**', '')}**\n\n{answer}" for question, answer in rows]
    return "\n\n".join(["### Reflections", *parts]) if parts else ""


def _plain(text: str) -> str:
    """Text of an exercise as Markdown: code in backticks and *emphasis* stay, but 2**b is no bold type."""
    special = re.compile(r"`[^`]*`|\*\*|[<$]")
    return special.sub(lambda found: found[0] if "`" in found[0] else re.sub(r"(.)", r"\\\1", found[0]), text)


def _table(headers: list[str], rows: list[tuple]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(str(value).replace('|', chr(92) + '|') for value in line)} |" for line in lines)


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        sys.exit(__doc__)
    path, text = Path(arguments[0]), guide()
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        sys.exit(f"{path} exists already, and nothing is written over: choose a new name.")
    except OSError as error:
        sys.exit(f"Nothing was written: {error}.")
    print(f"Written: {path}")


if __name__ == "__main__":
    main(sys.argv[1:])

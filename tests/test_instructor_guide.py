"""The instructor guide: every exercise, mistake and reflection and the capstone are in it, and its minutes add up."""

import inspect
import re

import course
import lessons
import make_instructor_guide as tool
import pytest

from quantlab_helpers import capstone, exercises


@pytest.fixture(scope="module")
def guide():
    return tool.guide()


@pytest.fixture(scope="module")
def notebooks():
    return {name: course.read(name) for name in course.NAMES}


def _unescaped(text):
    return text.replace("\\", "")


@pytest.mark.parametrize("name", exercises.names())
def test_every_exercise_with_what_it_checks_and_its_mistakes(guide, name):
    task = exercises.get(name)
    start = guide.index(f"### Exercise `{name}` ")
    part = _unescaped(guide[start : guide.index("\n```\n", start)])
    assert _unescaped(f"Checked: {task.checked}.") in part
    assert all(_unescaped(hint) in part for hint in task.hints)
    for wrong in task.wrong_answers:
        assert _unescaped(f"| {wrong.mistake} | {wrong.hint} |") in part
    assert f"def {name}(" in part


def test_formulas_in_plain_text_are_no_markdown():
    assert tool._plain("2**b or `2**b`, *never* a < b") == r"2\*\*b or `2**b`, *never* a \< b"
    assert tool._table(["a"], [("x | y",)]).splitlines()[-1] == r"| x \| y |"


@pytest.mark.parametrize("name", course.NAMES)
def test_every_reflection_with_its_model_answer(guide, name):
    prose = "\n\n".join(cell.source for cell in course.read(name).cells if cell.cell_type == "markdown")
    reflect = prose.partition("Reflect\n")[2].partition(lessons.ANSWER)[0]
    questions = re.findall(r"^\d\. (.+)$", reflect, re.MULTILINE)
    answers = re.findall(r"^\d\. (.+)$", "\n".join(fold[0] for fold in lessons.FOLD.finditer(prose)), re.MULTILINE)
    assert len(questions) == len(answers)
    assert bool(questions) == (name != "00_start_here")
    for question, answer in zip(questions, answers, strict=True):
        assert f"**{question.replace('**', '')}**\n\n{answer}\n" in guide


def test_nothing_is_twice_bold(guide):
    assert "****" not in guide


def test_the_capstone_with_its_minutes_limits_hints_and_recipe(guide):
    chapter = guide[guide.index("\n## 11 · ") :]
    assert guide.count("### Capstone") == chapter.count("### Capstone") == 1
    part = chapter.partition("### Capstone ")[2].partition("\n### ")[0]
    prose = "\n\n".join(cell.source for cell in course.read("11_deploy").cells if cell.cell_type == "markdown")
    minutes = re.search(r"^## 10\. Capstone: .* · (\d+) minutes$", prose, re.MULTILINE).group(1)
    assert part.startswith(f"●●● ({minutes} minutes)\n")
    assert f"10. Capstone: within a budget (●●●, of these {minutes}) |" in chapter
    limits = capstone.Budget()
    assert f"{limits.megabytes} MB" in part and f"{limits.tokens_per_second} tokens/s" in part
    assert f"KL of at most {limits.divergence}" in part
    assert all(f"| {_unescaped(hint)} |" in _unescaped(part) for hint in capstone.HINTS.values())
    assert inspect.getsource(capstone.within_budget) in part


@pytest.mark.parametrize("name", course.NAMES)
def test_every_prediction_and_explorer(guide, name):
    code = [cell for cell in course.read(name).cells if cell.cell_type == "code"]
    for cell in code:
        for question in re.findall(r'ql\.predict\(\s*"([^"]+)"', cell.source):
            assert re.search(rf"^- {re.escape(question)} \*.+\*$", guide, re.MULTILINE)
        if name != "00_start_here" and lessons.without_explorer(cell) is not None:
            assert f"`{lessons.explorer_in(cell)}`\n\n1. " in guide


@pytest.mark.parametrize("name", course.NAMES)
def test_minutes_of_sections_add_up_to_those_of_the_notebook(notebooks, name):
    minutes = tool.section_minutes(notebooks[name])
    sections = lessons.sections(notebooks[name])
    assert sum(minutes) == lessons.minutes(notebooks[name])
    assert all(m >= (section.stated or 0) for m, section in zip(minutes, sections, strict=True))
    assert [section.exercise for section in sections if section.exercise] == course.exercises_in(name)
    assert all(section.difficulty and section.stated for section in sections if section.exercise)


@pytest.mark.parametrize("plan", [tool._NINETY_MINUTES, tool._A_DAY])
def test_each_block_takes_ninety_minutes_and_the_course_keeps_its_order(notebooks, plan):
    for block in plan.values():
        rows = tool.block_rows(notebooks, block)
        assert sum(minutes for minutes, _ in rows) == 90
        assert all(minutes > 0 for minutes, _ in rows)
    taught = [name for block in plan.values() for name in block]
    assert taught == sorted(set(taught))


def test_three_weeks_hold_every_notebook_in_order(notebooks, guide):
    weeks = tool.weeks(notebooks)
    assert len(weeks) == 3
    assert [name for week in weeks for name in week] == course.NAMES
    totals = [sum(lessons.minutes(notebooks[name]) for name in week) for week in weeks]
    told = re.findall(
        r"\*\*(\d+)\*\* \| \*\*together: (\d+) in two meetings of 90, (\d+) at home\*\*", guide.partition("## 0 ·")[0]
    )
    assert [int(total) for total, _, _ in told] == totals
    assert all(int(total) == int(in_class) + int(at_home) for total, in_class, at_home in told)
    assert all(int(in_class) <= 180 for _, in_class, _ in told)


def test_it_is_written_to_a_new_file_only(tmp_path, capsys):
    tool.main([str(tmp_path / "guide.md")])
    assert (tmp_path / "guide.md").read_text(encoding="utf-8").startswith("# QuantLab: instructor guide")
    (tmp_path / "guide.md").write_text("my notes")
    with pytest.raises(SystemExit, match="exists already"):
        tool.main([str(tmp_path / "guide.md")])
    assert (tmp_path / "guide.md").read_text() == "my notes"
    with pytest.raises(SystemExit, match="Nothing was written"):
        tool.main([str(tmp_path / "nowhere" / "guide.md")])

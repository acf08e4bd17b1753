"""Every exercise: its reference passes, and each known wrong answer fails with the hint that it earns."""

import ast
import inspect

import course
import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers import exercises

NAMES = exercises.names()
WRONG_ANSWERS = [(name, wrong) for name in NAMES for wrong in exercises.get(name).wrong_answers]


@pytest.mark.parametrize("name", NAMES)
def test_reference_passes(name):
    task = exercises.get(name)
    assert task.name == name
    assert task.check(task.reference).state == "passed"


@pytest.mark.parametrize(("name", "wrong"), WRONG_ANSWERS, ids=lambda x: getattr(x, "mistake", x))
def test_wrong_answer_earns_its_own_hint(name, wrong):
    report = exercises.get(name).check(wrong.function)
    assert report.state == "failed"
    assert report.hint == wrong.hint
    assert len(report.example) == 3


@pytest.mark.parametrize("name", NAMES)
def test_at_least_four_wrong_answers_each_with_a_hint_of_its_own(name):
    hints = [wrong.hint for wrong in exercises.get(name).wrong_answers]
    assert len(hints) >= 4
    assert len(set(hints)) == len(hints)


@pytest.mark.parametrize("name", NAMES)
def test_reference_is_a_solution_that_can_be_pasted(name):
    """It uses nothing but its arguments, numpy as np and the course as ql."""
    tree = ast.parse(inspect.getsource(exercises.get(name).reference))
    assert len(tree.body) == 1
    scope: dict = {"np": np, "ql": ql}
    exec(compile(tree, name, "exec"), scope)
    assert exercises.get(name).check(scope[exercises.get(name).reference.__name__]).state == "passed"


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_is_in_just_one_notebook_under_the_name_of_its_reference(name):
    cells = [cell for n in course.NAMES for cell in course.read(n).cells if course.exercise_in(cell) == name]
    assert len(cells) == 1
    stub = next(node for node in ast.parse(cells[0].source).body if isinstance(node, ast.FunctionDef))
    reference = exercises.get(name).reference
    assert stub.name == reference.__name__
    assert [a.arg for a in stub.args.args] == list(inspect.signature(reference).parameters)
    assert ast.get_docstring(stub)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "unfinished",
    [lambda *a: None, lambda *a: 1 / 0, lambda: 0, lambda *a: "text", lambda *a: ..., lambda *a: [[1], [2, 3]]],
    ids=["None", "raises", "wrong signature", "text", "ellipsis", "ragged"],
)
def test_whatever_a_learner_writes_the_reference_steps_in(name, unfinished, capsys):
    lent = ql.exercise(name)(unfinished)
    assert lent is exercises.get(name).reference
    assert name in capsys.readouterr().out


def _raise_not_implemented(*arguments):
    raise NotImplementedError


@pytest.mark.parametrize("stub", [lambda *a: None, _raise_not_implemented])
def test_a_stub_counts_as_not_started(stub):
    assert exercises.get("zero_point").check(stub).state == "not started"


def test_a_function_that_changes_its_input_is_told_so():
    def in_place(x, num_bits):
        x -= x
        return x, num_bits

    assert "changes the array" in exercises.get("zero_point").check(in_place).hint


def test_an_error_in_the_function_is_named_with_its_line():
    def broken(x, num_bits):
        return x.no_such_attribute

    hint = exercises.get("zero_point").check(broken).hint
    assert "AttributeError" in hint and "x.no_such_attribute" in hint


def test_a_passing_function_is_kept(capsys):
    mine = exercises.get("zero_point").reference
    assert ql.exercise("zero_point")(lambda x, b: mine(x, b)) is not mine
    assert "✓ zero_point: passed" in capsys.readouterr().out


def test_hints_climb_their_ladder_and_stay_on_the_last(capsys):
    ladder = exercises.get("zero_point").hints
    shown = []
    for _ in range(len(ladder) + 1):
        ql.hint("zero_point")
        shown.append(capsys.readouterr().out)
    assert all(text in out for text, out in zip(ladder, shown, strict=False))
    assert ladder[-1] in shown[-1]


def test_the_solution_is_shown_only_after_an_attempt(monkeypatch, capsys):
    monkeypatch.setattr(exercises, "_attempts", {})
    ql.show_solution("zero_point")
    assert "Try it first" in capsys.readouterr().out
    ql.exercise("zero_point")(lambda x, num_bits: None)  # a stub is no attempt
    ql.show_solution("zero_point")
    assert "Try it first" in capsys.readouterr().out
    ql.exercise("zero_point")(lambda x, num_bits: (1, 2))
    capsys.readouterr()
    ql.show_solution("zero_point")
    assert "Try it first" not in capsys.readouterr().out


def test_an_unknown_exercise_is_an_error_that_lists_the_names():
    with pytest.raises(ValueError, match=r"no exercise 'zero_pint'.*zero_point"):
        ql.exercise("zero_pint")

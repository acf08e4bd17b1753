"""Every exercise: its reference passes, and each known wrong answer fails with the hint that it earns."""

import ast
import functools
import inspect
import sys
import warnings

import course
import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers import exercises

NAMES = exercises.names()
WRONG_ANSWERS = [
    pytest.param(name, wrong, function, id=f"{name}-{wrong.mistake}-{i}")
    for name in NAMES
    for wrong in exercises.get(name).wrong_answers
    for i, function in enumerate(wrong.functions)
]


@pytest.mark.parametrize("name", NAMES)
def test_reference_passes(name):
    task = exercises.get(name)
    assert task.name == name
    report = task.check(task.reference)
    assert report.state == "passed"
    assert report.right == report.tried == len(task.all_cases())


@pytest.mark.parametrize(("name", "wrong", "function"), WRONG_ANSWERS)
def test_wrong_answer_earns_its_own_hint(name, wrong, function):
    report = exercises.get(name).check(function)
    assert report.state == "failed"
    assert report.hint == wrong.hint
    assert len(report.example) == 3
    assert 0 <= report.right < report.tried


@pytest.mark.parametrize("name", NAMES)
def test_reference_runs_without_a_warning(name):
    task = exercises.get(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for case in task.all_cases():
            task.reference(*case)


@pytest.mark.parametrize("name", [name for name in NAMES if len(exercises.get(name).outputs) > 1])
def test_right_values_in_another_order_are_told_so(name):
    task = exercises.get(name)
    report = task.check(lambda *arguments: tuple(reversed(task.reference(*arguments))))
    assert "in another order" in report.hint


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
    [
        functools.partial(lambda *a: None),
        lambda *a: None,
        lambda *a: 1 / 0,
        lambda: 0,
        lambda *a: "text",
        lambda *a: ...,
        lambda *a: [[1], [2, 3]],
        lambda *a: sys.exit(),
    ],
    ids=["partial", "None", "raises", "wrong signature", "text", "ellipsis", "ragged", "exits"],
)
def test_whatever_a_learner_writes_the_reference_steps_in(name, unfinished, capsys):
    lent = ql.exercise(name)(unfinished)
    assert lent is exercises.get(name).reference
    assert name in capsys.readouterr().out


def _raise_not_implemented(*arguments):
    raise NotImplementedError


def _only_a_docstring(x, num_bits):
    """Return (scale, zero_point)."""
    ...


def _forgot_return(x, num_bits):
    scale = (x.max() - x.min()) / (2**num_bits - 1)
    print(scale)


@pytest.mark.parametrize("stub", [lambda *a: None, _only_a_docstring, _raise_not_implemented])
def test_a_stub_counts_as_not_started(stub):
    assert exercises.get("affine_qparams").check(stub).state == "not started"


def test_code_that_forgot_its_return_is_an_attempt(capsys):
    report = exercises.get("affine_qparams").check(_forgot_return)
    assert report.state == "failed"
    assert "`return`" in report.hint
    assert len(capsys.readouterr().out.splitlines()) == 1  # it prints for the first case only


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x, b: (np.zeros(x.shape, np.int8), np.array([2.0])), "`scale`: The shape is (1,)"),
        (lambda x, b: np.zeros(x.shape, np.int8), "Return 2 values: `codes, scale`"),
        (lambda x, b: (np.full(x.shape, 9, np.int8), _REFERENCE(x, b)[1]), "`scale`: right. Not yet: `codes`"),
        (lambda x, b: (_REFERENCE(x, b)[0].astype(int), _REFERENCE(x, b)[1]), "should be int8"),
        (lambda x, b: (_REFERENCE(x, b)[0].tolist(), _REFERENCE(x, b)[1]), "`codes`: This is a list: return an array"),
        (lambda x, b: (_REFERENCE(x, b)[0], [_REFERENCE(x, b)[1]]), "`scale`: Return one number"),
    ],
)
def test_a_mistake_that_nobody_foresaw_is_narrowed_down(function, told):
    assert told in exercises.get("quantize_symmetric").check(function).hint


_REFERENCE = exercises.get("quantize_symmetric").reference


def test_several_numbers_may_come_as_one_array():
    task = exercises.get("affine_qparams")
    assert task.check(lambda x, b: list(task.reference(x, b))).state == "passed"
    three = exercises.get("your_tensor")
    assert three.check(lambda *arguments: np.array(three.reference(*arguments))).state == "passed"


def test_the_example_shows_as_many_digits_as_it_takes_to_see_the_difference():
    def nearly(x, num_bits):
        codes, scale = _REFERENCE(x, num_bits)
        return codes, scale * (1 + 1e-4)

    _, expected, yours = exercises.get("quantize_symmetric").check(nearly).example
    assert expected.removeprefix("expected ") != yours.removeprefix("yours is ")


def _half_up(x, num_bits):
    codes, scale = [], float(max(abs(v) for v in x.ravel()) / (2 ** (num_bits - 1) - 1)) or 1.0
    for v in x.ravel():
        codes.append(int(np.floor(v / scale + 0.5)))
    return np.array(codes, dtype="int8").reshape(x.shape), scale


def _reciprocal_in_float32(x, num_bits):
    scale = np.float32(np.abs(x).max()) / np.float32(2 ** (num_bits - 1) - 1) or np.float32(1)
    return [np.rint(x * (1 / scale)).astype(np.int8), scale]


@pytest.mark.parametrize("another_style", [_half_up, _reciprocal_in_float32])
def test_a_right_answer_in_another_style_passes(another_style):
    assert exercises.get("quantize_symmetric").check(another_style).state == "passed"


def test_a_missing_guard_does_not_hide_another_mistake():
    def two_mistakes(x, num_bits):
        scale = (x.max() - x.min()) / (2**num_bits - 1)
        return scale, round(-x.min() / scale)  # fails for all zeros, too

    assert "may lie outside it" in exercises.get("affine_qparams").check(two_mistakes).hint


def test_a_function_that_changes_its_input_is_told_so():
    def in_place(x, num_bits):
        x -= x
        return x, num_bits

    assert "changes the array" in exercises.get("affine_qparams").check(in_place).hint


def _broken_inside_numpy(x, num_bits):
    return np.reshape(x, (7, 7, 7))


def _broken_itself(x, num_bits):
    return x.no_such_attribute


def _exits(x, num_bits):
    sys.exit()


@pytest.mark.parametrize(
    ("function", "error", "line"),
    [
        (_broken_itself, "AttributeError: ", "at `return x.no_such_attribute`"),
        (_broken_inside_numpy, "ValueError: ", "at `return np.reshape(x, (7, 7, 7))`"),
        (_exits, "SystemExit, ", "at `sys.exit()`"),  # an error that says nothing
    ],
)
def test_an_error_in_the_function_is_named_with_its_line(function, error, line):
    hint = exercises.get("affine_qparams").check(function).hint
    assert error in hint and line in hint


def test_a_wrong_number_of_arguments_is_not_blamed_on_a_line():
    hint = exercises.get("affine_qparams").check(lambda x: x).hint
    assert "takes 1 positional argument but 2 were given." in hint and ", at" not in hint


def test_a_mistake_made_only_now_and_then_is_not_taken_for_a_known_one():
    task = exercises.get("quantize_symmetric")
    known = {wrong.mistake: wrong for wrong in task.wrong_answers}["scale upside down (qmax / absmax)"]

    def now_and_then(x, num_bits):
        return known.functions[0](x, num_bits) if num_bits in (2, 4) else (x.astype(np.int8) + 7, 3.0)

    report = task.check(now_and_then)
    assert report.state == "failed"
    assert report.hint not in [wrong.hint for wrong in task.wrong_answers]


def test_a_passing_function_is_kept(capsys):
    mine = exercises.get("affine_qparams").reference
    assert ql.exercise("affine_qparams")(lambda x, b: mine(x, b)) is not mine
    assert "✓ affine_qparams: passed" in capsys.readouterr().out


def test_hints_climb_their_ladder_and_stay_on_the_last(capsys):
    ladder = exercises.get("affine_qparams").hints
    shown = []
    for _ in range(len(ladder) + 1):
        ql.hint("affine_qparams")
        shown.append(capsys.readouterr().out)
    assert all(text in out for text, out in zip(ladder, shown, strict=False))
    assert ladder[-1] in shown[-1]


def test_the_solution_is_shown_only_after_an_attempt(monkeypatch, capsys):
    monkeypatch.setattr(exercises, "_attempts", {})
    ql.show_solution("affine_qparams")
    assert "Try it first" in capsys.readouterr().out
    ql.exercise("affine_qparams")(lambda x, num_bits: None)  # a stub is no attempt
    ql.show_solution("affine_qparams")
    assert "Try it first" in capsys.readouterr().out
    ql.exercise("affine_qparams")(lambda x, num_bits: (1, 2))
    capsys.readouterr()
    ql.show_solution("affine_qparams")
    assert "Try it first" not in capsys.readouterr().out


def test_an_unknown_exercise_is_an_error_that_lists_the_names():
    with pytest.raises(ValueError, match=r"no exercise 'affine_qparam'.*affine_qparams"):
        ql.exercise("affine_qparam")

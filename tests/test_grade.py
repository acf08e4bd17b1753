"""Points for nbgrader: for what the learner wrote, not for the reference that was lent."""

import pytest

import quantlab_helpers as ql
from quantlab_helpers import exercises

TASK = exercises.get("per_channel")


@pytest.fixture(autouse=True)
def a_new_session(monkeypatch):
    monkeypatch.setattr(exercises, "_latest", {})


def _right(weight, num_bits):
    return TASK.reference(weight, num_bits)


def _right_but_for_zeros(weight, num_bits):
    codes, scales = TASK.reference(weight, num_bits)
    return codes, scales * (weight.any(axis=1))


def test_a_right_answer_earns_all_points(capsys):
    assert ql.grade("per_channel", ql.exercise("per_channel")(_right), points=3) == 3.0
    assert "✓ per_channel: 3 of 3 points." in capsys.readouterr().out


def test_an_answer_that_is_right_on_some_examples_earns_their_share_rounded_down(capsys):
    report = TASK.check(_right_but_for_zeros)
    assert 0 < report.right < report.tried
    earned = ql.grade("per_channel", ql.exercise("per_channel")(_right_but_for_zeros), points=2)
    assert 0 <= 2 * report.right / report.tried - earned < 0.1
    assert f"{report.right} of {report.tried} examples" in capsys.readouterr().out


@pytest.mark.parametrize("function", [lambda weight, num_bits: None, lambda weight, num_bits: (1, 2), lambda: 0])
def test_no_answer_and_a_wrong_one_earn_nothing(function):
    assert ql.grade("per_channel", ql.exercise("per_channel")(function), points=2) == 0.0


def test_the_reference_itself_earns_nothing():
    assert ql.grade("per_channel", TASK.reference) == 0.0
    assert ql.grade("per_channel", ql.exercise("per_channel")(TASK.reference)) == 0.0


def test_the_last_version_counts():
    ql.exercise("per_channel")(_right)
    assert ql.grade("per_channel", ql.exercise("per_channel")(lambda weight, num_bits: 0)) == 0.0


def test_without_the_decorator_the_function_itself_counts():
    assert ql.grade("per_channel", _right) == 1.0
    assert ql.grade("per_channel", lambda weight, num_bits: 0) == 0.0


@pytest.mark.parametrize(
    ("points", "error", "told"),
    [
        ("3", TypeError, "points must be a number above 0, not '3'"),
        (None, TypeError, "points must be a number above 0, not None"),
        (True, TypeError, "points must be a number above 0, not True"),
        (-1, ValueError, "points must be finite and above 0, not -1"),
        (float("nan"), ValueError, "points must be finite and above 0, not nan"),
        (float("inf"), ValueError, "points must be finite and above 0, not inf"),
    ],
)
def test_what_is_no_number_of_points_is_refused(points, error, told):
    for function in (_right, lambda weight, num_bits: 0):
        with pytest.raises(error, match=told):
            ql.grade("per_channel", function, points=points)

"""What the course says to a learner: messages, tables, predictions and the check of the set-up."""

import sys

import pytest

import quantlab_helpers as ql
from quantlab_helpers import setup_check
from quantlab_helpers.messages import Message


def test_a_message_has_a_sign_so_that_colour_is_not_needed():
    for kind, sign in (("good", "✓"), ("hint", "✗"), ("note", "○")):
        message = Message(kind, "Title.", ("line",))
        assert repr(message) == f"{sign} Title.\n  line"
        assert f"{sign} Title." in message._repr_html_()


def test_a_message_escapes_html_and_sets_code():
    shown = Message("note", "a < b & `x[0] <= 1`")._repr_html_()
    assert "a &lt; b &amp; <code>x[0] &lt;= 1</code>" in shown


def test_a_table_lines_up_as_text():
    table = ql.Table(["bits", "SQNR (dB)"], [["8", 40.5], ["4", 16.6]], caption="Two widths")
    assert repr(table).splitlines() == [
        "Two widths",
        "bits  SQNR (dB)",
        "----  ---------",
        "8          40.5",
        "4          16.6",
    ]


def test_a_table_is_escaped_in_html():
    shown = ql.Table(["a<b"], [["<i>"]])._repr_html_()
    assert "a&lt;b" in shown and "&lt;i&gt;" in shown and "<i>" not in shown


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="each row needs 2 values"):
        ql.Table(["a", "b"], [[1]])


@pytest.mark.parametrize(
    ("answer", "measured", "said"),
    [
        (None, 0.5, "○ Measured: 0.5."),
        (0.5, 0.5, "✓ You predicted 0.5, measured 0.5: spot on."),
        (0.48, 0.5, "✓ You predicted 0.48, measured 0.5: very near."),
        (1, 0.5, "○ You predicted 1, measured 0.5: 2 times too high."),
        (0.05, 0.5, "○ You predicted 0.05, measured 0.5: 10 times too low."),
        (1e6, 0.5, "2,000,000 times too high"),
        (-1, 0.5, "○ You predicted -1, measured 0.5: 1.5 apart."),
        (0, 0.5, "○ You predicted 0, measured 0.5: 0.5 apart."),
        (-10, -5, "○ You predicted -10, measured -5: 5 apart."),
        (-5, -10, "○ You predicted -5, measured -10: 5 apart."),
        (2, -4, "○ You predicted 2, measured -4: 6 apart."),
        (3, 0, "○ You predicted 3, measured 0: 3 apart."),
        (-9.5, -10, "✓ You predicted -9.5, measured -10: very near."),
        ("0.5", 0.5, "spot on"),
    ],
)
def test_a_number_is_compared_with_what_was_measured(answer, measured, said, capsys):
    guess = ql.predict("How much?", answer=answer)
    capsys.readouterr()
    guess.compare(measured)
    assert said in capsys.readouterr().out


def test_a_unit_stands_behind_both_numbers(capsys):
    ql.predict("How many?", answer=6).compare(6.02, "dB")
    assert "You predicted 6 dB, measured 6.02 dB: very near." in capsys.readouterr().out


def test_decibels_are_compared_by_their_difference(capsys):
    ql.predict("How many?", answer=6).compare(9, "dB")
    assert "You predicted 6 dB, measured 9 dB: 3 dB apart." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "said"),
    [("INT8", "✓ You predicted INT8"), ("int8", "✓ You predicted INT8"), ("FP8", "○ You predicted FP8")],
)
def test_a_choice_is_compared_with_what_was_measured(answer, said, capsys):
    ql.predict("Which?", answer=answer, choices=["INT8", "FP8"]).compare("INT8")
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("answer", ["much", True, float("nan"), float("inf"), [1, 2], 10**400])
def test_an_answer_that_is_no_number_gets_a_message_not_an_error(answer, capsys):
    guess = ql.predict("How much?", answer=answer)
    assert "✗ How much?\n  answer must be a number" in capsys.readouterr().out
    guess.compare(0.5)
    assert "○ Measured: 0.5." in capsys.readouterr().out


def test_an_answer_that_is_no_choice_gets_the_choices(capsys):
    ql.predict("Which?", answer="INT9", choices=["INT8", "FP8"])
    assert "answer must be one of 'INT8', 'FP8', not 'INT9'" in capsys.readouterr().out


def test_set_up_is_complete_here(capsys):
    ql.check_setup()
    assert capsys.readouterr().out.startswith("✓ Python and numpy")


def test_a_missing_or_old_package_is_named_with_the_fix(monkeypatch, capsys):
    monkeypatch.setattr(setup_check, "_NEEDED", {"numpy": (99, 1), "no-such-package": (1, 0)})
    monkeypatch.setattr(setup_check, "_PYTHON", (99, 0))
    ql.check_setup()
    shown = capsys.readouterr().out
    assert shown.startswith("✗ Something is missing.")
    assert "99.1 or newer is needed" in shown
    assert "no-such-package is not installed" in shown
    assert f"this is Python {sys.version.split()[0]}" in shown
    assert f"{sys.executable} -m pip install -r requirements.txt" in shown

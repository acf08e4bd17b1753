"""Predict before you look: a guess that a learner commits to, and what became of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from IPython.display import display

from .messages import Message
from .validation import one_of


@dataclass(frozen=True)
class Prediction:
    """A learner's guess, kept in the notebook's own cell; `answer` is None until there is one."""

    question: str
    answer: float | str | None

    def compare(self, measured, unit: str = "") -> None:
        """Show the prediction beside the value that was `measured` (a number, or one of the choices)."""
        value = measured if isinstance(measured, str) else f"{_number(measured)} {unit}".strip()
        if self.answer is None:
            back = "You made no prediction: put one in place of `None` above, then run both cells again."
            display(Message("note", f"Measured: {value}.", (back,)))
        elif isinstance(measured, str):
            right = self.answer == measured
            title = f"You predicted {self.answer}, measured {value}: {'right' if right else 'not this time'}."
            display(Message("good" if right else "note", title))
        else:
            guess = f"{_number(self.answer)} {unit}".strip()
            title = f"You predicted {guess}, measured {value}: {_distance(self.answer, measured, unit)}."
            display(Message("good" if _is_close(self.answer, measured) else "note", title))


def predict(question: str, answer=None, *, choices=None) -> Prediction:
    """Show `question` and keep the learner's `answer`: a number, one of `choices`, or None for not yet.

    An answer of the wrong kind is kept out with a message, not an error, so that the notebook goes on.

    >>> guess = predict("How many codes does symmetric int4 have?", answer=16)
    ○ How many codes does symmetric int4 have?
      Noted: 16.
    >>> guess.compare(15)
    ✓ You predicted 16, measured 15: very near.
    """
    try:
        answer = _checked(answer, choices)
    except ValueError as error:
        display(Message("hint", question, (f"{error}.",)))
        return Prediction(question, None)
    if answer is None:
        ask = f"choice ({', '.join(map(repr, choices))})" if choices else "number"
        display(Message("note", question, (f"Put your {ask} in place of `None` and run the cell before you read on.",)))
    else:
        display(Message("note", question, (f"Noted: {answer if choices else _number(answer)}.",)))
    return Prediction(question, answer)


def _checked(answer, choices):
    """Return `answer` if it can be compared later; ValueError says what it should be."""
    if answer is None:
        return None
    if choices:
        same = [choice for choice in choices if choice.casefold() == str(answer).casefold()]
        return same[0] if same else one_of(answer, "answer", choices)
    try:
        number = float(answer)  # "0.01", in quotes, is a number too
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(answer, bool) or not math.isfinite(number):
        raise ValueError(f"answer must be a number, not {answer!r}")
    return number


def _number(value) -> str:
    return f"{float(value):.4g}"


def _is_close(guess: float, measured: float) -> bool:
    """Within a tenth, which is as near as a guess needs to be."""
    return abs(guess - measured) <= 0.1 * abs(measured)


def _distance(guess: float, measured: float, unit: str) -> str:
    if _is_close(guess, measured):
        return "spot on" if guess == measured else "very near"
    if min(guess, measured) <= 0 or unit == "dB":  # a ratio says nothing of decibels, nor of 0 or less
        return f"{_number(abs(guess - measured))} {unit}".strip() + " apart"
    ratio = guess / measured
    return f"{_ratio(ratio)} times too high" if ratio > 1 else f"{_ratio(1 / ratio)} times too low"


def _ratio(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"

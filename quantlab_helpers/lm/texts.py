"""The texts that models are measured on and calibrated with; they ship with the course.

evaluation_text()    English prose written for the course, five essays: perplexity and KL divergence of SmolLM2
calibration_text()   other subjects and styles, for methods that look at activations: never for measuring
heldout_tales()      tales that TinyTales did not see in training, with questions whose answers are known
calibration_tales()  other tales, for methods that look at activations: never for measuring
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data"
END_OF_TALE = "<|endoftext|>"  # stands between two tales


@dataclass(frozen=True)
class Question:
    """A question about a tale with its right answer, one word."""

    kind: str  # "who", "colour", "where", ...
    question: str
    answer: str

    @property
    def asked(self) -> str:
        """What stands before the answer, to the letter."""
        return f"\nQuestion: {self.question} Answer:"


@dataclass(frozen=True)
class Tale:
    """A short story and some questions about it."""

    story: str
    questions: tuple[Question, ...]

    @property
    def text(self) -> str:
        """The story, then a line for each question with its answer: the form that TinyTales was trained on."""
        return self.story + "".join(f"{q.asked} {q.answer}." for q in self.questions)


def heldout_tales() -> list[Tale]:
    """Return the tales that TinyTales is measured on, always the same."""
    return _stored_tales("heldout.json")


def calibration_tales() -> list[Tale]:
    """Return tales for calibration: some 4,100 tokens, none of which TinyTales is measured on."""
    return _stored_tales("calibration.json")


def _stored_tales(name: str) -> list[Tale]:
    stored = json.loads((DATA / "tinytales" / name).read_text(encoding="utf-8"))
    return [Tale(tale["story"], tuple(Question(**question) for question in tale["questions"])) for tale in stored]


def joined(tales: Iterable[Tale]) -> str:
    """Return tales as one text, as TinyTales read them in training. (`encode_prompt` puts the first END_OF_TALE.)"""
    return END_OF_TALE.join(f"{tale.text}\n" for tale in tales)


def evaluation_text() -> str:
    """Return the prose that SmolLM2 is measured on: some 2,560 of its tokens."""
    return (DATA / "evaluation.txt").read_text(encoding="utf-8")


def calibration_text() -> str:
    """Return prose on other subjects than the evaluation text's: some 4,840 of SmolLM2's tokens."""
    return (DATA / "calibration.txt").read_text(encoding="utf-8")

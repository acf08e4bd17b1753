"""How an exercise is checked: against a reference, on many inputs, with a hint for each known mistake.

The checker runs the learner's function and the reference on the same inputs. Where they differ it asks which of
the *known wrong answers* gives what the learner's function gave: that mistake's hint is shown, with the first
failing example in numbers. So a hint is earned by what a function does, not by how it is written.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

_SEEDS = range(3)  # `cases` is drawn once for each seed
_ALIKE = 0.8  # a known mistake explains a failure if it gives the same on this share of the failing cases


@dataclass(frozen=True)
class WrongAnswer:
    """A mistake that learners make: its name for instructors, ways to write it, and the hint that each earns."""

    mistake: str
    functions: tuple[Callable, ...]
    hint: str


@dataclass(frozen=True)
class Exercise:
    """One exercise: what it asks, how it is checked and what helps.

    Outputs are compared with the reference's: the same structure and shape, whole numbers exactly (arrays of them
    in the same dtype), real numbers to `rtol` of the largest value. Where many answers are right, `objection` has the
    last word: it is given the arguments, a value that differs from the reference's and the reference's, and says what
    is wrong with the value, or "" if it is as good.
    """

    reference: Callable  # can be pasted into a notebook: it uses nothing but its arguments, np and ql
    outputs: tuple[str, ...]  # what the function returns, by name
    checked: str  # what a green line says was checked
    examples: tuple[tuple, ...]  # arguments to try first, small enough to read
    cases: Callable[[np.random.Generator], Iterator[tuple]]  # yields random arguments
    hints: tuple[str, ...]  # a ladder: each says more than the one before
    wrong_answers: tuple[WrongAnswer, ...]
    rtol: float = 1e-5  # float32 keeps about seven digits; sums in another order lose one or two
    objection: Callable[[tuple, object, object], str] | None = None

    @property
    def name(self) -> str:
        """The name of the exercise is that of the function to write."""
        return self.reference.__name__

    def all_cases(self) -> list[tuple]:
        """Every argument tuple that is tried: the examples, then random ones, the same in each run."""
        drawn = (case for seed in _SEEDS for case in self.cases(np.random.default_rng(seed)))
        return [*self.examples, *drawn]

    def check(self, function: Callable) -> Report:
        """Run `function` on every case and say what it got right, or which mistake it makes."""
        cases = self.all_cases()
        # What the function prints, to debug itself, is shown for the first case only.
        outcomes = [_run(function, cases[0]), *(_run_quietly(function, case) for case in cases[1:])]
        if _is_stub(function, outcomes):
            return Report("not started", len(cases))
        expected = [_run(self.reference, case) for case in cases]
        trials = zip(cases, outcomes, expected, strict=True)
        failing = [i for i, trial in enumerate(trials) if not self._is_right(*trial)]
        right = len(cases) - len(failing)
        if not failing:
            return Report("passed", len(cases), right)
        # A mistake often comes with a missing guard against zeros. Tell them apart: first what gave plain numbers.
        failing = [i for i in failing if outcomes[i].is_plain] or failing
        first = failing[0]
        example = _example(function, cases[first], outcomes[first], expected[first], self.objection)
        hint = self._diagnose(function, cases, outcomes, expected, failing)
        return Report("failed", len(cases), right, hint, example)

    def _is_right(self, arguments: tuple, outcome: _Outcome, expected: _Outcome) -> bool:
        """Whether an outcome is the reference's or, where many are right, as good."""
        if self._same(outcome, expected):
            return True
        if self.objection is None or outcome.error is not None or outcome.changed_input:
            return False
        return not self.objection(arguments, outcome.value, expected.value)

    def _diagnose(self, function, cases, outcomes, expected, failing) -> str:
        """Return the hint of the known wrong answer that best reproduces the failing outcomes."""
        first = outcomes[failing[0]]
        if first.changed_input:
            return "Your function changes the array that it is given. Work on a copy, or make a new array."
        best, best_score = "", (_ALIKE, 0.0)
        for wrong in self.wrong_answers:
            for mistake in wrong.functions:
                mistaken = [_run_quietly(mistake, case) for case in cases]
                # Both ways round, because floats are no codes, though whole numbers may stand for floats.
                alike = [self._same(a, b) and self._same(b, a) for a, b in zip(outcomes, mistaken, strict=True)]
                score = (float(np.mean([alike[i] for i in failing])), float(np.mean(alike)))
                if score > best_score:
                    best, best_score = wrong.hint, score
        if best:
            return best
        if first.error is not None:
            return f"Your function stopped with {first.describe_error(function)}."
        return _difference(first.value, expected[failing[0]].value, self.outputs, self.rtol)

    def _same(self, a: _Outcome, b: _Outcome) -> bool:
        if a.error is not None or b.error is not None:
            return repr(a.error) == repr(b.error)  # one type of error has many causes: the messages must agree too
        return a.changed_input == b.changed_input and _same_value(a.value, b.value, self.rtol)


@dataclass(frozen=True)
class Report:
    """The result of a check: "passed", "failed" or "not started"; for a failure the hint and the example."""

    state: str
    tried: int
    right: int = 0  # how many of those
    hint: str = ""
    example: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Outcome:
    """What one call gave: a value or an error."""

    value: object = None
    error: Exception | SystemExit | None = None
    changed_input: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the call gave a value without NaN or infinity."""
        return self.error is None and _is_finite(self.value)

    def describe_error(self, function: Callable) -> str:
        """The error, with the line of `function` itself where it happened, not of NumPy or of the checker."""
        code = getattr(function, "__code__", None)
        frames = [f for f in traceback.extract_tb(self.error.__traceback__) if code and f.filename == code.co_filename]
        where = f", at `{frames[-1].line}`" if frames else ""
        return f"{type(self.error).__name__}: {self.error}".removesuffix(": ") + where


def _run(function: Callable, arguments: tuple) -> _Outcome:
    given = copy.deepcopy(arguments)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            value = function(*given)
    except (Exception, SystemExit) as error:  # whatever a learner's code raises becomes a hint, never a traceback
        return _Outcome(error=error)
    changed = not all(_same_value(a, b, 0.0) for a, b in zip(given, arguments, strict=True))
    return _Outcome(value=value, changed_input=changed)


def _run_quietly(function: Callable, arguments: tuple) -> _Outcome:
    with contextlib.redirect_stdout(io.StringIO()):
        return _run(function, arguments)


def _is_stub(function: Callable, outcomes: list[_Outcome]) -> bool:
    """Whether nothing was written yet. Code that gives None is an attempt, one that forgot its `return`."""
    if all(isinstance(outcome.error, NotImplementedError) for outcome in outcomes):
        return True
    if any(outcome.value is not None or outcome.error is not None for outcome in outcomes):
        return False
    code = getattr(function, "__code__", None)
    return code is not None and not code.co_names and code.co_nlocals == len(inspect.signature(function).parameters)


def _same_value(a, b, rtol: float) -> bool:
    """Whether `a` is as good as `b`: the same structure, kind of number and shape, and values within `rtol`."""
    if isinstance(b, tuple):
        same_length = _is_sequence(a) and len(a) == len(b)
        return same_length and all(_same_value(x, y, rtol) for x, y in zip(a, b, strict=True))
    if isinstance(a, list | tuple):  # the cells below would stumble over it
        return False
    if a is None or b is None or isinstance(b, str | bool):
        return type(a) is type(b) and a == b
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype.kind not in "iuf":
        return False
    if b.dtype.kind in "iu":  # codes: as an array their dtype is part of the answer
        return a.dtype.kind in "iu" and (b.ndim == 0 or a.dtype == b.dtype) and bool(np.array_equal(a, b))
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.abs(b[np.isfinite(b)])
    return bool(np.allclose(a, b, rtol=0, atol=rtol * finite.max(initial=0), equal_nan=True))


def _is_finite(value) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_finite, value))
    array = np.asarray(value)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _is_sequence(value) -> bool:
    """Whether `value` can stand for several returned values: a tuple, a list, or an array of one axis."""
    return isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.ndim == 1)


def _difference(value, expected, outputs: tuple[str, ...], rtol: float) -> str:
    """What sets `value` apart from `expected`, where no known mistake explains it; "" if only the numbers do."""
    if value is None:
        return "Your function gives None here. Does every path end with `return`?"
    if not isinstance(expected, tuple):
        return _difference_of_one(value, expected)
    if not _is_sequence(value) or len(value) != len(expected):
        return f"Return {len(expected)} values: `{', '.join(outputs)}`."
    if _same_value(tuple(reversed(value)), expected, rtol):
        return f"The values are right but in another order: return `{', '.join(outputs)}`."
    wrong = {
        name: _difference_of_one(a, b)
        for name, a, b in zip(outputs, value, expected, strict=True)
        if not _same_value(a, b, rtol)
    }
    told = next((f"`{name}`: {text}" for name, text in wrong.items() if text), "")
    right = [f"`{name}`" for name in outputs if name not in wrong]
    if told or not right:
        return told
    return f"{' and '.join(right)}: right. Not yet: {' and '.join(f'`{name}`' for name in wrong)}."


def _difference_of_one(value, expected) -> str:
    if isinstance(expected, tuple):
        if not isinstance(value, list | tuple) or len(value) != len(expected):
            return f"This should be a tuple of {len(expected)}."
        return next((text for a, b in zip(value, expected, strict=True) if (text := _difference_of_one(a, b))), "")
    if isinstance(value, list | tuple):
        return "This is a list: return an array, `np.array(...)`." if np.ndim(expected) else "Return one number."
    a, b = np.asarray(value), np.asarray(expected)
    if a.shape != b.shape:
        return f"The shape is {a.shape}, but it should be {b.shape}."
    if b.dtype.kind in "iu" and a.dtype.kind not in "iu":
        return f"The dtype is {a.dtype}, but these are whole numbers: round, then make them integers."
    if a.dtype != b.dtype and a.dtype.kind in "iu" and np.array_equal(a, b):
        return f"The numbers are right, but the dtype is {a.dtype} and should be {b.dtype}."
    return ""


def _example(function, arguments, outcome: _Outcome, expected: _Outcome, objection) -> tuple[str, ...]:
    """One failing call in numbers: what went in, what came out and what should have, or what could have and why."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    names += [f"argument {i + 1}" for i in range(len(names), len(arguments))]
    given = [f"{name} = {_short(a)}" for name, a in zip(names, arguments, strict=False)]
    for digits in (4, 6, 9):  # more where the two would read alike
        right = _short(expected.value, digits)
        got = type(outcome.error).__name__ if outcome.error is not None else _short(outcome.value, digits)
        if right != got:
            break
    if objection is None:
        return (f"For {', '.join(given)}", f"expected {right}", f"yours is {got}")
    why = objection(arguments, outcome.value, expected.value) if outcome.error is None else ""
    return (f"For {', '.join(given)}", f"a good answer is {right}", f"yours is {got}" + (f": {why}" if why else ""))


def _short(value, digits=4) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(_short(part, digits) for part in value) + ")"
    if isinstance(value, np.ndarray) and value.size > 24:
        return f"an array of shape {value.shape}"
    if isinstance(value, np.ndarray) and value.ndim:
        return " ".join(np.array2string(value, precision=digits, separator=", ", max_line_width=10**6).split())
    if isinstance(value, np.generic | np.ndarray):
        value = value.item()
    if isinstance(value, float):
        text = f"{value + 0.0:.{digits + 2}g}"  # + 0.0 turns -0.0 into 0.0
        return text if set(text) & set(".en") else f"{text}.0"
    return repr(value)

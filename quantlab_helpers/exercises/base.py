"""How an exercise is checked: against a reference, on many inputs, with a hint for each known mistake.

The checker runs the learner's function and the reference on the same inputs. Where they differ it asks which of the
*known wrong answers* gives what the learner's function gave: that mistake's hint is shown, with the first failing
example in numbers. So a hint is earned by what a function does, not by how it is written.
"""

from __future__ import annotations

import copy
import inspect
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

_SEEDS = range(3)  # `cases` is drawn once for each seed


@dataclass(frozen=True)
class WrongAnswer:
    """A mistake that learners make: its name for instructors, code that makes it, the hint that it earns."""

    mistake: str
    function: Callable
    hint: str


@dataclass(frozen=True)
class Exercise:
    """One exercise: what it asks, how it is checked and what helps.

    `cases(rng)` yields the argument tuples to try, small readable ones first. Outputs are compared with the
    reference's: the same structure and shape, whole numbers exactly, real numbers to `rtol` of the largest value.
    """

    name: str
    checked: str  # what a green line says was checked
    reference: Callable
    cases: Callable[[np.random.Generator], Iterator[tuple]]
    hints: tuple[str, ...]  # a ladder: each says more than the one before
    wrong_answers: tuple[WrongAnswer, ...]
    rtol: float = 1e-5  # float32 keeps about seven digits; sums in another order lose one or two
    exact_dtype: bool = False  # for results whose dtype is the point, such as packed bytes

    def check(self, function: Callable) -> Report:
        """Run `function` on every case and say what it got right, or which mistake it makes."""
        cases = [case for seed in _SEEDS for case in self.cases(np.random.default_rng(seed))]
        outcomes = [_run(function, case) for case in cases]
        if all(outcome.value is None and outcome.may_be_a_stub for outcome in outcomes):
            return Report("not started", len(cases))
        expected = [_run(self.reference, case) for case in cases]
        failing = [i for i, (o, e) in enumerate(zip(outcomes, expected, strict=True)) if not self._same(o, e)]
        if not failing:
            return Report("passed", len(cases))
        first = failing[0]
        example = _example(function, cases[first], outcomes[first], expected[first])
        return Report("failed", len(cases), self._diagnose(cases, outcomes, expected, failing), example)

    def _diagnose(self, cases, outcomes, expected, failing) -> str:
        """Return the hint of the known wrong answer that best reproduces the failing outcomes."""
        if outcomes[failing[0]].changed_input:
            return "Your function changes the array that it is given. Work on a copy, or make a new array."
        best, best_score = "", (0.5, 0.0)
        for wrong in self.wrong_answers:
            mistaken = [_run(wrong.function, case) for case in cases]
            alike = [self._same(a, b) for a, b in zip(outcomes, mistaken, strict=True)]
            score = (float(np.mean([alike[i] for i in failing])), float(np.mean(alike)))
            if score > best_score:
                best, best_score = wrong.hint, score
        if best or outcomes[failing[0]].error is None:
            return best or _difference(outcomes[failing[0]].value, expected[failing[0]].value)
        return f"Your function stopped with {outcomes[failing[0]].describe_error()}."

    def _same(self, a: _Outcome, b: _Outcome) -> bool:
        if a.error is not None or b.error is not None:
            return type(a.error) is type(b.error)
        if a.changed_input != b.changed_input:
            return False
        return _same_value(a.value, b.value, self.rtol, self.exact_dtype)


@dataclass(frozen=True)
class Report:
    """The result of a check: "passed", "failed" or "not started"; for a failure the hint and the example."""

    state: str
    tried: int
    hint: str = ""
    example: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class _Outcome:
    """What one call gave: a value or an error."""

    value: object = None
    error: Exception | None = None
    changed_input: bool = False

    @property
    def may_be_a_stub(self) -> bool:
        return self.value is None and (self.error is None or isinstance(self.error, NotImplementedError))

    def describe_error(self) -> str:
        line = traceback.extract_tb(self.error.__traceback__)[-1]
        where = f", at `{line.line}`" if line.line else ""
        return f"{type(self.error).__name__}: {self.error}{where}"


def _run(function: Callable, arguments: tuple) -> _Outcome:
    given = copy.deepcopy(arguments)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            value = function(*given)
    except Exception as error:  # whatever a learner's code raises becomes a hint, never a traceback
        return _Outcome(error=error)
    changed = not all(_same_value(a, b, 0.0, True) for a, b in zip(given, arguments, strict=True))
    return _Outcome(value=value, changed_input=changed)


def _same_value(a, b, rtol: float, exact_dtype: bool) -> bool:
    """Whether `a` is as good as `b`: the same structure, kind of number and shape, and values within `rtol`."""
    if isinstance(b, tuple):
        same_length = isinstance(a, tuple | list) and len(a) == len(b)
        return same_length and all(_same_value(x, y, rtol, exact_dtype) for x, y in zip(a, b, strict=True))
    if a is None or b is None or isinstance(b, str):
        return type(a) is type(b) and a == b
    try:
        a, b = np.asarray(a), np.asarray(b)
    except ValueError:  # a ragged list is no array
        return False
    if a.shape != b.shape or a.dtype.kind not in "iuf" or (exact_dtype and a.dtype != b.dtype):
        return False
    if b.dtype.kind in "iu":
        return a.dtype.kind in "iu" and bool(np.array_equal(a, b))
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.abs(b[np.isfinite(b)])
    return bool(np.allclose(a, b, rtol=0, atol=rtol * finite.max(initial=0), equal_nan=True))


def _difference(value, expected) -> str:
    """The first thing that sets `value` apart from `expected`, where no known mistake explains it."""
    if value is None:
        return "Your function gives None here. Does every path end with `return`?"
    if isinstance(expected, tuple):
        if not isinstance(value, tuple | list) or len(value) != len(expected):
            return f"Return {len(expected)} values, separated by commas."
        pairs = zip(value, expected, strict=True)
        return next((_difference(a, b) for a, b in pairs if not _same_value(a, b, 1e-5, False)), "")
    try:
        a, b = np.asarray(value), np.asarray(expected)
    except ValueError:
        return "Return one array: what your function returns is a ragged list."
    if a.shape != b.shape:
        return f"The shape is {a.shape}, but it should be {b.shape}."
    if b.dtype.kind in "iu" and a.dtype.kind not in "iu":
        return f"The dtype is {a.dtype}, but codes are whole numbers: round, then `.astype(...)`."
    if a.dtype != b.dtype and a.dtype.kind == b.dtype.kind and np.array_equal(a, b):
        return f"The numbers are right, but the dtype is {a.dtype} and should be {b.dtype}."
    return ""


def _example(function, arguments, outcome: _Outcome, expected: _Outcome) -> tuple[str, ...]:
    """One failing call in numbers: what went in, what came out and what should have."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    names += [f"argument {i + 1}" for i in range(len(names), len(arguments))]
    given = [f"{name} = {_short(a)}" for name, a in zip(names, arguments, strict=False)]
    got = type(outcome.error).__name__ if outcome.error is not None else _short(outcome.value)
    return (f"For {', '.join(given)}", f"expected {_short(expected.value)}", f"yours is {got}")


def _short(value) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_short, value)) + ")"
    if isinstance(value, np.ndarray) and value.size > 24:
        return f"an array of shape {value.shape}"
    if isinstance(value, np.ndarray):
        return " ".join(np.array2string(value, precision=4, separator=", ", max_line_width=10**6).split())
    if isinstance(value, float | np.floating):
        return f"{float(value):.6g}"
    return repr(value.item()) if isinstance(value, np.generic) else repr(value)

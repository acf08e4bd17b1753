"""A learner's function is compiled, or something else takes its place and the learner is told why."""

import sys

import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers.kernels import compiled_loops

ARGUMENTS = (np.arange(4.0),)
with_numba = pytest.mark.skipif(compiled_loops() is None, reason="numba is not installed")


def total(x):
    result = 0.0
    for value in x:
        result += value
    return result


def _sum_of_a_generator(x):
    return sum(value for value in x)


def _an_error_of_its_own(x):
    raise ValueError("not like that")


def _an_error_without_words(x):
    raise ValueError


@with_numba
def test_compiled(capsys):
    fast = ql.compiled_or(total, max, ARGUMENTS)
    assert fast.py_func is total and fast(*ARGUMENTS) == 6.0
    assert len(fast.signatures) == 1  # compiled before it is measured
    assert capsys.readouterr().out == ""


@with_numba
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (_sum_of_a_generator, ""),
        (_an_error_of_its_own, "not like that"),
        (_an_error_without_words, "ValueError"),
        (lambda x: undefined_name, "undefined_name"),  # noqa: F821
        (lambda x, y: x, "y"),
    ],
)
def test_what_cannot_be_compiled_is_replaced_and_told(function, reason, capsys):
    assert ql.compiled_or(function, max, ARGUMENTS) is max
    told = capsys.readouterr().out
    assert "Your function is not compiled" in told and reason in told


def test_without_numba(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert ql.compiled_or(total, max, ARGUMENTS) is max
    assert "numba cannot be imported here" in capsys.readouterr().out

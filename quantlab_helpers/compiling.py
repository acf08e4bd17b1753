"""Compile what a learner wrote, and go on where that cannot be."""

from __future__ import annotations

from collections.abc import Callable

from IPython.display import display

from .messages import Message


def compiled_or(function: Callable, instead: Callable, arguments: tuple) -> Callable:
    """Return a learner's `function` compiled by numba; where that cannot be, `instead`, with a message that says why.

    arguments  such as it will be called with: it is called with them once, which compiles it

    >>> double = compiled_or(lambda x: 2 * x, abs, (1.5,))                                           # doctest: +SKIP
    """
    title = "Your function is not compiled: the cells below use a kernel of the course in its place."
    try:
        import numba
    except ImportError:  # not installed, or not for this Python or NumPy
        display(Message("note", title, ("numba cannot be imported here: see `requirements.txt`.",)))
        return instead
    fast = numba.njit(function, fastmath=True)
    try:
        fast(*arguments)
    except Exception as error:  # numba's own, and whatever the function raises
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[min(1, len(lines) - 1)] if lines else type(error).__name__  # numba's first names its own stage
        advice = "numba compiles loops over arrays and numbers, and most of NumPy. It said:"
        display(Message("hint", title, (advice, f"`{reason}`")))
        return instead
    return fast

"""How many threads a matrix product gets: one where the model is small.

A product of small matrices is done before a second thread has woken up; and where other programs keep a core busy, BLAS
waits for the thread on it: TinyTales was then measured to be 100 times slower with two threads than with one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

SMALL_WIDTH = 256  # of the residual stream


def fitting_threads(width: int) -> AbstractContextManager:
    """Return a context in which BLAS has one thread for a model of a small width, and all that it had otherwise."""
    return _controller().limit(limits=1, user_api="blas") if width <= SMALL_WIDTH else nullcontext()


@cache
def _controller():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()  # looks through all loaded libraries, which takes some milliseconds

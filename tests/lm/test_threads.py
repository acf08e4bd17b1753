"""Small models compute with one thread, large ones with all that there are."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from quantlab_helpers.lm.threads import SMALL_WIDTH, fitting_threads


def blas_threads():
    np.ones((2, 2)) @ np.ones((2, 2))  # so that the library is there
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_a_small_model_has_one_thread_and_gives_the_others_back():
    before = blas_threads()
    with fitting_threads(SMALL_WIDTH):
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def test_a_large_model_keeps_all_threads():
    before = blas_threads()
    with fitting_threads(SMALL_WIDTH + 1):
        assert blas_threads() == before


def test_threads_come_back_after_an_error():
    before = blas_threads()
    with pytest.raises(ZeroDivisionError), fitting_threads(1):
        1 / 0  # noqa: B018
    assert blas_threads() == before

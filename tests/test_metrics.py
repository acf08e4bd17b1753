"""Errors, SQNR and cosine similarity: known values, the course's digits, and the edges."""

import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import quantlab_helpers as ql

METRICS = [ql.mean_abs_error, ql.max_abs_error, ql.sqnr_db, ql.cosine_similarity]
LARGEST = np.finfo(np.float32).max

pytestmark = pytest.mark.filterwarnings("error")
vectors = hnp.arrays(np.float64, 6, elements=st.floats(-1e6, 1e6))


def test_the_course_prints_these_digits():
    weights = np.random.default_rng(seed=4).normal(loc=0, scale=0.8, size=1000).astype(np.float32)
    restored = ql.fake_quantize(weights, 8)
    assert str(ql.mean_abs_error(weights, restored)) == "0.0051890863"
    assert str(ql.max_abs_error(weights, restored)) == "0.010284424"
    assert type(ql.mean_abs_error(weights, restored)) is np.float32


def test_known_values():
    a, b = np.array([[1.0, -2.0], [3.0, 0.0]]), np.array([[1.5, -2.0], [3.0, -1.0]])
    assert ql.mean_abs_error(a, b) == 0.375
    assert ql.max_abs_error(a, b) == 1
    assert ql.sqnr_db(a, b) == pytest.approx(10 * np.log10(14 / 1.25), rel=1e-14)
    assert ql.cosine_similarity(a, b) == pytest.approx(14.5 / np.sqrt(14 * 16.25), rel=1e-14)


def test_a_bit_is_six_db():
    x = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    gain = ql.sqnr_db(x, ql.fake_quantize(x, 9)) - ql.sqnr_db(x, ql.fake_quantize(x, 8))
    # The squares of n uniform errors have a mean that is known to sqrt(0.8 / n), 4.34 dB for each unit: 4 sigma.
    assert gain == pytest.approx(20 * np.log10(255 / 127), abs=4 * 4.34 * np.sqrt(2 * 0.8 / x.size))


def test_exact_and_zero():
    zero, one = np.zeros(3), np.ones(3)
    assert ql.sqnr_db(one, one) == np.inf
    assert ql.sqnr_db(zero, zero) == np.inf
    assert ql.sqnr_db(zero, one) == -np.inf
    assert ql.sqnr_db(one, zero) == 0
    assert ql.cosine_similarity(zero, zero) == 1
    assert ql.cosine_similarity(zero, one) == 0
    assert ql.cosine_similarity(one, zero) == 0
    assert ql.mean_abs_error(zero, zero) == ql.max_abs_error(zero, zero) == 0


@pytest.mark.parametrize("size", [LARGEST, 1e-45, np.float64(1e300), np.float64(1e-300)])
def test_huge_and_tiny_values(size):
    x = size * np.ones(4, np.result_type(size))
    assert ql.cosine_similarity(x, x) == pytest.approx(1, rel=1e-14)
    assert ql.cosine_similarity(x, -x) == pytest.approx(-1, rel=1e-14)
    assert ql.sqnr_db(x, x / 2) == pytest.approx(20 * np.log10(2) if (x / 2).any() else 0, rel=1e-12)


def test_errors_and_sums_are_float64():
    x = np.array([LARGEST, LARGEST])
    assert ql.sqnr_db(x, -x) == pytest.approx(-20 * np.log10(2), rel=1e-14)  # x - -x is beyond float32
    a, b = np.float32([1, 0]), np.float32([1 + 2**-23, 1e-9])
    error = np.hypot(2.0**-23, np.float64(b[1]))
    assert ql.sqnr_db(a, b) == pytest.approx(-20 * np.log10(error), rel=1e-14)


@pytest.mark.parametrize("metric", [ql.mean_abs_error, ql.max_abs_error])
def test_absolute_errors_beyond_float32_are_infinite_with_a_warning(metric):
    x = np.float32([LARGEST, 0])
    with pytest.warns(RuntimeWarning, match="overflow"):
        assert metric(x, -x) == np.inf
    assert metric(x.astype(np.float64), -x) > LARGEST / 2


def test_sqnr_needs_three_float64_copies_at_most():
    x = np.ones(2**20, np.float32)
    tracemalloc.start()
    try:
        ql.sqnr_db(x, x / 2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 3 * 8 * x.size


@given(vectors, vectors, st.floats(1e-3, 1e3))
def test_properties(a, b, factor):
    assert ql.max_abs_error(a, b) == ql.max_abs_error(b, a) >= ql.mean_abs_error(a, b) * (1 - 1e-15) >= 0
    cosine = ql.cosine_similarity(a, b)
    assert -1 <= cosine <= 1
    assert cosine == pytest.approx(ql.cosine_similarity(b, a), abs=1e-15)
    assert cosine == pytest.approx(ql.cosine_similarity(a, factor * b), abs=1e-14)  # the size does not matter
    sqnr = ql.sqnr_db(a, b)
    if np.isfinite(sqnr):
        assert sqnr == pytest.approx(ql.sqnr_db(factor * a, factor * b), abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_half_precision_is_measured_in_float32(metric):
    a, b = np.random.default_rng(1).normal(size=(2, 3000))
    for dtype_a, dtype_b in [(np.float16, np.float16), (ml_dtypes.bfloat16, np.float16), (np.float16, np.float32)]:
        a_, b_ = a.astype(dtype_a), b.astype(dtype_b)
        assert metric(a_, b_) == metric(a_.astype(np.float32), b_.astype(np.float32))


@pytest.mark.parametrize("metric", METRICS)
def test_layout_does_not_matter_and_inputs_stay(metric):
    a, b = np.random.default_rng(2).normal(size=(2, 5, 7))
    a.flags.writeable = b.flags.writeable = False
    assert metric(np.asfortranarray(a), b[::-1][::-1]) == pytest.approx(metric(a, b), rel=1e-14)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        ([1, 2], [1, 2, 3], ValueError, r"must have one shape, not \(2,\) and \(3,\)"),
        ([[1, 2]], [1, 2], ValueError, "must have one shape"),
        ([1], 1, ValueError, "must have one shape"),
        ([], [], ValueError, "must hold at least one value"),
        ([1, np.nan], [1, 2], ValueError, "must be finite"),
        ([1, 2], [1, np.inf], ValueError, "must be finite"),
        (["a"], [1], TypeError, "must hold real numbers"),
    ],
)
def test_bad_input(metric, a, b, error, message):
    with pytest.raises(error, match=message):
        metric(a, b)

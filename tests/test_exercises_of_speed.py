"""The exercises of notebook 10: right answers in other styles pass, and they are what the package computes."""

import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers import exercises
from quantlab_helpers.kernels import compiled_loops

KERNEL, SPEED = exercises.get("int8_kernel"), exercises.get("tokens_per_second")


def _python_integers(codes, scale, x_codes, x_scale):
    y = []
    for row, s in zip(codes, scale, strict=True):
        total = sum(int(a) * int(b) for a, b in zip(row, x_codes, strict=True))
        y.append(total * s * x_scale)
    return np.array(y)


def _in_64_bits(codes, scale, x_codes, x_scale):
    y = np.zeros(len(codes))
    for r in range(len(codes)):
        total = np.int64(0)
        for i in range(len(x_codes)):
            total += np.int64(codes[r, i]) * x_codes[i]
        y[r] = np.float32(total) * (scale[r] * x_scale)
    return y


def _without_loops(codes, scale, x_codes, x_scale):
    return (codes.astype(np.int32) @ x_codes.astype(np.int32)) * scale * x_scale


def _row_by_row(codes, scale, x_codes, x_scale):
    y = np.empty(codes.shape[0], dtype="float32")
    for r, row in enumerate(codes):
        y[r] = (row.astype(np.int32) * x_codes).sum() * scale[r] * x_scale
    return y


def _typed(*, start=0, wide=int, scaled=lambda total, scale, x_scale: total * scale * x_scale, reset=True):
    """A kernel as learners type it, with one thing in another way."""

    def function(codes, scale, x_codes, x_scale):
        rows, columns = codes.shape
        y, total = np.zeros(rows, np.float32), start
        for r in range(rows):
            total = start if reset else total
            for i in range(columns):
                total += wide(codes[r, i]) * wide(x_codes[i])
            y[r] = scaled(total, scale[r], x_scale)
        return y

    return function


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (_typed(wide=np.int8), "are int8"),
        (_typed(wide=np.int8, start=np.int32(0)), "are int8"),
        (_typed(wide=np.int8, start=np.int8(0)), "are int8"),
        (_typed(wide=np.int16, start=np.int16(0)), "int16 ends at 32,767"),
        (_typed(wide=np.float32, start=np.float32(0)), "float32 holds every whole number"),
        (_typed(reset=False), "goes on with the sum"),
        (_typed(scaled=lambda total, scale, x_scale: total * scale), "`x_scale` too"),
        (_typed(scaled=lambda total, scale, x_scale: total * x_scale), "`scale[r]` too"),
        (_typed(scaled=lambda total, scale, x_scale: total), "integer sums"),
    ],
)
def test_loops_as_learners_type_them_are_understood(wrong, told):
    assert told in KERNEL.check(wrong).hint
    assert KERNEL.check(_typed()).state == "passed"


@pytest.mark.parametrize("right", [_python_integers, _in_64_bits, _without_loops, _row_by_row])
def test_int8_kernel_in_another_style_passes(right):
    assert KERNEL.check(right).state == "passed"


def test_int8_kernel_tries_sums_beyond_float32_that_an_int32_accumulator_holds():
    reached = max(
        int(np.cumsum(codes.astype(np.int64) * x_codes, axis=1).max()) for codes, _, x_codes, _ in KERNEL.all_cases()
    )
    assert 16 * 2**24 < reached < 2**31


def test_int8_kernel_is_the_kernel_of_the_package():
    for case in KERNEL.all_cases():
        np.testing.assert_allclose(KERNEL.reference(*case), ql.kernels.int8_int8_matvec(*case), rtol=1e-6)


@pytest.mark.skipif(compiled_loops() is None, reason="numba is not installed")
def test_int8_kernel_gives_the_same_when_it_is_compiled():
    loops = ql.compiled_or(KERNEL.reference, lambda: None, KERNEL.examples[0])
    for case in KERNEL.all_cases():
        np.testing.assert_array_equal(loops(*case), KERNEL.reference(*case))


def _speed_as_the_lower_of_two(nbytes, num_weights, batch, bandwidth, peak):
    return np.minimum(batch * bandwidth / nbytes, peak / num_weights / 2)


def _speed_by_intensity(nbytes, num_weights, batch, bandwidth, peak):
    operations = 2 * num_weights * batch
    intensity = operations / nbytes
    return batch * min(peak, intensity * bandwidth) / operations


@pytest.mark.parametrize("right", [_speed_as_the_lower_of_two, _speed_by_intensity])
def test_tokens_per_second_in_another_style_passes(right):
    assert SPEED.check(right).state == "passed"


def test_tokens_per_second_tries_both_sides_of_the_ridge():
    sides = {nbytes / bandwidth > 2 * w * batch / peak for nbytes, w, batch, bandwidth, peak in SPEED.all_cases()}
    assert sides == {True, False}


@pytest.mark.parametrize(
    ("task", "wrong", "told"),
    [
        (KERNEL, lambda c, s, x, xs: KERNEL.reference(c, s, x, xs).tolist(), "list"),
        (KERNEL, lambda c, s, x, xs: KERNEL.reference(c, s, x, xs)[:, None], "The shape is"),
        (KERNEL, lambda c, s, x, xs: c[0, 10**6], "stopped with IndexError"),
        (SPEED, lambda n, w, batch, b, p: None if batch == 3 else SPEED.reference(n, w, batch, b, p), "None"),
        (SPEED, lambda n, w, batch, b, p: b / n + 0 * p, "only count reading"),
    ],
)
def test_what_learners_type_is_understood(task, wrong, told):
    report = task.check(wrong)
    assert report.state == "failed"
    assert told in report.hint

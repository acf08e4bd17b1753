"""The exercises of notebook 08: right answers in other styles pass, and both are the package's GPTQ."""

import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers import exercises
from quantlab_helpers.exercises import gptq_in_order as module

STEP, IN_ORDER = exercises.get("gptq_column").reference, exercises.get("gptq_in_order").reference


def _step_in_loops(columns, row, scale, zero_point, qmax):
    num_rows, num_columns = columns.shape
    codes, rest = np.zeros(num_rows, "uint8"), np.zeros((num_rows, num_columns - 1))
    for i in range(num_rows):
        code = round(float(columns[i, 0] / scale[i])) + int(zero_point[i])
        codes[i] = code = max(0, min(qmax, code))
        error = columns[i, 0] - scale[i] * (code - int(zero_point[i]))
        for k in range(1, num_columns):
            rest[i, k - 1] = columns[i, k] - error * row[k] / row[0]
    return codes, rest


def _step_on_a_copy(columns, row, scale, zero_point, qmax):
    W = np.array(columns, np.float32)
    codes = (W[:, 0] / scale + 0.5 + zero_point).clip(0, qmax)
    codes = np.floor(codes).astype(np.uint8)  # clipped first, which is the same for whole bounds
    share = (row / row[0]).astype(np.float32)
    W -= (W[:, :1] - (scale * (codes.astype(int) - zero_point))[:, None]) * share
    return codes, W[:, 1:]


def _step_by_the_package(columns, row, scale, zero_point, qmax):
    codes = np.clip(np.rint(columns[:, :1] / scale[:, None]) + zero_point[:, None], 0, qmax).astype(np.uint8)
    error = columns[:, :1] - ql.dequantize(codes, scale[:, None], zero_point[:, None])
    return [codes.ravel(), columns[:, 1:] - error @ row[None, 1:] / row[0]]


@pytest.mark.parametrize("another_style", [_step_in_loops, _step_on_a_copy, _step_by_the_package])
def test_gptq_column_in_another_style_passes(another_style):
    report = exercises.get("gptq_column").check(another_style)
    assert report.state == "passed", (report.hint, report.example)


def _columns_put_in_order_first(weight, factor, order, scale, zero_point, qmax):
    W, codes = weight[:, order], np.zeros(weight.shape, np.uint8)
    for i in range(len(order)):
        codes[:, i], W[:, i + 1 :] = STEP(W[:, i:], factor[i, i:], scale, zero_point, qmax)
    return codes[:, np.argsort(order)]


def _written_back(weight, factor, order, scale, zero_point, qmax):
    W = weight.astype(np.float64)
    codes = np.empty(weight.shape, np.uint8)
    for i, j in enumerate(order):
        codes[:, j] = np.clip(np.rint(W[:, j] / scale) + zero_point, 0, qmax)
        error = (W[:, j] - scale * (codes[:, j] - zero_point)) / factor[i, i]
        rest = W[:, order[i + 1 :]]
        rest -= np.outer(error, factor[i, i + 1 :])
        W[:, order[i + 1 :]] = rest
    return codes


def _one_column_moved_at_a_time(weight, factor, order, scale, zero_point, qmax):
    W, codes = np.copy(weight), np.zeros_like(weight, dtype=np.uint8)
    for i in range(len(order)):
        j = order[i]
        codes[:, j] = np.clip(np.round(W[:, j] / scale) + zero_point, 0, qmax)
        error = W[:, j] - scale * (codes[:, j] - zero_point)
        for k in range(i + 1, len(order)):
            W[:, order[k]] -= error * np.float32(factor[i, k] / factor[i, i])
    return codes


def _by_a_mask(weight, factor, order, scale, zero_point, qmax):
    """Moves all columns by shares in their own places, which are 0 for those that are done."""
    W, codes = weight.copy(), np.empty(weight.shape, np.uint8)
    for i, j in enumerate(order):
        codes[:, j] = np.clip(np.rint(W[:, j] / scale) + zero_point, 0, qmax)
        shares = np.zeros(len(order))
        shares[order] = factor[i] / factor[i, i]
        W -= np.outer(W[:, j] - scale * (codes[:, j] - zero_point), shares)
    return codes


@pytest.mark.parametrize(
    "another_style", [_columns_put_in_order_first, _written_back, _one_column_moved_at_a_time, _by_a_mask]
)
def test_gptq_in_order_in_another_style_passes(another_style):
    report = exercises.get("gptq_in_order").check(another_style)
    assert report.state == "passed", (report.hint, report.example)


@pytest.mark.parametrize("name", ["gptq_column", "gptq_in_order"])
def test_arrays_are_left_alone(name):
    def in_place(array, *others):
        value = exercises.get(name).reference(array, *others)
        array *= 2
        return value

    assert "changes the array" in exercises.get(name).check(in_place).hint


def test_no_case_of_gptq_column_is_near_a_tie():
    for columns, _, scale, _, _ in exercises.get("gptq_column").all_cases():
        steps = columns[:, 0] / scale.astype(np.float64)
        assert np.abs(steps - np.floor(steps) - 0.5).min() > 0.05


def test_no_case_of_gptq_in_order_is_near_a_tie_on_its_way():
    assert all(map(module._is_clear, exercises.get("gptq_in_order").all_cases()))


def test_gptq_in_order_tries_what_its_green_line_says():
    cases = exercises.get("gptq_in_order").all_cases()
    assert {5, 7, 10} <= {weight.shape[1] for weight, *_ in cases}
    assert any((weight == 0).all(axis=1).any() for weight, *_ in cases)
    unclipped = {wrong.mistake: wrong for wrong in exercises.get("gptq_in_order").wrong_answers}["not clipped"]
    assert any(not np.array_equal(IN_ORDER(*case), unclipped.functions[1](*case)) for case in cases)


@pytest.mark.parametrize("case", exercises.get("gptq_in_order").all_cases()[:2])
def test_the_first_examples_show_that_nothing_was_moved(case):
    weight, _, _, scale, zero_point, qmax = case
    nearest = np.clip(np.rint(weight / scale[:, None]) + zero_point[:, None], 0, qmax)
    assert not np.array_equal(IN_ORDER(*case), nearest)


@pytest.mark.parametrize("act_order", [False, True])
def test_both_are_the_gptq_of_the_package(act_order):
    rng = np.random.default_rng(4)
    weight = rng.normal(size=(6, 40)).astype(np.float32)
    inputs = rng.normal(size=(100, 40)) @ rng.normal(size=(40, 40))
    quantized = ql.gptq(weight, inputs, 4, act_order=act_order)
    H = 2 * inputs.T @ inputs
    order = np.argsort(-np.diag(H)) if act_order else np.arange(40)
    H = H[np.ix_(order, order)] + 0.01 * np.diag(H).mean() * np.eye(40)
    factor = np.linalg.cholesky(np.linalg.inv(H)).T
    arguments = weight, factor, order, quantized.scale.ravel(), quantized.zero_point.ravel(), 15
    np.testing.assert_array_equal(IN_ORDER(*arguments), quantized.codes)
    np.testing.assert_array_equal(_columns_put_in_order_first(*arguments), quantized.codes)

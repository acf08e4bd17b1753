"""The exercises of notebook 05: right answers in other styles pass, and no case hangs on how a tie is rounded."""

import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers import exercises

_PER_CHANNEL = exercises.get("per_channel").reference


def _rows_in_a_loop(weight, num_bits):
    codes, scales = [], []
    for row in weight:
        absmax = max(abs(float(v)) for v in row)
        scale = absmax / (2 ** (num_bits - 1) - 1) if absmax > 0 else 1
        codes.append(np.floor(row / scale + 0.5).astype(np.int8))  # rounds ties up, not to even
        scales.append(scale)
    return np.array(codes), np.array(scales)


def _rows_by_the_package(weight, num_bits):
    quantized = ql.quantize(weight, num_bits, per="channel")
    return quantized.codes, quantized.scale.ravel()


def _rows_with_a_reciprocal(weight, num_bits):
    qmax = np.float32(2 ** (num_bits - 1) - 1)
    scales = np.abs(weight.astype(np.float32)).max(axis=-1) / qmax
    scales = np.where(scales > 0, scales, np.float32(1))
    return np.clip(np.rint(weight.T * (1 / scales)), -qmax, qmax).T.astype("int8"), scales


def _groups_in_loops(weight, num_bits, group_size):
    codes = np.zeros(weight.shape, np.int8)
    scales = np.ones((weight.shape[0], weight.shape[1] // group_size), np.float32)
    for i in range(weight.shape[0]):
        for j in range(scales.shape[1]):
            part = slice(j * group_size, (j + 1) * group_size)
            absmax = np.abs(weight[i, part]).max()
            if absmax:
                scales[i, j] = absmax / (2 ** (num_bits - 1) - 1)
            codes[i, part] = np.round(weight[i, part] / scales[i, j])
    return codes, scales


def _groups_as_rows(weight, num_bits, group_size):
    codes, scales = _rows_by_the_package(weight.reshape(-1, group_size), num_bits)
    return codes.reshape(weight.shape), scales.reshape(len(weight), -1)


def _groups_by_the_package(weight, num_bits, group_size):
    quantized = ql.quantize(weight, num_bits, per="group", group_size=group_size)
    return quantized.codes, quantized.scale


def _cosine_in_a_loop(a, b):
    dot = aa = bb = 0.0
    for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True):
        dot, aa, bb = dot + x * y, aa + x * x, bb + y * y
    return dot / (aa * bb) ** 0.5


def _cosine_of_directions(a, b):
    a, b = a.astype(np.float32), b.astype(np.float32)
    return (a / np.linalg.norm(a)).ravel() @ (b / np.linalg.norm(b)).ravel()


def _measured_with_a_loop(weight, num_bits, group_size):
    results = []
    for per, size in (("tensor", None), ("channel", None), ("group", group_size)):
        restored = ql.quantize(weight, num_bits, per=per, group_size=size).dequantize()
        results.append(ql.sqnr_db(weight, restored))
    return results


@pytest.mark.parametrize(
    ("name", "another_style"),
    [
        ("per_channel", _rows_in_a_loop),
        ("per_channel", _rows_by_the_package),
        ("per_channel", _rows_with_a_reciprocal),
        ("per_group", _groups_in_loops),
        ("per_group", _groups_as_rows),
        ("per_group", _groups_by_the_package),
        ("cosine_similarity", ql.cosine_similarity),
        ("cosine_similarity", _cosine_in_a_loop),
        ("cosine_similarity", _cosine_of_directions),
        ("your_tensor", _measured_with_a_loop),
    ],
)
def test_a_right_answer_in_another_style_passes(name, another_style):
    report = exercises.get(name).check(another_style)
    assert report.state == "passed", (report.hint, report.example)


def _scaled(name, case):
    """The values of a case in steps, before rounding."""
    weight, num_bits, *size = case
    rows = weight.astype(np.float64).reshape(-1, size[0] if size else weight.shape[1])
    absmax = np.abs(rows).max(axis=1, keepdims=True)
    return rows / np.where(absmax == 0, 1, absmax) * (2 ** (num_bits - 1) - 1)


@pytest.mark.parametrize("name", ["per_channel", "per_group"])
def test_no_case_is_near_a_tie(name):
    """A float32 scale moves a value of up to 127 steps by some 1e-5 of a step: ties are further away than that."""
    for case in exercises.get(name).all_cases():
        steps = _scaled(name, case)
        assert np.abs(steps - np.floor(steps) - 0.5).min() > 3e-5


@pytest.mark.parametrize(
    ("name", "function", "told"),
    [
        ("per_channel", lambda w, b: (_PER_CHANNEL(w, b)[0].astype(int), _PER_CHANNEL(w, b)[1]), "should be int8"),
        ("per_channel", lambda w, b: (_PER_CHANNEL(w, b)[0] * 0, _PER_CHANNEL(w, b)[1]), "Not yet: `codes`"),
        ("per_channel", lambda w, b: _PER_CHANNEL(w, b)[0], "Return 2 values: `codes, scales`"),
        ("per_group", lambda w, b, g: (w.astype(np.int8), np.ones((1, 1))), "`scales`: The shape is (1, 1)"),
        ("cosine_similarity", lambda a, b: np.full(2, 0.5), "The shape is (2,)"),
        ("your_tensor", lambda w, b, g: 1.0, "Return 3 values: `per tensor, per channel, per group`"),
    ],
)
def test_a_mistake_that_nobody_foresaw_is_narrowed_down(name, function, told):
    assert told in exercises.get(name).check(function).hint


@pytest.mark.parametrize("name", ["per_channel", "per_group", "your_tensor"])
def test_an_error_of_the_learners_own_is_not_taken_for_a_known_mistake(name):
    """Some known mistakes raise ValueError in nearly every case; not every ValueError is that mistake."""

    def reshaped(weight, *arguments):
        return weight.reshape(-1, 1009)

    hint = exercises.get(name).check(reshaped).hint
    assert "cannot reshape" in hint and "weight.reshape(-1, 1009)" in hint

"""The exercises of notebook 07: right answers in other styles pass, and they are what the package computes."""

import math
from statistics import NormalDist

import numpy as np
import pytest

import quantlab_helpers as ql
from quantlab_helpers import exercises
from quantlab_helpers.methods.llm_int8 import PRODUCT_UNIT
from quantlab_helpers.number_formats import NF4_LEVELS

MIXED, LEVELS, BITS = (exercises.get(name) for name in ("mixed_int8", "normal_levels", "nf4_bits"))


def _cut_out_with_an_initial_0(x, w_codes, w_scale, threshold):
    is_out = np.max(np.abs(x), axis=0) >= threshold
    rest = x[:, ~is_out]
    absmax = np.max(np.abs(rest), axis=1, keepdims=True, initial=0)
    scale = np.where(absmax > 0, absmax / 127, 1)
    sums = np.round(rest / scale).astype("int64") @ w_codes[:, ~is_out].T
    return x[:, is_out] @ (w_codes[:, is_out] * w_scale).T + sums * scale * w_scale.reshape(-1)


def _loops(x, w_codes, w_scale, threshold):
    columns = [i for i in range(x.shape[1]) if any(abs(float(v)) >= threshold for v in x[:, i])]
    y = np.zeros((len(x), len(w_codes)))
    for t, token in enumerate(x):
        left = [0.0 if i in columns else float(v) for i, v in enumerate(token)]
        scale = max(map(abs, left)) / 127 or 1.0
        codes = [math.floor(v / scale + 0.5) for v in left]
        for o, row in enumerate(w_codes):
            total = sum(a * int(b) for a, b in zip(codes, row, strict=True))
            y[t, o] = total * scale * w_scale[o, 0]
            y[t, o] += sum(float(token[i]) * int(row[i]) * w_scale[o, 0] for i in columns)
    return y


def _in_float32(x, w_codes, w_scale, threshold):
    x = x.astype(np.float32)
    columns = np.flatnonzero((np.abs(x) >= np.float32(threshold)).sum(axis=0))
    rest = x.copy()
    rest[:, columns] = 0
    absmax = np.abs(rest).max(1)
    codes = np.rint(rest * (127 / np.maximum(absmax, np.float32(1e-30)))[:, None]).astype(np.int8)
    y = ql.int8_matmul(codes, w_codes).astype(np.float32) * np.outer(absmax, w_scale) / np.float32(127)
    return y + x[:, columns] @ ql.dequantize(w_codes, w_scale)[:, columns].T


def _by_the_packages_layer(x, w_codes, w_scale, threshold):
    outlier = (np.abs(x) >= threshold).any(axis=0)
    q = ql.quantize(np.where(outlier, 0, x), 8, per="channel")
    y = exercises.get("int8_linear").reference(q.codes, q.scale, w_codes, w_scale)
    return y + np.where(outlier, x, 0) @ (w_codes * w_scale).T


@pytest.mark.parametrize("right", [_cut_out_with_an_initial_0, _loops, _in_float32, _by_the_packages_layer])
def test_mixed_int8_in_another_style_passes(right):
    assert MIXED.check(right).state == "passed"


def test_mixed_int8_leaves_its_arrays_alone():
    def in_place(x, w_codes, w_scale, threshold):
        x[:, (np.abs(x) >= threshold).any(axis=0)] = 0
        return MIXED.reference(x, w_codes, w_scale, threshold)

    assert "changes the array" in MIXED.check(in_place).hint


def test_no_case_of_mixed_int8_hangs_on_how_a_tie_is_rounded():
    for x, _, _, threshold in MIXED.all_cases():
        left = np.where((np.abs(x) >= threshold).any(axis=0), 0, x).astype(np.float64)
        places = left / np.maximum(np.abs(left).max(axis=1, keepdims=True), 1e-30) * 127
        assert np.abs(places % 1 - 0.5).min() > 1e-3


def test_mixed_int8_is_the_layer_of_the_package():
    """Where all of a column are outliers or none is: elsewhere bitsandbytes takes its absmax from a little more."""
    rng = np.random.default_rng(3)
    x, weight = rng.uniform(-1, 1, size=(5, 40)).astype(np.float32), rng.normal(size=(6, 40)).astype(np.float32)
    x[:, [3, 30]] *= 50
    x[:, [3, 30]] += 60
    w = ql.quantize(weight, 8, per="channel")
    y = MIXED.reference(x, w.codes, w.scale, 6.0)
    ours = ql.llm_int8_matmul(x, weight)
    off = abs(float(PRODUCT_UNIT) * 127**2 - 1)  # bitsandbytes' own number for 1/127**2
    np.testing.assert_allclose(y, ours, rtol=0, atol=(2 * off + 1e-6) * np.abs(ours).max())


def test_mixed_int8_tries_columns_of_every_kind():
    kinds = set()
    for x, _, _, threshold in MIXED.all_cases():
        reached = np.abs(x) >= threshold
        kinds |= {(bool(column.any()), bool(column.all())) for column in reached.T}
        kinds.add("none left" if reached.any(axis=0).all() else "some left")
        kinds.add("negative" if (x <= -threshold).any() else "positive")
    assert kinds == {(False, False), (True, False), (True, True), "none left", "some left", "negative", "positive"}


def _from_the_end_as_bitsandbytes(num_bits, end):
    count = 2 ** (num_bits - 1)
    positive = [NormalDist().inv_cdf(p) for p in np.linspace(end, 0.5, count + 1)[:-1]]
    negative = [-NormalDist().inv_cdf(p) for p in np.linspace(end, 0.5, count)[:-1]]
    levels = np.sort(np.array([*positive, 0, *negative], dtype=np.float32))
    return levels / levels.max()


def _by_symmetry(num_bits, end):
    quantile = np.vectorize(NormalDist().inv_cdf)
    low = quantile(np.linspace(1 - end, 0.5, 2 ** (num_bits - 1)))
    high = quantile(np.linspace(0.5, end, 2 ** (num_bits - 1) + 1))
    return np.concatenate([low / -low[0], high[1:] / high[-1]])


def _sorted_set(num_bits, end):
    half, bell, levels = 2**num_bits // 2, NormalDist(0, 2), {0.0}
    for i in range(half):
        levels.add(bell.inv_cdf(0.5 + (end - 0.5) * (i + 1) / half))
        if i:
            levels.add(-bell.inv_cdf(0.5 + (end - 0.5) * i / (half - 1)))
    return np.array(sorted(levels)) / max(levels)


@pytest.mark.parametrize("right", [_from_the_end_as_bitsandbytes, _by_symmetry, _sorted_set])
def test_normal_levels_in_another_style_passes(right):
    assert LEVELS.check(right).state == "passed"


def test_normal_levels_of_four_bits_are_nf4():
    end = 1 - (1 / 32 + 1 / 30) / 2
    np.testing.assert_allclose(LEVELS.reference(4, end), NF4_LEVELS, rtol=0, atol=3e-7)


def _with_ceil(num_weights, block_size, double_quant):
    bits, blocks = 4 * num_weights, math.ceil(num_weights / block_size)
    bits += 8 * blocks + 32 * math.ceil(blocks / 256) + 32 if double_quant else 32 * blocks
    return bits / num_weights


def _in_bytes(num_weights, block_size, double_quant):
    blocks = (num_weights + block_size - 1) // block_size
    scales = blocks + 4 * ((blocks + 255) // 256) + 4 if double_quant else 4 * blocks
    return np.float64(8 * (num_weights / 2 + scales)) / num_weights


@pytest.mark.parametrize("right", [_with_ceil, _in_bytes])
def test_nf4_bits_in_another_style_passes(right):
    assert BITS.check(right).state == "passed"


@pytest.mark.parametrize("double_quant", [False, True])
@pytest.mark.parametrize(("shape", "block_size"), [((64, 256), 64), ((3, 50), 64), ((300, 128), 128), ((2, 5), 2)])
def test_nf4_bits_are_those_of_the_package(shape, block_size, double_quant):
    weight = np.random.default_rng(0).normal(size=shape)
    held = ql.nf4_quantize(weight, block_size, double_quant).bits_per_weight
    assert BITS.reference(weight.size, block_size, double_quant) == pytest.approx(held, rel=1e-12)


@pytest.mark.parametrize(
    ("task", "wrong", "told"),
    [
        (MIXED, lambda x, w, s, t: ql.linear_forward(x, w * s), "float product"),
        (MIXED, lambda x, w, s, t: MIXED.reference(x, w, s, t).T, "The shape is"),
        (LEVELS, lambda b, end: LEVELS.reference(b, end).tolist(), "list"),
        (LEVELS, lambda b, end: LEVELS.reference(b, 0.9677083), "the end is an argument"),
        (BITS, lambda n, size, double: 4 + 32 / size, "rule of thumb"),
        (BITS, lambda n, size, double: 32 * math.ceil(n / size) / n, "4 bits a weight"),
    ],
)
def test_what_learners_type_is_understood(task, wrong, told):
    report = task.check(wrong)
    assert report.state == "failed"
    assert told in report.hint

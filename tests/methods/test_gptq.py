"""GPTQ against its authors' code, against the textbook, and what it must do by its nature."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantlab_helpers as ql
from quantlab_helpers.affine import QuantizedTensor
from quantlab_helpers.methods.gptq import GptqTensor, gptq, gptq_from_hessian, hessian

pytestmark = pytest.mark.filterwarnings("error")

CONFIGURATIONS = {
    "b4_gnone_act0": {},
    "b4_gnone_act1": {"act_order": True},
    "b4_g32_act0": {"group_size": 32},
    "b4_g32_act1": {"group_size": 32, "act_order": True},
    "b4_g128_act0": {"group_size": 128},
    "b4_g128_act1": {"group_size": 128, "act_order": True},
    "b4_g32_act1_static": {"group_size": 32, "act_order": True, "static_groups": True},
    "b4_gnone_act0_sym": {"symmetric": True},
    "b4_g32_act0_sym": {"group_size": 32, "symmetric": True},
    "b4_g32_act1_sym_static": {"group_size": 32, "symmetric": True, "act_order": True, "static_groups": True},
}
OPTIONS = [
    {"group_size": group_size, "symmetric": symmetric, "act_order": act_order, "static_groups": static_groups}
    for group_size in (None, 8, 48)
    for symmetric in (False, True)
    for act_order in (False, True)
    for static_groups in (False, True)
]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def layer(num_outputs=24, num_inputs=96, num_tokens=200, seed=0):
    """A weight, and inputs that are correlated and differ in size from column to column."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(num_inputs, num_inputs)) / np.sqrt(num_inputs) + np.eye(num_inputs)
    inputs = rng.normal(size=(num_tokens, num_inputs)) @ mix * rng.uniform(0.2, 5, num_inputs)
    return normal(num_outputs, num_inputs, seed=seed), inputs.astype(np.float32)


def output_error(weight, inputs, quantized):
    error = (quantized.dequantize() - weight).astype(np.float64)
    return np.sum((inputs.astype(np.float64) @ error.T) ** 2)


def weight_error(weight, quantized):
    return np.sum((quantized.dequantize() - weight).astype(np.float64) ** 2)


def assert_same_but_for_rounding(actual, expected):
    """Codes are equal, except in one row at most.

    The same numbers, computed in another order or precision, differ by some float32 roundings. A weight in a few
    million is so near to the edge between two codes that it is rounded the other way, and from there on the rest of its
    row makes up for another error. Here are some thousand weights.
    """
    assert actual.shape == expected.shape
    assert (actual != expected).any(axis=1).sum() <= 1


# --- against the authors' code ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "golden" / "gptq.npz") as data:
        return dict(data)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_authors_code(golden, name):
    weight, inputs = golden["W_f16"].astype(np.float32), golden["X_int8_times_16"].astype(np.float32) / 16
    code, scale, zero, group, error = (
        golden[f"{name}_{part}"] for part in ("code", "scale", "zero", "g_idx", "outmse")
    )

    quantized = gptq(weight, inputs, 4, **CONFIGURATIONS[name])
    np.testing.assert_array_equal(quantized.codes, code)
    np.testing.assert_array_equal(quantized.zero_point, zero)
    # Moved weights differ by some roundings, so the scales of groups may by as many.
    np.testing.assert_allclose(quantized.scale, scale, rtol=1e-5)
    restored = quantized.scale[:, group] * (code.astype(np.float32) - zero[:, group])
    np.testing.assert_array_equal(quantized.dequantize(), restored)
    mean_error = output_error(weight, inputs, quantized) / (len(inputs) * len(weight))
    np.testing.assert_allclose(mean_error, error[0], rtol=1e-5)  # [theirs, theirs in float64, rounding to nearest]


# --- against the textbook ---------------------------------------------------------------------------------


def textbook(weight, inputs, num_bits, *, group_size=None, symmetric=False, block_size=128, act_order, static_groups):
    """Codes by equations 2 and 3 of the paper, which remove one row and column from inv(H) at a time, in float64.

    No Cholesky factor and no blocks, but for the W that the scales of groups come from.
    """
    w, x = weight.astype(np.float64), inputs.astype(np.float64)
    num_inputs = w.shape[1]
    h = 2 * x.T @ x
    order = sorted(range(num_inputs), key=lambda j: (-h[j, j], j)) if act_order else list(range(num_inputs))
    inverse = np.linalg.inv(h + 0.01 * np.mean(np.diag(h)) * np.eye(num_inputs))
    codes, left, qmax = np.empty(w.shape), list(order), 2**num_bits - 1
    for position, j in enumerate(order):
        if position % block_size == 0:
            seen = w.copy()
        if group_size is None or static_groups:
            first = 0 if group_size is None else j - j % group_size
            scale, zero_point = grid(weight[:, first : first + (group_size or num_inputs)], qmax, symmetric)
        elif position % group_size == 0:
            scale, zero_point = grid(seen[:, order[position : position + group_size]], qmax, symmetric)
        codes[:, j] = np.clip(np.round(np.float32(w[:, j]) / scale) + zero_point, 0, qmax)
        error = (w[:, j] - scale * (codes[:, j] - zero_point)) / inverse[j, j]
        w[:, left] -= np.outer(error, inverse[j, left])
        inverse -= np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
        left.remove(j)
    return codes


def grid(columns, qmax, symmetric):
    lows, highs = np.float32(columns.min(axis=1)), np.float32(columns.max(axis=1))
    if symmetric:
        absmax = np.maximum(-lows, highs)
        return np.where(lows < 0, 2 * absmax, absmax) / np.float32(qmax), (qmax + 1) / 2
    scale = (np.maximum(highs, 0) - np.minimum(lows, 0)) / np.float32(qmax)
    return scale, np.round(-np.minimum(lows, 0) / scale)


# The largest magnitude of a symmetric range is 7.5 steps (at 4 bits), a tie, which the last bit of the scale decides.
# The scales of groups that are not static come from moved weights, whose last bit depends on the order of computation.
REPRODUCIBLE = [o for o in OPTIONS if not o["symmetric"] or o["static_groups"] or o["group_size"] is None]


@pytest.mark.parametrize("num_bits", [2, 3, 4])
@pytest.mark.parametrize("options", REPRODUCIBLE, ids=str)
def test_textbook(options, num_bits):
    weight, inputs = layer(seed=num_bits)
    for block_size in (1, 36, 128):  # 36: shorter than a group, longer, and not a divisor of in
        quantized = gptq(weight, inputs, num_bits, block_size=block_size, **options)
        expected = textbook(weight, inputs, num_bits, block_size=block_size, **options)
        assert_same_but_for_rounding(quantized.codes, expected)


# --- what it is for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [None, 32])
def test_worse_weights_and_better_outputs_than_rounding_to_nearest(num_bits, group_size):
    for seed in range(5):
        weight, inputs = layer(seed=seed)
        per = "channel" if group_size is None else "group"
        nearest = ql.quantize(weight, num_bits, symmetric=False, per=per, group_size=group_size)
        for options in ({}, {"act_order": True}, {"act_order": True, "static_groups": True}):
            better = gptq(weight, inputs, num_bits, group_size=group_size, **options)
            assert output_error(weight, inputs, better) < 0.8 * output_error(weight, inputs, nearest)
            assert weight_error(weight, better) > weight_error(weight, nearest)


@pytest.mark.parametrize("num_bits", [2, 4, 8, 16])
@pytest.mark.parametrize("group_size", [None, 16])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("static_groups", [False, True])
def test_rounds_to_nearest_where_inputs_are_unrelated(num_bits, group_size, act_order, static_groups):
    weight = normal(8, 64)
    per = "channel" if group_size is None else "group"
    nearest = ql.quantize(weight, num_bits, symmetric=False, per=per, group_size=group_size)
    options = {"group_size": group_size, "act_order": act_order, "static_groups": static_groups}
    quantized = gptq_from_hessian(weight, 3 * np.eye(64), num_bits, **options)  # all equal: act_order changes nothing
    np.testing.assert_array_equal(quantized.codes, nearest.codes)
    np.testing.assert_array_equal(quantized.dequantize(), nearest.dequantize())


def test_rounds_to_nearest_with_much_damping():
    weight, inputs = layer()
    nearest = ql.quantize(weight, 4, symmetric=False, per="channel")
    assert (gptq(weight, inputs, 4).codes != nearest.codes).mean() > 0.1
    # Weights are moved by 1e-9 of an error or less: none of them lies as near to the edge between two codes.
    np.testing.assert_array_equal(gptq(weight, inputs, 4, damping=1e9).codes, nearest.codes)


@pytest.mark.parametrize("options", REPRODUCIBLE, ids=str)
def test_block_size_is_a_matter_of_speed(options):
    weight, inputs = layer()
    one_by_one = gptq(weight, inputs, 4, block_size=1, **options)
    begins_inside = options["group_size"] and not options["static_groups"]
    # A group begins inside no block where the block's size divides the group's.
    for block_size in (2, 8) if begins_inside else (2, 8, 36, 96, 1000):
        assert_same_but_for_rounding(gptq(weight, inputs, 4, block_size=block_size, **options).codes, one_by_one.codes)
    if begins_inside:
        assert (gptq(weight, inputs, 4, block_size=96, **options).codes != one_by_one.codes).mean() > 0.02


# --- act_order, groups and the result ---------------------------------------------------------------------


@pytest.mark.parametrize("group_size", [None, 8])
def test_act_order_is_gptq_of_sorted_columns(group_size):
    weight, inputs = layer()
    order = np.argsort(-np.diag(hessian(inputs)))
    by_size = gptq(weight, inputs, 4, group_size=group_size, act_order=True)
    of_sorted = gptq(weight[:, order], inputs[:, order], 4, group_size=group_size)
    assert_same_but_for_rounding(by_size.codes[:, order], of_sorted.codes)
    np.testing.assert_allclose(by_size.scale, of_sorted.scale, rtol=1e-5)
    if group_size:
        np.testing.assert_array_equal(by_size.group_index[order], np.arange(96) // 8)


def test_act_order_takes_the_leftmost_of_equals_first():
    weight, inputs = normal(6, 40), np.sign(normal(100, 40))  # every H[j, j] is 200
    np.testing.assert_array_equal(gptq(weight, inputs, 4, act_order=True).codes, gptq(weight, inputs, 4).codes)
    scattered = gptq(weight, inputs, 4, act_order=True, group_size=10)
    np.testing.assert_array_equal(scattered.group_index, np.arange(40) // 10)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_kind_of_result(options):
    weight, inputs = layer()
    for num_bits in (3, 8, 9):
        quantized = gptq(weight, inputs, num_bits, **options)
        is_scattered = options["group_size"] and options["act_order"] and not options["static_groups"]
        assert isinstance(quantized, GptqTensor if is_scattered else QuantizedTensor)
        assert quantized.shape == (24, 96)
        assert quantized.num_bits == num_bits
        assert quantized.codes.dtype == (np.uint8 if num_bits <= 8 else np.uint16)
        assert quantized.codes.flags.c_contiguous
        assert quantized.scale.shape == quantized.zero_point.shape == (24, 96 // (options["group_size"] or 96))
        assert (quantized.scale.dtype, quantized.zero_point.dtype) == (np.float32, np.int32)
        if not is_scattered:
            assert not quantized.symmetric
            assert quantized.group_size == options["group_size"]


def test_one_group_is_not_scattered():
    weight, inputs = layer()
    quantized = gptq(weight, inputs, 4, group_size=96, act_order=True)
    assert isinstance(quantized, QuantizedTensor)
    np.testing.assert_array_equal(quantized.codes, gptq(weight, inputs, 4, act_order=True).codes)


@pytest.mark.parametrize(("num_bits", "bytes_per_zero_point"), [(2, 1), (3, 1), (8, 1), (9, 2), (16, 2)])
def test_scattered_columns(num_bits, bytes_per_zero_point):
    weight, inputs = layer()
    quantized = gptq(weight, inputs, num_bits, group_size=32, act_order=True)
    for j, group in enumerate(quantized.group_index):
        steps = quantized.codes[:, j].astype(np.int32) - quantized.zero_point[:, group]
        column = quantized.scale[:, group] * steps.astype(np.float32)
        np.testing.assert_array_equal(quantized.dequantize()[:, j], column)
    np.testing.assert_array_equal(np.bincount(quantized.group_index), [32, 32, 32])
    codes = 24 * 96 * (num_bits if num_bits <= 8 else 16) // 8
    assert quantized.nbytes == codes + 24 * 3 * (4 + bytes_per_zero_point) + 96
    assert quantized.bits_per_weight == 8 * quantized.nbytes / (24 * 96)
    assert repr(quantized).startswith(f"GptqTensor(shape=(24, 96), {num_bits} bits, affine, 3 groups of scattered col")
    with pytest.raises(dataclasses.FrozenInstanceError):
        quantized.num_bits = 4


@pytest.mark.parametrize(("num_groups", "dtype"), [(256, np.uint8), (257, np.uint16)])
def test_group_index_is_as_small_as_it_may_be(num_groups, dtype):
    weight, inputs = layer(1, num_groups)
    quantized = gptq(weight, inputs, 4, group_size=1, act_order=True)
    assert quantized.group_index.dtype == dtype
    np.testing.assert_array_equal(np.sort(quantized.group_index), np.arange(num_groups))


# --- the Hessian ------------------------------------------------------------------------------------------


def test_hessian_is_the_sum_of_its_parts():
    weight, inputs = layer(num_tokens=300)
    whole = hessian(inputs)
    parts = hessian(inputs[:7]) + hessian(inputs[7:100]) + hessian(inputs[100:])
    # Each entry is a sum of 300 products, rounded 300 times at most.
    np.testing.assert_allclose(parts, whole, rtol=0, atol=300 * 2.0**-53 * np.diag(whole).max())
    np.testing.assert_allclose(whole, 2 * inputs.T.astype(np.float64) @ inputs, rtol=1e-12)
    assert whole.dtype == np.float64
    np.testing.assert_array_equal(gptq_from_hessian(weight, whole, 4).codes, gptq(weight, inputs, 4).codes)
    np.testing.assert_array_equal(hessian(inputs.reshape(3, 100, 96)), whole)
    np.testing.assert_array_equal(gptq(weight, inputs.reshape(3, 100, 96), 4).codes, gptq(weight, inputs, 4).codes)


@pytest.mark.parametrize("exponent", [-120, -40, 40, 110])
def test_sizes_do_not_matter(exponent):
    weight, inputs = layer()
    expected = gptq(weight, inputs, 4, group_size=32, act_order=True)
    for w, x in ((weight, np.ldexp(inputs, exponent)), (np.ldexp(weight, max(min(exponent, 90), -90)), inputs)):
        quantized = gptq(w, x, 4, group_size=32, act_order=True)
        np.testing.assert_array_equal(quantized.codes, expected.codes)


# --- edge cases -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_zero_and_constant_rows(options):
    weight, inputs = layer()
    weight[0], weight[1], weight[2] = 0, -1.5, 0.25
    restored = gptq(weight, inputs, 4, **options).dequantize()
    np.testing.assert_array_equal(restored[0], 0)
    if options["group_size"] is None and not options["symmetric"]:  # a range of 0 to the constant, which it ends in
        np.testing.assert_allclose(restored[1:3], weight[1:3], rtol=2.0**-23)


def test_zero_rows_get_the_range_of_1():
    for symmetric, zero_point in ((False, 7), (True, 8)):  # 7: float32's 1 / (2 / 15) is a little less than 7.5
        quantized = gptq(np.zeros((2, 8)), normal(20, 8), 4, symmetric=symmetric)
        np.testing.assert_array_equal(quantized.codes, zero_point)
        np.testing.assert_array_equal(quantized.zero_point, zero_point)
        np.testing.assert_array_equal(quantized.scale, np.float32(2) / np.float32(15))


def test_smallest_weights():
    for symmetric in (False, True):
        quantized = gptq(np.float32([[1e-45, -1e-45], [1e-38, -1e-38]]), normal(9, 2), 4, symmetric=symmetric)
        # No scale is below the smallest normal float32, 1.2e-38.
        np.testing.assert_allclose(quantized.dequantize(), [[0, 0], [1e-38, -1e-38]], rtol=0.2)


def test_symmetric_rows_without_a_negative_weight_saturate_as_in_the_authors_code():
    quantized = gptq_from_hessian([[0.0, 7.0, 15.0], [0.0, -7.0, 15.0]], np.eye(3), 4, symmetric=True)
    np.testing.assert_array_equal(quantized.dequantize(), [[0, 7, 7], [0, -8, 14]])  # scales 1 and 2; -7 / 2 is a tie


def test_one_column_and_one_row():
    weight = normal(5, 1)
    nearest = ql.quantize(weight, 4, symmetric=False, per="channel")
    for options in ({}, {"group_size": 1}, {"group_size": 1, "act_order": True, "static_groups": True}):
        np.testing.assert_array_equal(gptq(weight, [[2.0], [1.0]], 4, **options).codes, nearest.codes)
    assert gptq(normal(1, 12), normal(30, 12), 4).shape == (1, 12)
    assert gptq(normal(3, 12), normal(12), 4).shape == (3, 12)  # one token


def test_fewer_tokens_than_columns():
    weight, inputs = layer(num_tokens=10)
    nearest = ql.quantize(weight, 4, symmetric=False, per="channel")
    for damping in (0.01, 1e-6):  # 86 directions of the weights do not matter: there is room to undo nearly all
        quantized = gptq(weight, inputs, 4, damping=damping)
        assert output_error(weight, inputs, quantized) < 0.1 * output_error(weight, inputs, nearest)


def test_dead_inputs():
    weight, inputs = layer()
    weight[:, [3, 50]] = 100  # which would be the largest of their rows
    inputs[:, [3, 50]] = 0
    for options in ({}, {"act_order": True}, {"group_size": 16}, {"group_size": 16, "static_groups": True}):
        quantized = gptq(weight, inputs, 4, **options)
        np.testing.assert_array_equal(quantized.dequantize()[:, [3, 50]], 0)
        # As in the authors' code, the range of a whole row is taken before these columns are set to 0.
        assert (quantized.scale.max() > 6) == ("group_size" not in options)


def test_dead_inputs_are_as_if_they_had_the_value_1_once():
    weight, inputs = layer(num_tokens=60)
    weight[:, 3] = 0
    whole = hessian(inputs / 100)
    whole[3], whole[:, 3], whole[3, 3] = 0, 0, 0
    alive = whole.copy()
    alive[3, 3] = 1
    for options in ({}, {"group_size": 16, "act_order": True}):
        quantized, expected = (gptq_from_hessian(weight, h, 4, **options) for h in (whole, alive))
        np.testing.assert_array_equal(quantized.codes, expected.codes)


def test_all_inputs_dead():
    for options in ({}, {"act_order": True}, {"group_size": 4, "symmetric": True}):
        np.testing.assert_array_equal(gptq(normal(3, 8), np.zeros((5, 8)), 4, **options).dequantize(), 0)


def test_dtypes_and_arguments_that_nobody_may_write_to():
    weight, inputs = (array.astype(np.float16) for array in layer())
    expected = gptq(weight.astype(np.float32), inputs.astype(np.float32), 4)
    whole = hessian(inputs)
    for array in (weight, inputs, whole):
        array.flags.writeable = False
    for quantized in (
        gptq(weight, inputs, 4),
        gptq(weight.astype(np.float64), inputs.astype(np.float64), 4),
        gptq(np.asfortranarray(weight), inputs[::-1][::-1], 4),
        gptq(weight.tolist(), inputs.tolist(), 4),
        gptq_from_hessian(weight, whole, 4, act_order=False),
    ):
        np.testing.assert_array_equal(quantized.codes, expected.codes)


@given(st.integers(0, 2**32), st.sampled_from(OPTIONS), st.integers(2, 5), st.floats(1e-4, 1))
def test_codes_stay_in_range(seed, options, num_bits, damping):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(3, 48)) * 10.0 ** rng.integers(-40, 8, size=(3, 1))
    inputs = rng.normal(size=(rng.integers(1, 80), 48)) * 10.0 ** rng.integers(-5, 5, size=48)
    quantized = gptq(weight, inputs, num_bits, damping=damping, block_size=int(rng.integers(1, 60)), **options)
    assert quantized.codes.max() < 2**num_bits
    assert np.isfinite(quantized.dequantize()).all()


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"weight": np.full((4, 8), np.nan)}, ValueError, "weight must be finite, but 32 of 32"),
        ({"weight": np.full((4, 8), 2e30)}, ValueError, r"weight must be within \+-1e\+30, but it reaches 2e\+30"),
        ({"weight": np.ones(8)}, ValueError, r"weight must have 2 axes, \(out, in\), but its shape is \(8,\)"),
        ({"weight": np.ones((2, 4, 8))}, ValueError, "weight must have 2 axes"),
        ({"weight": np.ones((0, 8))}, ValueError, "weight must hold at least one value"),
        ({"inputs": np.full((5, 8), np.inf)}, ValueError, "inputs must be finite"),
        ({"inputs": np.ones((5, 7))}, ValueError, r"inputs must have 8 values along its last axis.*\(5, 7\)"),
        ({"inputs": 1.0}, ValueError, "inputs must have 8 values along its last axis"),
        ({"inputs": np.full((5, 8), 1e39)}, ValueError, "inputs must be within float32's range"),
        ({"num_bits": 1}, ValueError, "num_bits must be from 2 to 16, not 1"),
        ({"num_bits": 4.0}, TypeError, "num_bits must be a whole number"),
        ({"group_size": 3}, ValueError, "group_size must divide the last axis, 8, but it is 3"),
        ({"group_size": 16}, ValueError, "group_size must be from 1 to 8, not 16"),
        ({"group_size": 0}, ValueError, "group_size must be from 1 to 8, not 0"),
        ({"damping": 0}, ValueError, "damping must be finite and above 0, not 0"),
        ({"damping": -0.1}, ValueError, "damping must be finite and above 0"),
        ({"block_size": 0}, ValueError, "block_size must be from 1 to"),
        ({"symmetric": "yes"}, TypeError, "symmetric must be True or False"),
        ({"act_order": 1}, TypeError, "act_order must be True or False"),
        ({"static_groups": None}, TypeError, "static_groups must be True or False"),
    ],
)
def test_refuses(changes, error, message):
    arguments = {"weight": normal(4, 8), "inputs": normal(5, 8), "num_bits": 4, **changes}
    with pytest.raises(error, match=message):
        gptq(arguments.pop("weight"), arguments.pop("inputs"), arguments.pop("num_bits"), **arguments)


@pytest.mark.parametrize(
    ("hessian", "message"),
    [
        (np.full((8, 8), np.nan), "hessian must be finite"),
        (np.eye(7), r"hessian must have 8 values along its last axis"),
        (np.ones((5, 8)), r"hessian must have shape \(8, 8\), not \(5, 8\)"),
        (-np.eye(8), "hessian must have sums of squares on its diagonal, not -1"),
        (np.eye(8) + np.eye(8)[::-1] * 2, "damping must be larger than 0.01 for this hessian"),
    ],
)
def test_refuses_a_hessian(hessian, message):
    with pytest.raises(ValueError, match=message):
        gptq_from_hessian(normal(4, 8), hessian, 4)


def test_too_little_damping():
    with pytest.raises(ValueError, match="damping must be larger than 1e-25 for this hessian"):
        gptq(normal(4, 64), normal(5, 64), 4, damping=1e-25)


def test_hessian_refuses():
    with pytest.raises(ValueError, match=r"inputs must have 1 axis or more, \(..., in\), but the shape is \(\)"):
        hessian(1.0)
    with pytest.raises(ValueError, match="inputs must be finite"):
        hessian([1.0, np.nan])

"""AWQ against its authors' code, against its definition, and what it must do by its nature."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab_helpers.affine import QuantizedTensor
from quantlab_helpers.methods import awq as module
from quantlab_helpers.methods.awq import AwqResult, awq

pytestmark = pytest.mark.filterwarnings("error")

GROUP_SIZES = {"g32": 32, "g128": 128, "gnone": None}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def layer(num_outputs=24, num_inputs=64, num_tokens=100, seed=0):
    """A weight, and inputs of which a few are 20 times as large as the rest."""
    large = np.where(np.arange(num_inputs) % 20 == 3, 20, 1)
    return normal(num_outputs, num_inputs, seed=seed), normal(num_tokens, num_inputs, seed=seed + 1) * np.float32(large)


def mean_square(inputs, weight, other):
    return np.mean((inputs.astype(np.float64) @ (other.astype(np.float64) - weight).T) ** 2)


# --- against the authors' code ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "golden" / "awq.npz") as data:
        return dict(data)


def golden_layer(golden, layer):
    names = ("q_proj", "k_proj", "v_proj") if layer == "qkv" else (layer,)
    weights = [golden[f"W_{name}_f16"].astype(np.float32) for name in names]
    return weights, golden[f"X_{layer}_int8_times_16"].astype(np.float32) / 16


@pytest.mark.parametrize("num_bits", [4, 3])
@pytest.mark.parametrize("group", GROUP_SIZES)
@pytest.mark.parametrize("layer", ["qkv", "fc2"])
def test_authors_search(golden, num_bits, group, layer):
    weights, inputs = golden_layer(golden, layer)
    key = f"b{num_bits}_{group}_{layer}"
    result = awq(weights, inputs, num_bits, group_size=GROUP_SIZES[group])
    assert result.alpha == golden[f"{key}_alpha"]
    np.testing.assert_allclose(result.losses, golden[f"{key}_loss_curve"], rtol=1e-5)
    # A power, a product, a square root and a quotient, each rounded to float32, here and there.
    np.testing.assert_allclose(result.scales, golden[f"{key}_scales"], rtol=8 * 2.0**-24)
    _, expected = golden[f"{key}_rel_err_rtn_awq"]
    weight, restored = np.concatenate(weights), np.concatenate(result.weight)
    relative = mean_square(inputs, weight, restored) / mean_square(inputs, weight, np.zeros_like(weight))
    np.testing.assert_allclose(relative, expected, rtol=1e-5)


@pytest.mark.parametrize("num_bits", [4, 3])
@pytest.mark.parametrize("group", ["g32", "g128"])
def test_authors_clipping(golden, num_bits, group):
    """From the authors' s, to the bit: a range from -m to m has its zero point at a tie, which the last bit decides."""
    (weight,), inputs = golden_layer(golden, "fc2")
    key = f"b{num_bits}_{group}_fc2"
    s, limits = golden[f"{key}_scales"], golden[f"{key}_clip_max"].reshape(len(weight), -1)
    moments = (inputs / s).T.astype(np.float64) @ (inputs / s) / len(inputs)
    clipped = module._clipped(weight * s, moments, num_bits, GROUP_SIZES[group])
    np.testing.assert_array_equal(np.abs(clipped.reshape(*limits.shape, -1)).max(axis=-1), limits)
    restored = module._quantize(clipped, num_bits, GROUP_SIZES[group]).dequantize() / s
    relative = mean_square(inputs, weight, restored) / mean_square(inputs, weight, np.zeros_like(weight))
    np.testing.assert_allclose(relative, golden[f"{key}_rel_err_awq_clip"], rtol=1e-5)


@pytest.mark.parametrize("num_bits", [4, 3])
def test_authors_quantizer(golden, num_bits):
    """Groups of one sign, constant ones and zeros among them."""
    quantized = module._quantize(golden["pq_W"], num_bits, 32)
    np.testing.assert_array_equal(quantized.scale, golden[f"pq_b{num_bits}_scale"])
    np.testing.assert_array_equal(quantized.zero_point, golden[f"pq_b{num_bits}_zero"])
    np.testing.assert_array_equal(quantized.dequantize(), golden[f"pq_b{num_bits}_deq"])


# --- against the definition -------------------------------------------------------------------------------


@pytest.mark.parametrize("group_size", [None, 16])
@pytest.mark.parametrize("num_tokens", [7, 100])
def test_losses_are_errors_of_the_output(group_size, num_tokens):
    weight, inputs = layer(num_tokens=num_tokens)
    result = awq(weight, inputs, 4, group_size=group_size)
    for step, loss in enumerate(result.losses):
        s = (np.abs(inputs).mean(axis=0, dtype=np.float64) ** (step / 20)).astype(np.float32)
        s /= np.sqrt(s.max() * s.min())
        restored = module._quantize(weight * s, 4, group_size).dequantize() / s
        np.testing.assert_allclose(loss, mean_square(inputs, weight, restored), rtol=1e-5)
    assert result.alpha == np.argmin(result.losses) / 20
    np.testing.assert_allclose(mean_square(inputs, weight, result.weight), result.losses.min(), rtol=1e-5)


def test_result():
    weight, inputs = layer()
    for clip in (False, True):
        result = awq(weight, inputs, 3, group_size=16, clip=clip)
        assert isinstance(result.quantized, QuantizedTensor)
        assert (result.quantized.num_bits, result.quantized.group_size) == (3, 16)
        np.testing.assert_array_equal(result.weight, result.quantized.dequantize() / result.scales)
        assert result.weight.dtype == result.scales.dtype == np.float32
        assert result.scales.shape == (64,)
        assert result.losses.shape == (20,)
        # Multiplied out, the layer is the one that it was.
        np.testing.assert_allclose(
            (inputs / result.scales) @ result.quantized.dequantize().T, inputs @ result.weight.T, rtol=0, atol=1e-3
        )
    assert repr(result).startswith(f"AwqResult(alpha={result.alpha:g}, loss ")
    assert "QuantizedTensor(shape=(24, 64), 3 bits" in repr(result)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.alpha = 0


@pytest.mark.parametrize("grid", [1, 2, 7])
def test_grid(grid):
    weight, inputs = layer()
    result = awq(weight, inputs, 4, group_size=16, grid=grid)
    assert result.losses.shape == (grid,)
    assert result.alpha == np.argmin(result.losses) / grid
    np.testing.assert_allclose(mean_square(inputs, weight, result.weight), result.losses.min(), rtol=1e-5)
    assert result.losses[0] == awq(weight, inputs, 4, group_size=16).losses[0]  # alpha = 0: s is 1
    if grid == 1:
        np.testing.assert_array_equal(result.scales, 1)
        np.testing.assert_array_equal(result.weight, module._quantize(weight, 4, 16).dequantize())


@pytest.mark.parametrize("group_size", [None, 16])
def test_clipping_takes_the_best_of_ten(group_size):
    weight, inputs = layer(num_outputs=6)
    size = group_size or 64
    result = awq(weight, inputs, 3, group_size=group_size, clip=True)
    scaled, scaled_inputs = weight * result.scales, inputs.astype(np.float64) / result.scales
    unclipped = module._quantize(scaled, 3, group_size).dequantize()
    for start in range(0, 64, size):
        columns = slice(start, start + size)
        part, x = scaled[:, columns], scaled_inputs[:, columns]
        absmax = np.abs(part).max(axis=1, keepdims=True)
        errors = []
        for i in range(10):
            limit = absmax * np.float32(1 - i / 20)
            restored = module._quantize(np.clip(part, -limit, limit), 3, None).dequantize()
            errors.append(np.mean((x @ (restored - part).T) ** 2, axis=0))  # (out,)
        chosen = np.mean((x @ (result.quantized.dequantize()[:, columns] - part).T) ** 2, axis=0)
        np.testing.assert_allclose(chosen, np.min(errors, axis=0), rtol=1e-5)
    assert (result.quantized.dequantize() != unclipped).any()


def test_clipping_considers_each_group_by_itself():
    weight, inputs = layer()
    moments = inputs.T.astype(np.float64) @ inputs / len(inputs)
    both = module._clipped(weight, moments, 4, 32)
    np.testing.assert_array_equal(both[:, :32], module._clipped(weight[:, :32].copy(), moments[:32, :32], 4, None))
    np.testing.assert_array_equal(both[:, 32:], module._clipped(weight[:, 32:].copy(), moments[32:, 32:], 4, None))


# --- what it is for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [None, 16])
def test_better_outputs_than_rounding_to_nearest(num_bits, group_size):
    for seed in range(5):
        weight, inputs = layer(seed=seed)
        unseen = layer(num_tokens=500, seed=seed + 100)[1]
        nearest = module._quantize(weight, num_bits, group_size).dequantize()
        restored = awq(weight, inputs, num_bits, group_size=group_size).weight
        assert mean_square(inputs, weight, restored) < 0.7 * mean_square(inputs, weight, nearest)
        assert mean_square(unseen, weight, restored) < 0.8 * mean_square(unseen, weight, nearest)


def test_nothing_to_gain_where_inputs_are_of_one_size():
    result = awq(
        normal(8, 32), np.sign(normal(100, 32)), 4, group_size=16
    )  # s is 1 for every alpha: the first is taken
    assert result.alpha == 0
    np.testing.assert_array_equal(result.losses, result.losses[0])


@pytest.mark.parametrize("clip", [False, True])
def test_weights_that_share_inputs_share_s(clip):
    q, inputs = layer()
    k, v = normal(8, 64, seed=8), 3 * normal(1, 64, seed=9)
    stacked = awq(np.concatenate([q, k, v]), inputs, 4, group_size=16, clip=clip)
    for several in ([q, k, v], (q, k.tolist(), v)):
        result = awq(several, inputs, 4, group_size=16, clip=clip)
        assert result.alpha == stacked.alpha
        np.testing.assert_array_equal(result.losses, stacked.losses)
        np.testing.assert_array_equal(result.scales, stacked.scales)
        assert (
            [part.shape for part in result.weight]
            == [part.shape for part in result.quantized]
            == [(24, 64), (8, 64), (1, 64)]
        )
        np.testing.assert_array_equal(np.concatenate(result.weight), stacked.weight)
    (alone,) = awq([q], inputs, 4, group_size=16, clip=clip).weight
    np.testing.assert_array_equal(alone, awq(q, inputs, 4, group_size=16, clip=clip).weight)
    assert isinstance(awq(q.tolist(), inputs, 4, group_size=16).weight, np.ndarray)  # rows, not several weights


# --- edge cases -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("group_size", [None, 16])
def test_rows_that_are_zero_constant_or_of_one_sign(clip, group_size):
    weight, inputs = layer()
    weight[0], weight[1], weight[2], weight[3] = 0, 0.25, np.abs(weight[2]) + 10, -np.abs(weight[2]) - 10
    result = awq(weight, inputs, 4, group_size=group_size, clip=clip)
    np.testing.assert_array_equal(result.weight[0], 0)
    assert np.isfinite(result.weight).all()
    # As in the authors' code, ranges far from 0 saturate. (Above, s widens them: all the loss is in these rows.)
    nearest = awq(weight, inputs, 4, group_size=group_size, grid=1).weight
    np.testing.assert_allclose(nearest[1], 1e-5, rtol=1e-6)
    assert 0 < nearest[2].max() < 5
    assert -5 < nearest[3].min() < 0


def test_one_column_and_one_row():
    for clip in (False, True):
        result = awq([[1.0], [-2.0], [0.0]], [[3.0], [1.0]], 4, group_size=None, clip=clip)
        np.testing.assert_array_equal(result.scales, 1)
        # The range of a column that is all by itself is 1e-5, so that nothing else has a code.
        np.testing.assert_allclose(result.weight[:, 0], [1e-5, -1e-5, 0], rtol=1e-6)
        assert awq(normal(1, 16), normal(9, 16), 4, group_size=8, clip=clip).weight.shape == (1, 16)
        assert awq(normal(2, 16), normal(16), 4, group_size=8, clip=clip).weight.shape == (2, 16)  # one token


def test_all_inputs_dead():
    weight = normal(4, 32)
    for clip in (False, True):
        result = awq(weight, np.zeros((5, 32)), 4, group_size=16, clip=clip)
        assert (result.alpha, result.losses.max()) == (0, 0)
        np.testing.assert_array_equal(result.weight, module._quantize(weight, 4, 16).dequantize())
        assert "1 times smaller" in repr(result)


def test_dead_input():
    weight, inputs = layer()
    inputs[:, 5] = 0
    result = awq(weight, inputs, 4, group_size=16)
    assert result.alpha > 0
    assert result.scales[5] == result.scales.min()
    np.testing.assert_allclose(
        result.scales[5] / result.scales.max(), 1e-4 / np.abs(inputs).mean(axis=0).max() ** result.alpha, rtol=1e-5
    )
    assert np.isfinite(result.weight).all()


def test_fewer_tokens_than_columns():
    weight, inputs = layer(num_tokens=3)
    result = awq(weight, inputs, 4, group_size=16, clip=True)
    nearest = module._quantize(weight, 4, 16).dequantize()
    assert mean_square(inputs, weight, result.weight) < mean_square(inputs, weight, nearest)


def test_many_tokens():
    inputs = np.tile(np.float32([0.1, 1.0]), (200_000, 1))  # a float32 sum of which would be off by a thousandth
    result = awq(normal(4, 2), inputs, 4, group_size=2, grid=2)
    assert result.alpha == 0.5
    np.testing.assert_allclose(result.scales, [0.1**0.25, 0.1**-0.25], rtol=1e-6)


def test_dtypes_and_arguments_that_nobody_may_write_to():
    weight, inputs = (array.astype(np.float16) for array in layer())
    expected = awq(weight.astype(np.float32), inputs.astype(np.float32), 4, group_size=16, clip=True)
    for array in (weight, inputs):
        array.flags.writeable = False
    for w, x in (
        (weight, inputs),
        (weight.astype(np.float64), inputs.astype(np.float64)),
        (np.asfortranarray(weight), inputs.reshape(4, 25, 64)),
        (weight.tolist(), inputs.tolist()),
    ):
        result = awq(w, x, 4, group_size=16, clip=True)
        np.testing.assert_array_equal(result.weight, expected.weight)
        np.testing.assert_array_equal(result.losses, expected.losses)


@pytest.mark.parametrize("exponent", [-60, 40])
def test_small_and_large_inputs(exponent):
    weight, inputs = layer()
    inputs = np.abs(inputs) + 1  # so that no s is at its smallest, 1e-4
    expected = awq(weight, inputs, 4, group_size=16, grid=1)
    result = awq(weight, np.ldexp(inputs, exponent), 4, group_size=16, grid=1)
    np.testing.assert_array_equal(np.ldexp(result.losses, -2 * exponent), expected.losses)


@given(st.integers(0, 2**32), st.sampled_from([None, 1, 6, 24]), st.integers(2, 9), st.booleans())
def test_is_finite_whatever_the_sizes(seed, group_size, num_bits, clip):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(3, 24)) * 10.0 ** rng.integers(-40, 14, size=(3, 1))
    inputs = rng.normal(size=(rng.integers(1, 40), 24)) * 10.0 ** rng.integers(-20, 14, size=24)
    result = awq(weight, inputs, num_bits, group_size=group_size, clip=clip)
    for array in (result.scales, result.losses, result.weight):
        assert np.isfinite(array).all()
    assert result.scales.min() > 0
    assert result.quantized.codes.max() < 2**num_bits


def test_shared_columns_get_one_scale():
    """That of their mean magnitude: as if each of them had inputs of that size."""
    weight, inputs = layer()
    shared = np.arange(inputs.shape[1]) // 2 * 5  # pairs; the numbers themselves do not matter
    s = awq(weight, inputs, 3, group_size=16, shared=shared).scales.reshape(-1, 2)
    np.testing.assert_array_equal(s[:, 0], s[:, 1])
    pairs = np.abs(inputs).mean(axis=0).reshape(-1, 2).mean(axis=1)
    alpha = awq(weight, inputs, 3, group_size=16, shared=shared).alpha
    assert alpha > 0
    np.testing.assert_allclose(s[:, 0] / s[0, 0], (pairs / pairs[0]) ** alpha, rtol=1e-5)
    apart = awq(weight, inputs, 3, group_size=16, shared=np.arange(inputs.shape[1]))
    np.testing.assert_array_equal(apart.scales, awq(weight, inputs, 3, group_size=16).scales)


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"weight": np.full((4, 8), np.nan)}, ValueError, "weight must be finite, but 32 of 32"),
        ({"weight": [normal(4, 8), np.full((1, 8), np.inf)]}, ValueError, "weight must be finite, but 8 of 8"),
        ({"weight": np.full((4, 8), 2e15)}, ValueError, r"weight must be within \+-1e\+15, but it reaches 2e\+15"),
        ({"weight": np.ones(8)}, ValueError, r"weight must have 2 axes, \(out, in\), but its shape is \(8,\)"),
        ({"weight": np.ones((2, 4, 8))}, ValueError, "weight must have 2 axes"),
        ({"weight": []}, ValueError, r"weight must be an array \(out, in\), or a list of at least one"),
        ({"weight": [normal(4, 8), normal(4, 7)]}, ValueError, "inputs must have 7 values along its last axis"),
        ({"inputs": np.full((5, 8), np.inf)}, ValueError, "inputs must be finite"),
        ({"inputs": np.full((5, 8), 2e15)}, ValueError, r"inputs must be within \+-1e\+15, but it reaches 2e\+15"),
        ({"inputs": np.ones((5, 7))}, ValueError, r"inputs must have 8 values along its last axis.*\(5, 7\)"),
        ({"inputs": 1.0}, ValueError, "inputs must have 8 values along its last axis"),
        ({"num_bits": 1}, ValueError, "num_bits must be from 2 to 16, not 1"),
        ({"num_bits": 4.0}, TypeError, "num_bits must be a whole number"),
        ({"group_size": 3}, ValueError, "group_size must divide the last axis, 8, but it is 3"),
        ({"group_size": 128}, ValueError, "group_size must be from 1 to 8, not 128"),
        ({"grid": 0}, ValueError, "grid must be from 1 to 1000, not 0"),
        ({"grid": 20.0}, TypeError, "grid must be a whole number"),
        ({"shared": [0, 1]}, ValueError, "shared must hold 8 numbers of 0 or more, one for each column"),
        ({"shared": [-1] * 8}, ValueError, "shared must hold 8 numbers of 0 or more"),
        ({"shared": [0.5] * 8}, TypeError, "shared must hold integers"),
        ({"clip": 0.5}, TypeError, "clip must be True or False"),
    ],
)
def test_refuses(changes, error, message):
    arguments = {"weight": normal(4, 8), "inputs": normal(5, 8), "num_bits": 4, "group_size": 4, **changes}
    with pytest.raises(error, match=message):
        awq(arguments.pop("weight"), arguments.pop("inputs"), arguments.pop("num_bits"), **arguments)


def test_the_default_group_size_is_128():
    with pytest.raises(ValueError, match="group_size must be from 1 to 64, not 128"):
        awq(*layer(), 4)
    result = awq(*layer(num_inputs=256), 4)
    assert isinstance(result, AwqResult)
    assert result.quantized.group_size == 128

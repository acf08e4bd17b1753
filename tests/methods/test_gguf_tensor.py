"""Matrices in the block formats of GGUF files: ggml's bytes, and what the formats promise."""

import gguf
import numpy as np
import pytest

from quantlab_helpers.methods.gguf_blocks import decode_q4_0, decode_q8_0
from quantlab_helpers.methods.gguf_tensor import GGUF_TYPES, GgufTensor, gguf_quantize

pytestmark = pytest.mark.filterwarnings("error")

BITS = {"Q8_0": 8.5, "Q5_1": 6, "Q5_0": 5.5, "Q4_1": 5, "Q4_0": 4.5, "MXFP4": 4.25}
each_type = pytest.mark.parametrize("name", GGUF_TYPES)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@each_type
@pytest.mark.parametrize("size", [1e-6, 1, 1e3])
def test_bytes_are_those_of_ggml(ggml, name, size):
    for seed in range(5):
        weight = normal(32, 576, seed=seed) * np.float32(size)
        np.testing.assert_array_equal(gguf_quantize(weight, name).data, ggml(weight, name))


@each_type
def test_zeros_stay_zeros(name):
    """(ggml and the package differ in the signs of zero scales.)"""
    assert not gguf_quantize(np.zeros((2, 64)), name).dequantize().any()


@pytest.mark.parametrize("name", [*GGUF_TYPES, "Q4_K"])
def test_recorded_values(ggml_golden, name):
    """Of ggml, the K format included, which is only read here."""
    data, expected = ggml_golden[f"{name}_bytes"], ggml_golden[f"{name}_deq_rows0_16"]
    tensor = GgufTensor(data, ggml_golden["W"].shape, name)
    np.testing.assert_array_equal(tensor.rows(slice(16)), expected)
    if name in GGUF_TYPES:
        np.testing.assert_array_equal(gguf_quantize(ggml_golden["W"], name).data, data)


@pytest.mark.parametrize(("name", "decode"), [("Q8_0", decode_q8_0), ("Q4_0", decode_q4_0)])
def test_the_lines_of_the_course_read_the_same(name, decode):
    tensor = gguf_quantize(normal(4, 64), name)
    np.testing.assert_array_equal(tensor.dequantize(), decode(tensor.data))


@each_type
def test_what_is_held(name):
    tensor = gguf_quantize(normal(6, 96), name)
    assert (tensor.shape, tensor.type, tensor.data.dtype) == ((6, 96), name, np.uint8)
    assert tensor.nbytes == tensor.data.nbytes
    assert tensor.bits_per_weight == BITS[name]
    assert f"{name}, {tensor.nbytes:,} bytes, {BITS[name]:g} bits per weight" in repr(tensor)


@each_type
def test_rows(name):
    tensor = gguf_quantize(normal(6, 64), name)
    whole = tensor.dequantize()
    assert whole.dtype == np.float32 and whole.shape == (6, 64)
    for which in ([3, 1, 3], np.array([[0, 5], [2, 2]]), slice(2, 4), np.array([4])):
        np.testing.assert_array_equal(tensor.rows(which), whole[which])


@each_type
def test_the_error_is_within_the_widest_step(name):
    weight = normal(16, 64)
    absmax = np.abs(weight.reshape(16, 2, 32)).max(axis=-1).repeat(32, axis=-1)
    steps = {"Q8_0": 127 * 2, "Q5_1": 31, "Q5_0": 16, "Q4_1": 15, "Q4_0": 8, "MXFP4": 4}[name]
    # A range of at most 2 absmax in so many steps, an error of at most one (half for most), and scales of float16.
    assert (np.abs(gguf_quantize(weight, name).dequantize() - weight) <= absmax * (1 / steps + 2**-10)).all()


def test_any_float_dtype():
    weight = normal(4, 64).astype(np.float16)
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(
            gguf_quantize(weight, "Q4_1").data, gguf_quantize(weight.astype(dtype), "Q4_1").data
        )


@pytest.mark.parametrize(
    ("weight", "type", "message"),
    [
        (np.full((2, 32), np.nan), "Q8_0", "weight must be finite"),
        (np.ones((2, 33)), "Q8_0", r"weight must have a last axis that 32 divides, but its shape is \(2, 33\)"),
        (np.ones(32), "Q8_0", r"weight must have 2 axes, \(out, in\), but its shape is \(32,\)"),
        (np.ones((2, 32)), "Q4_K", "type must be one of 'Q8_0', .*not 'Q4_K'"),
        (np.full((2, 32), 1e8), "Q8_0", "weight must fit in Q8_0, whose scales are float16, but reaches 1e"),
        (np.linspace(-1e7, 1e7, 32)[None], "Q4_1", "weight must fit in Q4_1"),
    ],
)
def test_refuses(weight, type, message):
    with pytest.raises(ValueError, match=message):
        gguf_quantize(weight, type)


def test_the_package_has_the_types_that_we_name():
    x = normal(1, 32)
    for name in GGUF_TYPES:
        assert gguf.quants.quantize(x, gguf.GGMLQuantizationType[name]).size * 8 / 32 == BITS[name]

"""Q8_0 and Q4_0 to the byte: recorded from ggml, and live against the gguf package and, where it is, ggml itself."""

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab_helpers.methods.gguf_blocks import decode_q4_0, decode_q8_0, encode_q4_0, encode_q8_0

pytestmark = pytest.mark.filterwarnings("error")

CODECS = {"Q8_0": (encode_q8_0, decode_q8_0), "Q4_0": (encode_q4_0, decode_q4_0)}
BLOCK_BYTES = {"Q8_0": 34, "Q4_0": 18}
LARGEST = {"Q8_0": 127 * 65504, "Q4_0": 8 * 65504}  # 65504 is float16's largest number
each_type = pytest.mark.parametrize("name", CODECS)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def nasty(seed):
    """A matrix (12, 64) of blocks in all sizes, full of ties, exact ones and, in every other row, near ones."""
    rng = np.random.default_rng(seed)
    sizes = np.float32(2) ** rng.integers(-30, 12, (12, 1))
    sizes[1::2] *= rng.uniform(1, 2, (6, 1))
    steps = np.concatenate(
        [
            rng.integers(-16, 17, (4, 64)) / 2,  # whole and half steps of Q4_0 where the largest is 8
            rng.integers(-254, 255, (4, 64)) / 2,  # of Q8_0, where it is 127
            rng.normal(size=(4, 64)),
        ]
    )
    steps[:8, ::32] = rng.choice([-1, 1], (8, 2)) * np.repeat([8, 127], 4)[:, None]
    return (steps * sizes).astype(np.float32)


# --- bytes and values of others ---------------------------------------------------------------------------


@each_type
def test_recorded_bytes(ggml_golden, name):
    encode, _ = CODECS[name]
    np.testing.assert_array_equal(encode(ggml_golden["W"]), ggml_golden[f"{name}_bytes"])


@each_type
def test_recorded_values(ggml_golden, name):
    _, decode = CODECS[name]
    values, expected = decode(ggml_golden[f"{name}_bytes"])[:16], ggml_golden[f"{name}_deq_rows0_16"]
    np.testing.assert_array_equal(values.view(np.uint32), expected.view(np.uint32))  # bits: 0 and -0 differ


@each_type
@given(st.integers(0, 2**32))
def test_the_gguf_package(name, seed):
    encode, decode = CODECS[name]
    kind = gguf.GGMLQuantizationType[name]
    for weight in (nasty(seed), normal(3, 96, seed=seed)):
        data = encode(weight)
        np.testing.assert_array_equal(data, gguf.quantize(weight, kind))
        np.testing.assert_array_equal(decode(data).view(np.uint32), gguf.dequantize(data, kind).view(np.uint32))


@each_type
def test_ggml(ggml, name):
    encode, _ = CODECS[name]
    for seed in range(20):
        for weight in (nasty(seed), normal(64, 576, seed=seed)):
            np.testing.assert_array_equal(encode(weight), ggml(weight, name))


@each_type
@pytest.mark.parametrize("size", [0, 1e-36, 1e-20, 1e-9, 1e-6, 1, 6e4, 5e5])
def test_ggml_at_any_size(ggml, name, size):
    encode, _ = CODECS[name]
    weight = np.clip(normal(8, 64), -1, 1) * np.float32(size)
    np.testing.assert_array_equal(encode(weight), ggml(weight, name))


@each_type
def test_the_reader_of_the_package(tmp_path, name):
    from quantlab_helpers.gguf_file import GgufFile

    encode, decode = CODECS[name]
    data = encode(normal(4, 64))
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("w", data, raw_dtype=gguf.GGMLQuantizationType[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    np.testing.assert_array_equal(GgufFile(tmp_path / "m.gguf").read("w"), decode(data))


# --- what the formats promise -----------------------------------------------------------------------------


@each_type
def test_bits_per_weight(name):
    encode, _ = CODECS[name]
    data = encode(normal(6, 96))
    assert data.dtype == np.uint8
    assert data.shape == (6, 3 * BLOCK_BYTES[name])
    assert 8 * data.nbytes / (6 * 96) == {"Q8_0": 8.5, "Q4_0": 4.5}[name]


@given(st.integers(0, 2**32), st.sampled_from(sorted(CODECS)))
def test_error_is_half_a_step(seed, name):
    encode, decode = CODECS[name]
    weight = normal(3, 64, seed=seed) * np.float32(2) ** np.random.default_rng(seed).integers(-5, 10, (3, 1))
    off = np.abs(decode(encode(weight)).astype(np.float64) - weight).reshape(3, 2, 32)
    blocks = weight.reshape(3, 2, 32)
    absmax = np.abs(blocks).max(axis=-1, keepdims=True).astype(np.float64)
    if name == "Q8_0":
        bound = absmax / 127 / 2
    else:  # beyond 7.5 steps, on the side that the largest is not on, the last code is up to a whole step away
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1, keepdims=True), axis=-1)
        bound = np.where(-blocks * np.sign(largest) > 7.5 / 8 * absmax, 1, 0.5) * absmax / 8
    # The scale, a normal number, is rounded to float16 by 2**-11 of itself, and then multiplied by up to 127 or 8.
    assert (off <= bound + 2.0**-11 * 1.001 * absmax).all()


def test_q8_0_rounds_halves_away_from_zero():
    weight = np.zeros((1, 32), np.float32)
    weight[0, :8] = [127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, np.nextafter(np.float32(0.5), np.float32(0))]
    assert encode_q8_0(weight)[0, 2:10].view(np.int8).tolist() == [127, 1, 2, 3, -1, -2, -3, 0]


def test_q4_0_rounds_halves_up_and_takes_the_sign_of_the_largest():
    weight = np.zeros((1, 32), np.float32)
    weight[0, :8] = [-8, 8, 7.5, 6.5, -6.5, -7.5, 0.5, -0.5]
    codes = encode_q4_0(weight)[0, 2:] & 15
    assert codes[:8].tolist() == [0, 15, 15, 15, 2, 1, 9, 8]
    assert decode_q4_0(encode_q4_0(weight))[0, :8].tolist() == [-8, 7, 7, 7, -6, -7, 1, 0]
    # The first of the largest decides: now that is 8, and the scale is negative.
    weight[0, :2] = [8, -8]
    assert decode_q4_0(encode_q4_0(weight))[0, :8].tolist() == [8, -7, 7, 6, -7, -7, 0, -1]


def test_q4_0_holds_value_j_beside_value_j_plus_16():
    weight = np.float32([[-8] + [0] * 15 + [7] + [0] * 15])
    assert encode_q4_0(weight)[0, 2:].tolist() == [0xF0] + [0x88] * 15


# --- edge cases -------------------------------------------------------------------------------------------


@each_type
def test_zeros_stay_zeros(name):
    encode, decode = CODECS[name]
    weight = normal(3, 64)
    weight[1] = 0
    weight[2, 32:] = 0
    restored = decode(encode(weight))
    assert not restored[1].any()
    assert not restored[2, 32:].any()
    assert restored[2, :32].any()
    np.testing.assert_array_equal(encode(-np.zeros(32)), encode(np.zeros(32)))


@each_type
def test_constant_rows(name):
    encode, decode = CODECS[name]
    weight = np.repeat(np.float32([[0.5], [-0.5], [127], [-8]]), 32, axis=1)
    # float16 rounds the scale by 2**-11 of itself.
    np.testing.assert_allclose(decode(encode(weight)), weight, rtol=2.0**-11)


@each_type
@pytest.mark.parametrize("size", [1e-45, 1e-41, 1e-38, 3e-37, 1e-30])
def test_tiny_blocks_become_zero(name, size):
    """Their scale is 0 in float16. (Below about 1e-37 ggml's codes are the result of an undefined conversion.)"""
    encode, decode = CODECS[name]
    assert not decode(encode(normal(2, 64) * np.float32(size))).any()


@each_type
def test_the_largest_that_fits(name):
    encode, decode = CODECS[name]
    weight = np.full((1, 32), -LARGEST[name], np.float32)
    np.testing.assert_array_equal(decode(encode(weight)), weight)
    with pytest.raises(ValueError, match=rf"weight must be within \+-{LARGEST[name]}, but it reaches"):
        encode(np.nextafter(weight, np.float32(-np.inf)))


@each_type
def test_shape_dtype_and_layout(name):
    encode, decode = CODECS[name]
    weight = normal(4, 2, 64)
    weight.flags.writeable = False
    data = encode(weight)
    assert data.shape == (4, 2, 2 * BLOCK_BYTES[name])
    assert decode(data).shape == (4, 2, 64)
    assert decode(data).dtype == np.float32
    np.testing.assert_array_equal(encode(weight[1, 1]), data[1, 1])
    np.testing.assert_array_equal(decode(data[1, 1]), decode(data)[1, 1])
    strided = np.repeat(weight, 2, axis=-1)[..., ::2]
    for same in (np.asfortranarray(weight), strided, weight.astype(np.float64), weight.tolist()):
        np.testing.assert_array_equal(encode(same), data)
    half = weight.astype(np.float16)
    np.testing.assert_array_equal(encode(half), encode(half.astype(np.float32)))
    np.testing.assert_array_equal(decode(np.asfortranarray(data)), decode(data))
    np.testing.assert_array_equal(decode(np.repeat(data, 2, axis=-1)[..., ::2]), decode(data))


@each_type
@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        (np.full((1, 32), np.nan), ValueError, "weight must be finite, but 32 of 32"),
        (np.full((1, 32), np.inf), ValueError, "weight must be finite"),
        (np.ones((4, 48)), ValueError, r"weight must have a last axis that 32 divides, but its shape is \(4, 48\)"),
        (np.ones((32, 1)), ValueError, r"weight must have a last axis that 32 divides, but its shape is \(32, 1\)"),
        (1.0, ValueError, "weight must have a last axis that 32 divides"),
        (np.ones((0, 32)), ValueError, "weight must hold at least one value"),
        (np.full(32, 1e30), ValueError, r"weight must be within \+-\d+, but it reaches 1e\+30"),
        ([["a"] * 32], TypeError, "weight must hold real numbers"),
    ],
)
def test_refuses_to_encode(name, weight, error, message):
    encode, _ = CODECS[name]
    with pytest.raises(error, match=message):
        encode(weight)


@each_type
@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (np.zeros(32, np.int8), TypeError, "data must be uint8, not int8"),
        (np.zeros((2, 33), np.uint8), ValueError, r"data must hold whole blocks of \d+ bytes .* \(2, 33\)"),
        (np.zeros(0, np.uint8), ValueError, "data must hold whole blocks"),
        (np.uint8(0), ValueError, "data must hold whole blocks"),
    ],
)
def test_refuses_to_decode(name, data, error, message):
    _, decode = CODECS[name]
    with pytest.raises(error, match=message):
        decode(data)

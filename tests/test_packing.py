"""b-bit codes <-> bytes: the layout, and that nothing is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import quantlab_helpers as ql
from quantlab_helpers import packing


def bits_of(codes, num_bits):
    """The layout's definition: a stream of bits, least significant first."""
    bits = [(int(code) >> k) & 1 for code in np.ravel(codes) for k in range(num_bits)]
    return np.packbits(np.array(bits, np.uint8), bitorder="little")


@given(st.data(), st.integers(1, 8), st.booleans())
def test_pack_and_unpack_are_inverse(data, num_bits, signed):
    low, high = (-(2 ** (num_bits - 1)), 2 ** (num_bits - 1) - 1) if signed else (0, 2**num_bits - 1)
    dtype = data.draw(st.sampled_from([np.int8, np.int16, np.int64] if signed else [np.uint8, np.uint16, np.int64]))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20))
    codes = data.draw(hnp.arrays(dtype, shape, elements=st.integers(low, high)))

    packed = ql.pack(codes, num_bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (-(-codes.size * num_bits // 8),)
    np.testing.assert_array_equal(packed, bits_of(codes, num_bits))
    unpacked = ql.unpack(packed, num_bits, shape, signed=signed)
    np.testing.assert_array_equal(unpacked, codes)
    assert unpacked.dtype == (np.int8 if signed else np.uint8)


@pytest.mark.parametrize("num_bits", range(1, 9))
@pytest.mark.parametrize("extra", [-1, 0, 1, packing.BLOCK + 3])
def test_more_than_a_block(num_bits, extra):
    count = packing.BLOCK + extra
    codes = np.random.default_rng(num_bits).integers(0, 2**num_bits, count, dtype=np.uint8)
    packed = ql.pack(codes, num_bits)
    np.testing.assert_array_equal(
        packed, np.packbits(np.unpackbits(codes[:, None], 1, num_bits, "little"), None, "little")
    )
    np.testing.assert_array_equal(ql.unpack(packed, num_bits, (count,)), codes)


def test_the_first_of_two_4_bit_codes_is_the_low_nibble():
    assert ql.pack([0x1, 0x2, 0xF], 4).tolist() == [0x21, 0x0F]
    assert ql.pack([-1, 1, -8], 4).tolist() == [0x1F, 0x08]


def test_the_layout_of_3_bit_codes():
    # codes 1 to 7 and 0, the first in the lowest bits
    assert int.from_bytes(ql.pack([1, 2, 3, 4, 5, 6, 7, 0], 3).tobytes(), "little") == 0o07654321


@pytest.mark.parametrize("order", ["C", "F"])
def test_codes_are_read_in_c_order(order):
    codes = np.arange(12, dtype=np.int8).reshape(3, 4)
    assert ql.pack(np.array(codes, order=order), 4).tolist() == ql.pack(codes.reshape(-1), 4).tolist()
    assert ql.pack(codes[:, ::2], 4).tolist() == ql.pack([0, 2, 4, 6, 8, 10], 4).tolist()


def test_the_input_stays_as_it_is():
    data = ql.pack(np.array([-3, 2, 1], np.int8), 4)
    data.flags.writeable = False
    before = data.copy()
    ql.unpack(data, 4, 3, signed=True)[:] = 0
    ql.unpack(data[::-1], 8, (2,))[:] = 0
    np.testing.assert_array_equal(data, before)


@pytest.mark.parametrize("shape", [(3,), [3], 3, np.int64(3), (np.int8(3), 1)])
def test_a_shape_is_a_tuple_a_list_or_a_number(shape):
    assert ql.unpack(b"\x21\x0f", 4, shape).reshape(-1).tolist() == [1, 2, 15]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_unpacked(kind):
    assert ql.unpack(kind(b"\x21\x0f"), 4, (3,)).tolist() == [1, 2, 15]


def test_strided_bytes_are_unpacked():
    data = np.array([[0x21, 0], [0x43, 0]], np.uint8)[:, 0]
    assert ql.unpack(data, 4, (2, 2)).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("codes", "num_bits", "error", "message"),
    [
        ([16], 4, ValueError, "codes must be from 0 to 15 to fit in 4 bits, not 0 to 16"),
        ([-9], 4, ValueError, "codes must be from -8 to 7 to fit in 4 bits, not -9 to 0"),
        ([-1, 8], 4, ValueError, "codes must be from -8 to 7 to fit in 4 bits, not -1 to 8"),
        ([2**40], 8, ValueError, "codes must be from 0 to 255"),
        ([1.0], 4, TypeError, "codes must hold integers, not float64"),
        ([True], 1, TypeError, "codes must hold integers, not bool"),
        (["1"], 4, TypeError, "codes must hold integers"),
        ([1], 0, ValueError, "num_bits must be from 1 to 8, not 0"),
        ([1], 9, ValueError, "num_bits must be from 1 to 8, not 9"),
        ([1], "4", TypeError, "num_bits must be a whole number"),
    ],
)
def test_pack_refuses(codes, num_bits, error, message):
    with pytest.raises(error, match=message):
        ql.pack(codes, num_bits)


@pytest.mark.parametrize(
    ("data", "num_bits", "shape", "error", "message"),
    [
        (b"\0\0", 4, (5,), ValueError, "data must be 3 bytes for 5 codes of 4 bits, but it is 2"),
        (b"\0\0", 4, (2,), ValueError, "data must be 1 bytes for 2 codes of 4 bits, but it is 2"),
        (b"", 3, (1,), ValueError, "data must be 1 bytes"),
        ([1, 2], 4, (4,), TypeError, "data must be bytes or a uint8 array, not int64"),
        (np.zeros(2, np.int8), 4, (4,), TypeError, "data must be bytes or a uint8 array, not int8"),
        (b"\0\0", 4, (10**6, 10**6, 10**6), ValueError, "data must be 500000000000000000 bytes"),
        *(
            (b"\0\0", 4, shape, ValueError, "shape must be whole numbers, 0 or more, not")
            for shape in [(-1, 4), -4, (-2, -2), None, (4.0,), "4", ("4",), 4.0, [[4]]]
        ),
        (b"\0", 9, (1,), ValueError, "num_bits must be from 1 to 8, not 9"),
    ],
)
def test_unpack_refuses(data, num_bits, shape, error, message):
    with pytest.raises(error, match=message):
        ql.unpack(data, num_bits, shape)


@pytest.mark.parametrize("signed", ["yes", 1, None])
def test_unpack_refuses_what_only_looks_true_or_false(signed):
    with pytest.raises(TypeError, match="signed must be True or False, not "):
        ql.unpack(b"\0", 4, 2, signed=signed)

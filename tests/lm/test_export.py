"""Exported files: the gguf package reads every tensor back, our loader the same model. See also test_llama_cpp.py."""

import gguf
import numpy as np
import pytest
from small_model import make_model

from quantlab_helpers import lm
from quantlab_helpers.methods.gguf_tensor import GGUF_TYPES, gguf_quantize

pytestmark = pytest.mark.filterwarnings("error")

TEXT = "Tom has a red ball. His friend Ella lived next door. 12 + 3?\nNaïve 😀"


@pytest.fixture(scope="module")
def tinytales():
    return lm.load("tinytales")


def stored(path):
    """Every tensor of a file, as the gguf package reads it: name -> type and array."""
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("name", ["tinytales", "tinytales-small"])
def test_the_loaded_file_is_the_same_model(tmp_path, name):
    model = lm.load(name)
    again = lm.load(lm.export_gguf(model, tmp_path / "m.gguf"))
    tokens = model.tokenizer.encode_prompt(TEXT)
    assert again.tokenizer.encode_prompt(TEXT) == tokens
    assert again.decode(tokens) == model.decode(tokens)
    assert again.tokenizer.stop_tokens == model.tokenizer.stop_tokens
    assert again.config.max_context == model.config.max_context
    # Pairs turn in another order, so products are summed in another order: float32's epsilon, over sums of 128 terms.
    np.testing.assert_allclose(again.logits(tokens), model.logits(tokens), atol=1e-4)


def test_the_gguf_package_reads_every_tensor(tmp_path, tinytales):
    tensors = stored(lm.export_gguf(tinytales, tmp_path / "m.gguf"))
    assert len(tensors) == len(tinytales.weights) + len(tinytales.norms)
    config = tinytales.config
    for name, weight in {**tinytales.weights, **tinytales.norms}.items():
        tensor = tensors[lm.checkpoint.gguf_names(tinytales)[name]]
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        if name.endswith(("q_proj", "k_proj")):  # row 2j and 2j + 1 of a head were j and j + half
            heads = weight.reshape(-1, config.head_size, config.width)
            halves = heads[:, : config.head_size // 2], heads[:, config.head_size // 2 :]
            weight = np.stack(halves, axis=2).reshape(weight.shape)
        np.testing.assert_array_equal(tensor.data, weight)


@pytest.mark.parametrize("type", GGUF_TYPES)
def test_a_model_that_is_held_in_a_type_of_gguf_is_written_as_it_is(tmp_path, tinytales, type):
    quantized = lm.quantize_model(tinytales, "gguf", type=type, layers="*")
    path = lm.export_gguf(quantized, tmp_path / "m.gguf")
    for name, tensor in stored(path).items():
        assert tensor.tensor_type.name == ("F32" if "norm" in name else type)
    again = lm.load(path)
    for name in ("embedding", "layers.2.v_proj", "layers.4.down_proj"):
        np.testing.assert_array_equal(again.weights[name], quantized.weights[name].dequantize())
    tokens = tinytales.tokenizer.encode_prompt(TEXT)
    np.testing.assert_allclose(again.logits(tokens), quantized.logits(tokens), atol=1e-3)


@pytest.mark.parametrize("type", ["F16", *GGUF_TYPES])
def test_other_matrices_are_written_in_the_type_that_is_asked_for(tmp_path, tinytales, type):
    quantized = lm.quantize_model(tinytales, num_bits=6)  # packed integers
    tensors = stored(lm.export_gguf(quantized, tmp_path / "m.gguf", type))
    weight = quantized.weights["layers.3.up_proj"].dequantize()
    tensor = tensors["blk.3.ffn_up.weight"]
    assert tensor.tensor_type.name == type
    expected = weight.astype(np.float16) if type == "F16" else gguf_quantize(weight, type).data
    np.testing.assert_array_equal(tensor.data, expected)
    assert tensors["token_embd.weight"].tensor_type.name == type
    assert tensors["output_norm.weight"].tensor_type.name == "F32"


def test_the_size_of_the_file_is_that_of_the_model(tmp_path, tinytales):
    quantized = lm.quantize_model(tinytales, "gguf", type="Q4_0", layers="*")
    size = lm.export_gguf(quantized, tmp_path / "m.gguf").stat().st_size
    assert quantized.nbytes < size < quantized.nbytes + 60_000  # words, merges and names


def test_smollm2_comes_back(tmp_path, smollm2):
    """A model that came from GGUF already: nothing is put in another order, and its text is cut alike."""
    again = lm.load(lm.export_gguf(smollm2, tmp_path / "m.gguf", "Q8_0"))
    assert again.encode(TEXT) == smollm2.encode(TEXT)
    assert again.tokenizer.bos is None and again.tokenizer.stop_tokens == smollm2.tokenizer.stop_tokens
    assert again.tokenizer.chat_template == smollm2.tokenizer.chat_template
    assert "<|im_start|>assistant" in smollm2.tokenizer.chat_template
    assert [again.tokenizer.eos] == smollm2.encode("<|im_end|>")  # and not <|endoftext|>, whose number is lower
    weight = smollm2.weights["layers.5.q_proj"]
    np.testing.assert_array_equal(again.weights["layers.5.q_proj"], gguf_quantize(weight, "Q8_0").dequantize())


# --- care -------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_stays(tmp_path, tinytales):
    path = tmp_path / "m.gguf"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"m\.gguf is there already: choose another name, or say overwrite=True"):
        lm.export_gguf(tinytales, path)
    assert path.read_text() == "mine"
    assert lm.export_gguf(tinytales, path, overwrite=True).stat().st_size > 4_000_000


def test_nothing_is_left_of_an_export_that_fails(tmp_path, tinytales, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(OSError, match="disk full"):
        lm.export_gguf(tinytales, tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "type", "error", "message"),
    [
        ("m.bin", "F32", ValueError, r"path must end in .gguf, not 'm.bin'"),
        (3, "F32", TypeError, "path must be the name of a file, not 3"),
        ("m.gguf", "Q4_K", ValueError, "type must be one of 'F32', 'F16', 'Q8_0', .*not 'Q4_K'"),
    ],
)
def test_refuses(tmp_path, monkeypatch, tinytales, path, type, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        lm.export_gguf(tinytales, path, type)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["w8a8", "llm_int8"])
def test_layers_that_quantize_activations_have_no_place(tmp_path, tinytales, method):
    quantized = lm.quantize_model(tinytales, method)
    with pytest.raises(ValueError, match=r"model must hold matrices, but layers\.0\.q_proj is a layer that GGUF has"):
        lm.export_gguf(quantized, tmp_path / "m.gguf")


def test_a_tokenizer_without_a_name(tmp_path):
    model = make_model()
    model.tokenizer = lm.load("tinytales").tokenizer
    from tokenizers.pre_tokenizers import Whitespace

    model.tokenizer._tokenizer.pre_tokenizer = Whitespace()
    with pytest.raises(ValueError, match="the tokenizer must cut text as one of smollm, gpt-2, llama-bpe, qwen2 does"):
        lm.export_gguf(model, tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())

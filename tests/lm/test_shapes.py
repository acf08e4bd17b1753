"""Shapes of known models, against the counts of parameters that their authors publish; and random weights."""

import numpy as np
import pytest

from quantlab_helpers import lm

# As Hugging Face's page of each model states, from the tensors of its safetensors files.
PUBLISHED = {
    "SmolLM2-135M": 134_515_008,
    "SmolLM2-360M": 361_821_120,
    "TinyLlama-1.1B": 1_100_048_384,
    "Llama-3.2-1B": 1_235_814_400,
    "SmolLM2-1.7B": 1_711_376_384,
    "Llama-3.2-3B": 3_212_749_824,
    "Llama-3.1-8B": 8_030_261_248,
}


def test_every_known_shape_has_the_published_number_of_parameters():
    assert {name: shape.num_parameters for name, shape in lm.KNOWN_SHAPES.items()} == PUBLISHED


def test_smollm2_has_the_shape_of_its_file(smollm2):
    config, known = smollm2.config, lm.KNOWN_SHAPES["SmolLM2-135M"].config
    for size in (
        "vocab_size",
        "width",
        "ffn_width",
        "num_layers",
        "num_heads",
        "num_kv_heads",
        "head_size",
        "rope_base",
    ):
        assert getattr(config, size) == getattr(known, size), size


def _small(tied):
    sizes = dict(vocab_size=50, width=16, ffn_width=32, num_layers=3, num_heads=2, num_kv_heads=1, head_size=8)
    return lm.ModelShape(lm.LlamaConfig(**sizes, max_context=20), tied)


@pytest.mark.parametrize("tied", [True, False])
def test_a_random_model_has_its_shape_and_computes(tied):
    shape = _small(tied)
    model = lm.random_model(shape, seed=3)
    assert ("head" in model.weights) is not tied
    assert model.num_parameters == shape.num_parameters
    assert model.nbytes == 4 * shape.num_parameters
    assert np.isfinite(model.logits([1, 2, 3])).all()
    assert np.array_equal(model.logits([1]), lm.random_model(shape, seed=3).logits([1]))
    assert not np.array_equal(model.logits([1]), lm.random_model(shape, seed=4).logits([1]))


def test_bad_input_is_named():
    with pytest.raises(TypeError, match="shape must be a ModelShape"):
        lm.random_model("SmolLM2-135M")
    with pytest.raises(ValueError, match="seed"):
        lm.random_model(_small(True), seed=-1)

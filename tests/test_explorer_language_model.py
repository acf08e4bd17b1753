"""The explorer of notebook 06 against a model quantized by hand."""

import numpy as np
import pytest

from quantlab_helpers import explorers, lm

TALES = lm.heldout_tales()[:2]
TEXT, PROMPT = lm.joined(TALES), "Tom had a red ball."


@pytest.fixture(scope="module")
def model():
    return lm.load("tinytales")


@pytest.fixture(scope="module")
def explorer(model):
    return explorers.language_model(model, TEXT, PROMPT)


LAYERS = {
    "all linear layers": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "attention only": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "feed-forward only": ("gate_proj", "up_proj", "down_proj"),
    "embedding only": ("embedding",),
}


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize(
    ("scales", "options"),
    [
        ("one", {"per": "tensor"}),
        ("one per row", {"per": "channel"}),
        ("groups of 32", {"per": "group", "group_size": 32}),
    ],
)
def test_quantizes_what_its_controls_say(model, explorer, layers, scales, options):
    chosen = [name for name in model.weights if name.split(".")[-1] in LAYERS[layers]]
    by_hand = lm.quantize_model(model, num_bits=3, layers=chosen, **options)
    result = explorer.compute(layers=layers, scales=scales, num_bits=3)
    assert result.nbytes == by_hand.nbytes
    assert result.perplexity == lm.perplexity(by_hand, TEXT)
    assert result.ratio == result.perplexity / lm.perplexity(model, TEXT)
    assert result.divergence == lm.kl_divergence(by_hand, model, TEXT)
    assert by_hand.generate(PROMPT, 24).strip() == result.story


def test_all_controls_are_offered_and_named(explorer):
    assert [control.positions for control in explorer.controls] == [
        tuple(LAYERS),
        ("one", "one per row", "groups of 32"),
        (8, 6, 4, 3, 2),
    ]
    assert explorer.is_precomputed


def test_the_sentence_says_the_numbers(explorer):
    result = explorer.compute(layers="attention only", scales="one", num_bits=2)
    sentence = explorer.sentence(layers="attention only", scales="one", num_bits=2)
    for number in (f"{result.nbytes / 1e6:.2f} MB", f"{result.perplexity:.4g}", f"{result.divergence:.3g}"):
        assert number in sentence
    assert f"{PROMPT} {result.story}" in sentence


def test_the_point_in_sight_is_on_the_curve_and_further_up_where_the_model_is_worse(explorer):
    def height(num_bits):
        frame = explorer.draw(explorer.compute(layers="all linear layers", scales="one", num_bits=num_bits))
        *_, highlighted = frame.split("<circle")
        return float(highlighted.split('cy="')[1].split('"')[0])

    assert height(2) < height(8)  # pixels count from the top
    assert np.isfinite(height(2))

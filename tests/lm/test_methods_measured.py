"""The stored comparison of all methods is what its tool measures, and has the shape that the course tells of."""

import measure_methods as tool
import pytest

from quantlab_helpers import lm

MODELS = ("tinytales", "smollm2-135m")
each_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def load(request):
    """A function that loads a model: SmolLM2 by the fixture that says where it may be missing."""
    return lambda name: lm.load(name) if name == "tinytales" else request.getfixturevalue("smollm2")


@each_model
def test_every_variant_of_the_tool_is_stored_with_its_options(load, name):
    stored = {label: row["options"] for label, row in lm.methods_measured(name).items() if label != "float32"}
    assert stored == tool.variants(name, load(name))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        *(("tinytales", label) for label in lm.methods_measured("tinytales") if label != "float32"),
        ("smollm2-135m", "SmoothQuant"),
        ("smollm2-135m", "LLM.int8()"),
        ("smollm2-135m", "NF4"),
    ],
)
def test_a_stored_row_is_measured_again(load, name, label):
    model, stored = load(name), lm.methods_measured(name)[label]
    text, calibration = tool.texts(name, model)
    again = tool.measure(model, lm.Yardstick(model, text), calibration, stored["options"])
    assert again["bits_per_linear_weight"] == stored["bits_per_linear_weight"]
    # Sums in another order move codes that lie near a tie, one in some thousand: far less than the noise of the text.
    assert again["divergence"] == pytest.approx(stored["divergence"], rel=0.05, abs=1e-6)
    assert again["perplexity"] == pytest.approx(stored["perplexity"], rel=0.01)


def rows():
    return lm.methods_measured("smollm2-135m")


def test_gptq_and_awq_are_better_than_rounding_beyond_the_noise():
    for note in ("4 bits", "4 bits in groups of 64", "3 bits in groups of 64"):
        rounded = rows()[f"RTN, {note}"]
        for method in ("GPTQ", "GPTQ act-order", "AWQ", "AWQ clip"):
            row = rows()[f"{method}, {note}"]
            noise = row["divergence_standard_error"] + rounded["divergence_standard_error"]
            assert row["divergence"] + 3 * noise < rounded["divergence"], (method, note)


def test_the_shape_of_w8a8():
    per_tensor, per_token, smooth = (
        rows()[f"{label}"]["divergence"] for label in ("W8A8 per tensor", "W8A8 per token", "SmoothQuant")
    )
    assert 0.5 < per_tensor < 1 and 0.015 < per_token < 0.06 and smooth < 0.75 * per_token


def test_the_baseline_is_the_first_row():
    for name in MODELS:
        first, *_ = lm.methods_measured(name).items()
        assert first[0] == "float32" and first[1]["divergence"] == 0 and first[1]["bits_per_linear_weight"] == 32


def test_refuses():
    with pytest.raises(ValueError, match="model must be one of 'tinytales', 'smollm2-135m', not 'gpt2'"):
        lm.methods_measured("gpt2")

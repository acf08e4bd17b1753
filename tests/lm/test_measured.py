"""What is stored of SmolLM2 is what the tool measures, and has the shape that the course tells of."""

import extract_layer_inputs
import measure_smollm2 as tool
import numpy as np
import pytest

from quantlab_helpers import layer_inputs, lm

MEASURED = lm.smollm2_measured()
ROWS = MEASURED["rows"]


def test_every_variant_of_the_tool_is_stored_with_its_options():
    assert {label: row["options"] for label, row in ROWS.items()} == tool.variants()
    assert MEASURED["question"] == tool.QUESTION
    assert list(MEASURED["answers"]) == ["float32", *tool.ANSWERED]


def test_the_stored_bits_are_those_of_the_options(smollm2):
    linear = sum(weight.size for weight in smollm2.linears.values())
    for row in ROWS.values():
        held = MEASURED["nbytes"] - 4 * linear + row["bits_per_linear_weight"] * linear / 8
        assert row["nbytes"] == pytest.approx(held)


@pytest.mark.parametrize("label", ["8 bits, one scale per row", "4 bits, groups of 64"])
def test_a_stored_row_is_measured_again(smollm2, label):
    yardstick = lm.Yardstick(smollm2, lm.evaluation_text())
    again, stored = tool.measure(smollm2, yardstick, ROWS[label]["options"]), ROWS[label]
    assert again["nbytes"] == stored["nbytes"]
    # float32 sums in another order move a logit by some 1e-5; a KL of 0.0024 comes from moves 1000 times as large.
    for name in ("perplexity", "perplexity_standard_error", "divergence", "divergence_standard_error"):
        assert again[name] == pytest.approx(stored[name], rel=1e-2), name
    assert again["top1_agreement"] == pytest.approx(stored["top1_agreement"], abs=2e-3)


def test_a_stored_answer_is_given_again(smollm2):
    assert smollm2.generate(tool.CHAT, tool.ANSWER_TOKENS) == MEASURED["answers"]["float32"]


def kl(label):
    return ROWS[label]["divergence"]


def test_fewer_bits_and_coarser_scales_are_worse():
    for scales in ("one scale", "one scale per row", "groups of 64"):
        found = [kl(f"{bits} bits, {scales}") for bits in (8, 6, 5, 4, 3, 2)]
        assert found == sorted(found)
    for bits in (8, 6, 5, 4, 3, 2):
        assert kl(f"{bits} bits, groups of 64") < kl(f"{bits} bits, one scale per row") < kl(f"{bits} bits, one scale")


def test_the_shipped_inputs_of_a_layer_are_what_the_model_gives(smollm2):
    windows = extract_layer_inputs.HELDOUT_WINDOWS
    found = extract_layer_inputs.inputs_of(smollm2, lm.evaluation_text(), windows)
    # float32 sums in another order, then rounded to float16
    np.testing.assert_allclose(found, layer_inputs().heldout, rtol=2**-10, atol=1e-3)

"""The capstone: what is measured of a recipe, what is refused, what a missed limit is told, and the table."""

import dataclasses
import json
import math
import re
import sys

import course
import lessons
import numpy as np
import pytest

import quantlab_helpers
from quantlab_helpers import capstone, lm, local_files
from quantlab_helpers.capstone import HINTS, Budget, kept_limits, score, within_budget

SPEED = 5000.0


@pytest.fixture(autouse=True)
def _own_folder_and_no_clock(monkeypatch, tmp_path):
    """Scores go to a folder of the test's own, and every model writes at one speed: tests time nothing."""
    monkeypatch.setenv("QUANTLAB_HOME", str(tmp_path))
    monkeypatch.setattr(capstone.timing, "medians", lambda measures, turns: dict.fromkeys(measures, SPEED))
    monkeypatch.setattr(capstone, "_writer", lambda model: None)


def test_a_good_recipe_is_within_budget_and_its_numbers_are_those_of_its_model():
    result = score(within_budget, name="mine")
    model = lm.load("tinytales")
    mine = within_budget(model, lm.joined(lm.calibration_tales()))
    assert result.passed and result.message.kind == "good"
    assert result.found["megabytes"] == mine.nbytes / 1e6
    assert result.found["divergence"] == lm.Yardstick(model, lm.joined(lm.heldout_tales())).measure(mine).divergence
    assert result.found["tokens_per_second"] == SPEED
    assert [row[0] for row in result.table.rows] == ["float32", *capstone.REFERENCES, "mine"]
    assert [row[-1] for row in result.table.rows] == ["no", "no", "no", "no", "yes"]


def test_the_recipe_of_a_solved_notebook_is_within_budget():
    """The notebook knows the course as `ql` alone."""
    (stub,) = [cell.source for cell in course.read("11_deploy").cells if lessons.is_capstone(cell)]
    notebook = {"ql": quantlab_helpers}
    exec(lessons.solved_source(stub), notebook)
    assert score(notebook["recipe"]).passed


def test_no_reference_keeps_to_the_budget_and_no_limit_is_there_for_nothing():
    """By more than the noise: 8 bits are too large, 4 bits too far; NF4's speed is tested by its lack of a kernel."""
    budget = Budget()
    models = capstone._references()
    assert models["int8 everywhere"].nbytes / 1e6 > 1.2 * budget.megabytes
    for name in ("int4, embedding int8", "NF4, embedding int8"):
        divergence = capstone.measured(models[name], SPEED)["divergence"]
        assert divergence - budget.divergence > 5 * divergence.standard_error
    assert not models["NF4, embedding int8"]._has_kernels
    assert models["int8 everywhere"]._has_kernels


def float_model(model, calibration):
    lm.quantize_model(model)
    return model


class Untruthful(lm.LanguageModel):
    nbytes = 0


def another_class(model, calibration):
    """It is made anew from its matrices, which are float."""
    return Untruthful(model.config, model.weights, model.norms, model.tokenizer)


class FreeLayer:
    nbytes = 0

    def __init__(self, weight):
        self.weight, self.shape = weight, weight.shape

    def __call__(self, x):
        return x @ self.weight.T


class FreeArray(np.ndarray):
    nbytes = 0


def free_parts(model, calibration):
    """A layer of the course's whose array says that it takes nothing."""
    weight = lm.quantize_model(model, layers="*.q_proj").weights["layers.0.q_proj"]
    return model.replace({"layers.0.q_proj": dataclasses.replace(weight, data=weight.data.view(FreeArray))})


def free_norms(model, calibration):
    return lm.quantize_model(model.replace({}, {"norm": model.norms["norm"].view(FreeArray)}), layers="*")


@pytest.mark.parametrize(
    ("recipe", "hint"),
    [
        (lambda model, calibration: None, "no model"),
        (lambda model, calibration: model.weights, "no model"),
        (lambda model, calibration: lm.quantize_model(lm.load("tinytales-small"), layers="*"), "other model"),
        (float_model, "float"),
        (another_class, "float"),
        (lambda model, calibration: model.replace({n: FreeLayer(w) for n, w in model.linears.items()}), "other layers"),
        (free_parts, "other layers"),
        (free_norms, "other layers"),
    ],
)
def test_what_cannot_be_scored_earns_its_hint_and_is_not_kept(recipe, hint):
    result = score(recipe, name="mine")
    assert not result.passed and not result.found
    assert [row[0] for row in result.table.rows] == ["float32", *capstone.REFERENCES]
    assert (result.message.kind, result.message.lines) == ("hint", (HINTS[hint],))
    assert capstone.scores().rows == []


def v_proj_at_8_bits(model, calibration):
    model = lm.quantize_model(model, num_bits=8, layers=["embedding", "*.v_proj"], kernel="numba")
    others = {name: 4 for name, weight in model.linears.items() if isinstance(weight, np.ndarray)}
    return lm.quantize_model(model, "gptq", num_bits=others, group_size=64, calibration=calibration, kernel="numba")


def everything_at_4_bits(model, calibration):
    return lm.quantize_model(model, num_bits=4, per="group", group_size=32, layers="*", kernel="numba")


def down_proj_at_8_bits(model, calibration):
    model = lm.quantize_model(model, num_bits=8, layers=["embedding", "*.down_proj"], kernel="numba")
    others = {name: 4 for name, weight in model.linears.items() if isinstance(weight, np.ndarray)}
    return lm.quantize_model(model, "gptq", num_bits=others, group_size=64, calibration=calibration, kernel="numba")


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (within_budget, "0.798 MB and a KL of 0.00084"),
        (v_proj_at_8_bits, "0.740 MB and 0.00087"),
        (down_proj_at_8_bits, "0.828 MB, 0.00071"),
        (everything_at_4_bits, "0.00613 in place of 0.00217"),
    ],
)
def test_the_model_answer_of_the_notebook_says_what_its_recipes_give(recipe, said):
    """Last digits of GPTQ depend on the BLAS: within a standard error."""
    assert said in "".join(cell.source for cell in course.read("11_deploy").cells)
    found = capstone.measured(capstone.quantized_by(recipe), SPEED)
    divergence = next(float(number) for number in re.findall(r"0\.00\d+", said))
    assert found["divergence"] == pytest.approx(divergence, abs=found["divergence"].standard_error)
    if " MB" in said:
        assert said.startswith(f"{found['megabytes']:.3f} MB")


METHODS = [
    ("rtn", {"layers": "*", "per": "group", "group_size": 32, "symmetric": False}),
    ("rtn", {"format": "MXFP4"}),
    ("nf4", {"double_quant": True}),
    *(
        ("gguf", {"layers": "*"}),
        ("llm_int8", {}),
        ("gptq", {}),
        ("awq", {}),
        ("w8a8", {"static": True, "activations_per": "tensor"}),
    ),
    *(("smoothquant", {}), ("rtn", {"num_bits": 4, "per": "group", "group_size": 16, "kernel": "numba"})),
]


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_what_every_method_makes_can_be_scored(method, options):
    def recipe(model, calibration):
        return lm.quantize_model(model, method, calibration=calibration, **options)

    made = recipe(lm.load("tinytales"), lm.joined(lm.calibration_tales()))
    assert capstone.quantized_by(recipe).nbytes == made.nbytes


def by_hand(name, change):
    def recipe(model, calibration):
        model.weights[name] = change(model.weights[name])
        return model

    return recipe


@pytest.mark.parametrize(
    "change",
    [lambda w: w[:5], lambda w: w.T, lambda w: w.astype(str), lambda w: w[0]],
    ids=["cut", "turned", "text", "a row"],
)
def test_matrices_put_in_by_hand_that_do_not_fit_are_told_so(change):
    result = score(by_hand("layers.1.up_proj", change))
    assert result.message.lines[0].startswith("Your model cannot read a text: ")
    assert not result.found


def test_matrices_put_in_by_hand_that_fit_count_as_what_they_hold():
    result = score(by_hand("embedding", lambda w: w.astype(np.float16)))
    assert result.found["megabytes"] == (lm.load("tinytales").nbytes - 1117 * 128 * 2) / 1e6


def test_an_error_in_a_recipe_is_told():
    result = score(lambda model, calibration: 1 / 0)
    assert result.message.lines == ("Your recipe stopped with ZeroDivisionError: division by zero",)
    result = score(lambda model, calibration: sys.exit("no idea"))
    assert result.message.lines == ("Your recipe stopped with SystemExit: no idea",)


@pytest.mark.parametrize(
    ("recipe", "missed"),
    [
        (lambda m, c: lm.quantize_model(m, kernel="numba"), {"megabytes": "embedding"}),
        (capstone.int8_everywhere, {"megabytes": "megabytes"}),
        (capstone.int4_with_int8_embedding, {"divergence": "divergence"}),
    ],
)
def test_each_missed_limit_is_told_with_its_ratio_and_its_hint(recipe, missed):
    result = score(recipe)
    ratios = {limit: f"{result.found[limit] / getattr(Budget(), limit):.2f} times the limit" for limit in missed}
    expected = tuple(f"{limit}: {ratios[limit]}. {HINTS[hint]}" for limit, hint in missed.items())
    assert result.message.lines == expected
    assert not result.passed


def test_a_limit_on_speed_is_a_lower_one():
    result = score(within_budget, Budget(tokens_per_second=2 * SPEED))
    assert result.message.lines == (f"tokens_per_second: 0.50 times the limit. {HINTS['tokens_per_second']}",)


def test_what_is_not_a_number_keeps_no_limit():
    found = {"megabytes": math.nan, "tokens_per_second": math.nan, "divergence": math.nan}
    assert not any(kept_limits(found, Budget()).values())


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Budget)])
def test_a_budget_is_of_positive_numbers(field):
    with pytest.raises(ValueError, match=field):
        Budget(**{field: 0})


def test_another_budget_is_refused():
    with pytest.raises(TypeError, match="budget must be a Budget"):
        score(within_budget, 0.8)


@pytest.mark.parametrize("name", ["float32", *capstone.REFERENCES])
def test_a_name_that_is_taken_is_refused(name):
    with pytest.raises(ValueError, match="name must be one of your own"):
        score(within_budget, name=name)


def test_scores_are_kept_in_order_and_a_damaged_file_is_set_aside(tmp_path):
    path = local_files.home() / "scores.json"
    score(within_budget, name="first")
    score(capstone.int8_everywhere, name="second")
    assert [(row[0], row[4]) for row in capstone.scores().rows] == [("first", "yes"), ("second", "no")]
    path.write_text('{"scores": [{"name": "first"}]}')
    score(within_budget, name="third")
    assert [row[0] for row in capstone.scores().rows] == ["third"]
    assert [p.name for p in tmp_path.iterdir() if "damaged" in p.name] == ["scores.damaged-1.json"]


def test_a_score_that_cannot_be_kept_is_shown_all_the_same(monkeypatch):
    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr(capstone.local_files, "update_json", refuse)
    result = score(within_budget)
    assert result.passed and result.message.lines == ("This score could not be kept: disk full.",)


def test_a_ruined_model_is_kept_as_valid_json(tmp_path):
    def ruined(model, calibration):
        weight = model.weights["layers.0.q_proj"].copy()
        weight[0, 0] = np.nan
        return lm.quantize_model(model.replace({"layers.0.q_proj": weight}), num_bits=8, layers="embedding")

    assert not score(ruined).passed
    assert capstone.scores().rows[0][3] == "inf"
    assert json.loads((local_files.home() / "scores.json").read_text())


def test_the_writer_measures_the_model_as_it_is_held(monkeypatch):
    """Nothing is restored to floats beforehand, which would make 5 bits as fast as floats and as large."""
    monkeypatch.undo()
    model = lm.quantize_model(lm.load("tinytales"), num_bits=5)
    monkeypatch.setattr(lm.LanguageModel, "expanded", None)
    assert capstone._writer(model)() > 0

"""The capstone: quantize TinyTales within a budget by a recipe of your own, and see how it does beside three others.

    ql.capstone.score(recipe, name="mine")         # runs it, measures its result, keeps the score
    ql.capstone.scores()                           # everything that was scored on this computer

A recipe is a function (model, calibration_text) -> model that calls `ql.lm.quantize_model` once or several times. Size
is counted from what its result holds, divergence is measured on tales that no recipe is given, and speed side by side
with the others, from weights as they are held: nothing is restored to floats beforehand.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache

import numpy as np

import quantlab_helpers as ql

from . import lm, local_files, timing
from .affine import QuantizedTensor
from .kernel_linear import Int8Rows, KernelLinear
from .kernels import Int4Blocks
from .lm.evaluate import Divergence
from .lm.model import LanguageModel
from .messages import Message
from .methods.gguf_tensor import GgufTensor
from .methods.llm_int8 import LlmInt8Linear
from .methods.nf4 import DoubleQuantized, Nf4Tensor
from .methods.smoothquant import W8A8Linear
from .packed import PackedTensor
from .tables import Table
from .validation import positive_number

Recipe = Callable[[LanguageModel, str], LanguageModel]
PROMPT, TOKENS, TURNS = "Once there was a girl named Rosa.", 48, 3
# What may hold weights: these say truly how many bytes they take, and compute from nothing else, if their parts do.
_HOLDERS = (np.ndarray, PackedTensor, KernelLinear, GgufTensor, Nf4Tensor, LlmInt8Linear, W8A8Linear)
_PARTS = (QuantizedTensor, DoubleQuantized, Int8Rows, Int4Blocks)
_FILE = "scores.json"


@dataclass(frozen=True)
class Budget:
    """What a recipe must keep to.

    megabytes          at most so many, of 10**6 bytes, for all weights
    tokens_per_second  at least so many
    divergence         at most so much KL divergence from the float model, in nats a token

    Raises TypeError or ValueError for anything but positive numbers.
    """

    megabytes: float = 0.8
    tokens_per_second: float = 500
    divergence: float = 0.0012

    def __post_init__(self):
        for field in dataclasses.fields(self):
            positive_number(getattr(self, field.name), field.name)


# Three recipes to compare with


def int8_everywhere(model, calibration):
    """Round every matrix to 8 bits, with a scale for each row."""
    return lm.quantize_model(model, num_bits=8, layers="*", kernel="numba")


def int4_with_int8_embedding(model, calibration):
    """Round the linear layers to 4 bits in groups of 32, and the embedding, which is the head, too, to 8 bits."""
    model = lm.quantize_model(model, num_bits=8, layers="embedding", kernel="numba")
    return lm.quantize_model(model, num_bits=4, per="group", group_size=32, kernel="numba")


def nf4_with_int8_embedding(model, calibration):
    """NF4 in blocks of 64 for the linear layers: there is no kernel for it, so each token restores the floats."""
    model = lm.quantize_model(model, num_bits=8, layers="embedding", kernel="numba")
    return lm.quantize_model(model, "nf4")


REFERENCES: dict[str, Recipe] = {
    "int8 everywhere": int8_everywhere,
    "int4, embedding int8": int4_with_int8_embedding,
    "NF4, embedding int8": nf4_with_int8_embedding,
}


def within_budget(model, calibration):
    """Round the embedding to 8 bits, and fit the linear layers to 4 by GPTQ, in groups of 32: keeps all three limits.

    The instructors' solution of the capstone. Its code goes into notebook 11 as it is, which knows `ql`, but no `lm`.
    """
    model = ql.lm.quantize_model(model, num_bits=8, layers="embedding", kernel="numba")
    return ql.lm.quantize_model(model, "gptq", num_bits=4, group_size=32, calibration=calibration, kernel="numba")


# What a learner is told about a result that cannot be scored, and about each limit that is missed.
HINTS = {
    "no model": "A recipe returns a model, what `ql.lm.quantize_model(...)` gives. Does it end with `return`?",
    "other model": "Your recipe returns a model of another shape. Quantize the `model` that it is given.",
    "other layers": "Matrices must be arrays, or layers that `ql.lm.quantize_model` makes: others cannot be counted.",
    "float": "That is the float model. `quantize_model` leaves its argument as it is and returns a new one: use that.",
    "embedding": "The embedding is still float, and most of what you hold: `layers='embedding'`, by 'rtn' or 'gguf'.",
    "megabytes": "4 bits take half of what 8 do, and larger groups fewer scales. Which layers can bear it?",
    "tokens_per_second": "Layers without a kernel are restored to floats for each token: `kernel='numba'` for 'rtn', "
    "'gptq' and 'awq'. (And close what else keeps this computer busy.)",
    "divergence": "'gptq' costs no bits. What is left of the megabytes goes to the layers that suffer most: see "
    "`ql.lm.sensitivity`.",
}


class _Objection(Exception):
    """Why the result of a recipe cannot be scored, in a sentence for the learner."""


@dataclass(frozen=True)
class Score:
    """What `score` measured, which shows itself: a table, and what to do next.

    table    the recipe, if there was something to measure, beside the references
    passed   whether all three limits are kept
    found    megabytes, tokens_per_second and divergence of the recipe by name; empty if there was nothing to measure
    """

    message: Message
    table: Table
    passed: bool = False
    found: dict[str, float] = dataclasses.field(default_factory=dict)

    def __repr__(self):
        return f"{self.table!r}\n\n{self.message!r}"

    def _repr_html_(self):
        return self.table._repr_html_() + self.message._repr_html_()


def score(recipe: Recipe, budget: Budget | None = None, name: str = "my recipe") -> Score:
    """Run a recipe on TinyTales, measure it beside the references, and keep what was found among `scores()`.

    A recipe that fails, or returns something else, earns a hint and not an error. Takes about ten seconds.
    Raises TypeError for another kind of budget, and ValueError for the name of a reference.
    """
    budget = Budget() if budget is None else budget
    if not isinstance(budget, Budget):
        raise TypeError(f"budget must be a Budget(megabytes, tokens_per_second, divergence), not {budget!r}")
    models, objection = {"float32": _yardstick().baseline, **_references()}, ""
    if name in models:
        raise ValueError(f"name must be one of your own, not that of a row for comparison: {name!r}")
    try:
        models[name] = quantized_by(recipe)
    except _Objection as error:
        objection = str(error)
    speeds = timing.medians({label: _writer(model) for label, model in models.items()}, TURNS)
    found = {label: measured(model, speeds[label]) for label, model in models.items()}
    table = _table(found, budget)
    if objection:
        return Score(Message("hint", f"{name}: no score yet.", (objection,)), table)
    lines = _missed(models[name], found[name], budget)
    passed = not lines
    if problem := _keep(name, found[name], passed):
        lines.append(problem)
    title = "within budget in size, speed and divergence." if passed else "over budget."
    return Score(Message("good" if passed else "hint", f"{name}: {title}", tuple(lines)), table, passed, found[name])


def quantized_by(recipe: Recipe) -> LanguageModel:
    """Run a recipe and return its model, made anew from its matrices: whatever else it says of itself is forgotten."""
    original = _yardstick().baseline
    try:
        result = recipe(lm.load("tinytales"), lm.joined(lm.calibration_tales()))
    except (Exception, SystemExit) as error:  # whatever a learner's code raises becomes a hint, never a traceback
        raise _Objection(f"Your recipe stopped with {type(error).__name__}: {error}") from error
    if not isinstance(result, LanguageModel):
        raise _Objection(HINTS["no model"])
    if result.config != original.config or set(result.weights) != set(original.weights):
        raise _Objection(HINTS["other model"])
    weights, norms = result.weights.values(), result.norms.values()
    if not all(type(weight) in _HOLDERS for weight in weights) or not all(map(_is_plain, (*weights, *norms))):
        raise _Objection(HINTS["other layers"])
    try:
        model = LanguageModel(original.config, result.weights, result.norms, original.tokenizer, original.name)
        model.logits(model.tokenizer.encode_prompt(PROMPT))
    except Exception as error:  # matrices that were put in by hand may have any shape and dtype
        raise _Objection(f"Your model cannot read a text: {type(error).__name__}: {error}") from error
    if model.nbytes >= original.nbytes:
        raise _Objection(HINTS["float"])
    return model


def _is_plain(value) -> bool:
    """Whether a matrix, norm or part of one is an array or of the course's classes, down to the last part."""
    if type(value) is np.ndarray:
        return not value.dtype.hasobject
    if type(value) in (*_HOLDERS, *_PARTS):
        return all(_is_plain(getattr(value, field.name)) for field in dataclasses.fields(value))
    is_shape = type(value) is tuple and all(isinstance(size, int) for size in value)
    return value is None or is_shape or isinstance(value, bool | int | float | str | np.generic)


def measured(model: LanguageModel, tokens_per_second: float) -> dict[str, float]:
    """Return what the score table says of a model."""
    divergence = _yardstick().measure(model).divergence
    return {"megabytes": model.nbytes / 1e6, "tokens_per_second": tokens_per_second, "divergence": divergence}


def kept_limits(found: dict[str, float], budget: Budget) -> dict[str, bool]:
    """Return which limits are kept. NaN keeps none."""
    return {
        "megabytes": found["megabytes"] <= budget.megabytes,
        "tokens_per_second": found["tokens_per_second"] >= budget.tokens_per_second,
        "divergence": bool(found["divergence"] <= budget.divergence),
    }


def _missed(model: LanguageModel, found: dict[str, float], budget: Budget) -> list[str]:
    """A line for each limit that is missed: by how much, and what would help."""
    lines = []
    for limit, kept in kept_limits(found, budget).items():
        if not kept:
            is_float = limit == "megabytes" and isinstance(model.weights["embedding"], np.ndarray)
            hint = HINTS["embedding" if is_float else limit]
            ratio = found[limit] / getattr(budget, limit)
            lines.append(f"{limit}: {ratio:.2f} times the limit. {hint}")
    return lines


def _table(found: dict[str, dict[str, float]], budget: Budget) -> Table:
    rows = []
    for label, values in found.items():
        kept = kept_limits(values, budget)
        signs = {limit: "✓" if kept[limit] else "✗" for limit in kept}
        divergence: Divergence = values["divergence"]
        rows.append(
            [
                label,
                f"{values['megabytes']:.3f} {signs['megabytes']}",
                f"{values['tokens_per_second']:,.0f} {signs['tokens_per_second']}",
                f"{divergence:.5f} ± {divergence.standard_error:.5f} {signs['divergence']}",
                "yes" if all(kept.values()) else "no",
            ]
        )
    limits = [f"MB ≤ {budget.megabytes:g}", f"tokens/s ≥ {budget.tokens_per_second:g}", f"KL ≤ {budget.divergence:g}"]
    return Table(["recipe", *limits, "within budget"], rows)


@cache
def _yardstick() -> lm.Yardstick:
    return lm.Yardstick(lm.load("tinytales"), lm.joined(lm.heldout_tales()))


@cache
def _references() -> dict[str, LanguageModel]:
    return {name: quantized_by(recipe) for name, recipe in REFERENCES.items()}


def _writer(model: LanguageModel) -> Callable[[], float]:
    """Return what lets a model write and gives its tokens per second, always of the same number of tokens."""
    prompt = model.tokenizer.encode_prompt(PROMPT)

    def written() -> float:
        kept = lm.KVCache(model.config, len(prompt) + TOKENS)
        scores = model.logits(prompt, kept)[-1]
        start = time.perf_counter()
        for _ in range(TOKENS):
            scores = model.logits([int(scores.argmax())], kept)[-1]
        return TOKENS / (time.perf_counter() - start)

    written()  # compiles
    return written


# The score table


def scores() -> Table:
    """Return what was scored on this computer, the latest last."""
    rows = [
        [
            entry["name"],
            f"{entry['megabytes']:.3f}",
            f"{entry['tokens_per_second']:,.0f}",
            f"{entry['divergence']:.5f}",
            "yes" if entry["within_budget"] else "no",
            entry["when"],
        ]
        for entry in local_files.read_json(_FILE, _is_valid).get("scores", [])
    ]
    return Table(["recipe", "MB", "tokens/s", "KL", "within budget", "when"], rows)


def _keep(name: str, found: dict[str, float], passed: bool) -> str:
    """Add a score to the file; return why that was not possible, or ""."""
    values = {limit: float(np.nan_to_num(value, nan=np.inf)) for limit, value in found.items()}
    entry = {"name": name, **values, "within_budget": passed, "when": datetime.now().isoformat(" ", "minutes")}
    try:
        local_files.update_json(_FILE, lambda kept: {"scores": [*kept.get("scores", []), entry]}, _is_valid)
    except OSError as error:
        return f"This score could not be kept: {error}."
    return ""


def _is_valid(content: dict) -> bool:
    """Whether the file holds scores as `_keep` writes them."""
    numbers = ("megabytes", "tokens_per_second", "divergence")
    scored = content.get("scores", [])
    return isinstance(scored, list) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("within_budget"), bool)
        and all(isinstance(entry.get(key), str) for key in ("name", "when"))
        and all(isinstance(entry.get(key), float) for key in numbers)
        for entry in scored
    )

"""Explorer of notebook 11: which format for which device, model, context and number of users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache as cached

from matplotlib.ticker import MaxNLocator

from .. import style
from ..lm import DEVICES, KNOWN_SHAPES, Candidate, Device, ModelShape, candidates, recommend
from .base import Control, Explorer
from .svg import Chart

_TOKENS = (512, 2048, 8192, 32768, 131072)
_USERS = (1, 4, 16, 64)
_CACHES = ("float16", "int8")
_FLOORS = (0.001, 0.01, 0.15, 0.3)
_PARTS = (
    ("codes", style.QUANTIZED),
    ("scales", style.HIGHLIGHT),
    ("embedding, head", style.GOOD),
    ("KV cache", style.ERROR),
    ("workspace", style.ORIGINAL),
)
_GB = 1e9


@dataclass(frozen=True)
class Deployment:
    """What becomes of a model on a device in each format, what to take, and what would change that."""

    model: str
    device: Device
    tokens: int
    users: int
    cache_format: str
    floor: float
    candidates: list[Candidate]
    chosen: Candidate | None
    changes: tuple[str, ...]


def deployment(devices: Mapping[str, Device] | None = None, models: Mapping[str, ModelShape] | None = None) -> Explorer:
    """Choose a format for a device, a model, a length of context, a number of users and a floor of quality.

    devices  by name; None: those of `ql.lm.DEVICES`
    models   shapes by name; None: those of `ql.lm.KNOWN_SHAPES`
    """
    devices = _named(DEVICES if devices is None else devices, "devices", Device)
    models = _named(KNOWN_SHAPES if models is None else models, "models", ModelShape)

    @cached
    def found(device, model, tokens, users, cache_format):
        shape = models[model]
        fitting = min(tokens, shape.config.max_context)
        return candidates(shape, devices[device], tokens=fitting, users=users, cache_format=cache_format)

    def chosen(floor, has_calibration=True, **position):
        return recommend(found(**position), floor=floor, has_calibration=has_calibration)

    def compute(floor, **position):
        return Deployment(
            model=position["model"],
            device=devices[position["device"]],
            tokens=min(position["tokens"], models[position["model"]].config.max_context),
            users=position["users"],
            cache_format=position["cache_format"],
            floor=floor,
            candidates=found(**position),
            chosen=chosen(floor, **position),
            changes=_changes(chosen, floor=floor, **position),
        )

    return Explorer(
        title="What fits, how fast, how good?",
        controls=(
            Control("device", "device", tuple(devices), tuple(devices)[min(1, len(devices) - 1)]),
            Control("model", "model", tuple(models), tuple(models)[len(models) // 2]),
            Control("tokens", "context", _TOKENS, 2048, "{:,} tokens".format),
            Control("users", "users", _USERS, 1),
            Control("cache_format", "KV cache", _CACHES, "float16"),
            Control("floor", "KL at most", _FLOORS, 0.15),
        ),
        compute=compute,
        draw=_draw,
        describe=_describe,
        num_lines=5,
    )


def _named(given, name: str, kind: type) -> dict:
    if not isinstance(given, Mapping) or not given or not all(isinstance(value, kind) for value in given.values()):
        raise TypeError(f"{name} must be a dict of at least one name with its {kind.__name__}, not {given!r}")
    return dict(given)


def _changes(chosen, **position) -> tuple[str, ...]:
    """What would change the choice: the nearest positions of single controls, in words."""
    now = chosen(**position)
    told = []
    for name, values, words in (
        ("floor", _FLOORS, "KL at most {}"),
        ("users", _USERS, "users: {}"),
        ("tokens", _TOKENS, "a context of {:,} tokens"),
        ("cache_format", _CACHES, "the cache in {}"),
    ):
        here = values.index(position[name])
        for other in sorted(values, key=lambda value: abs(values.index(value) - here)):
            then = chosen(**{**position, name: other})
            if _name(then) != _name(now):
                told.append(f"{words.format(other)} ({_name(then)})")
                break
    if now and now.needs_calibration:
        told.append(f"no text for calibration ({_name(chosen(**position, has_calibration=False))})")
    return tuple(told)


def _name(candidate: Candidate | None) -> str:
    return candidate.name if candidate else "nothing"


def _draw(result: Deployment) -> str:
    rows = len(result.candidates)
    longest = max(candidate.footprint.total for candidate in result.candidates) / _GB
    reach = 2.2 * longest  # the right half is for words
    ticks = {tick: f"{tick:g}" for tick in MaxNLocator(4).tick_values(0, longest) if tick <= longest}
    chart = Chart((0, reach), (0, rows + 1.4), x_label="GB", x_ticks=ticks, y_ticks=False, width=720, height=340)
    for where, (part, colour) in zip((0.01, 0.13, 0.25, 0.48, 0.62), _PARTS, strict=True):
        chart.text(where * reach, rows + 1, "\N{BLACK SQUARE}", colour=colour, anchor="start", size=16)
        chart.text(where * reach, rows + 1, part, anchor="start", dx=15, dy=-1)
    for row, candidate in enumerate(result.candidates):
        _bar(chart, rows - 1 - row, candidate, result, reach)
    usable = result.device.usable / _GB
    if usable <= 1.1 * longest:
        chart.segments(usable, 0, usable, rows, style.INK, width=2)
        chart.text(usable, rows, f"usable: {_size(result.device.usable)}", bold=True, dy=-4, size=11)
    return chart.image("Bars of the memory that a model takes in each format, with its speed and its divergence")


def _bar(chart: Chart, base: float, candidate: Candidate, result: Deployment, reach: float) -> None:
    """One bar, end to end of its parts, its name to the left, and to the right what it is worth."""
    size, end = candidate.footprint, 0.0
    vocabulary = size.embedding + size.head + size.norms
    sizes = (size.codes, size.scales + size.zero_points, vocabulary, size.kv_cache, size.workspace)
    for nbytes, (_, colour) in zip(sizes, _PARTS, strict=True):
        chart.bars([end + nbytes / _GB / 2], [base + 0.8], nbytes / _GB, colour, base=base + 0.15)
        end += nbytes / _GB
    is_chosen, verdict = candidate is result.chosen, ""
    if is_chosen:
        verdict = "take this"
    elif not candidate.fits:
        verdict = "too large"
    elif candidate.divergence > result.floor:
        verdict = "too lossy"
    chart.text(0, base + 0.3, candidate.name, anchor="end", dx=-6, bold=is_chosen)
    speed = f"{_speed(candidate.tokens_per_second)} tokens/s"
    for where, words in ((0.59, _size(size.total)), (0.75, speed), (0.87, f"KL {candidate.divergence:.3f}")):
        chart.text(where * reach, base + 0.3, words, anchor="end", size=11, bold=is_chosen)
    colour = style.GOOD if is_chosen else style.ERROR
    chart.text(reach, base + 0.3, verdict, anchor="end", size=11, colour=colour, bold=True)


def _speed(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _size(nbytes: float) -> str:
    return f"{nbytes / _GB:.2f} GB" if nbytes >= _GB else f"{nbytes / 1e6:.3g} MB"


def _describe(result: Deployment) -> str:
    users = f"{result.users} user{'s' if result.users > 1 else ''}"
    asked = (
        f"{result.model} on {result.device.name}, {users}, {result.tokens:,} tokens each, {result.cache_format} cache, "
        f"KL at most {result.floor:g}"
    )
    changes = f" What would change that: {', '.join(result.changes)}." if result.changes else ""
    if result.chosen is None:
        return f"{asked}: {_what_is_missing(result)}.{changes}"
    size = result.chosen.footprint
    return (
        f"{asked}: take {result.chosen.name}. Codes {_size(size.codes)}, scales and zero points "
        f"{_size(size.scales + size.zero_points)}, embedding and head {_size(size.embedding + size.head)}, "
        f"KV cache {_size(size.kv_cache)}, workspace {_size(size.workspace)}: {_size(size.total)} of "
        f"{_size(result.device.usable)}. At most {_speed(result.chosen.tokens_per_second)} tokens/s for each user."
        f"{changes}"
    )


def _what_is_missing(result: Deployment) -> str:
    smallest = min(result.candidates, key=lambda candidate: candidate.footprint.total)
    size = smallest.footprint
    if smallest.fits:
        return "what fits is too lossy, and what is good enough is too large"
    return (
        f"nothing fits. Even {smallest.name} takes {_size(size.total)}, of which {_size(size.kv_cache)} are KV cache, "
        f"and {_size(result.device.usable)} are usable"
    )

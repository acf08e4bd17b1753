"""A race of language models: who writes how many tokens per second, with the texts appearing side by side.

    speeds = ql.race({"float32": model, "int8": small}, "Once upon a time")

Models that ran at the same time would fight over the cores. So they take turns in short slices, each with a clock of
its own that stands still while the others write: what a round shows is what each would have written alone by then.
"""

from __future__ import annotations

import html
import time
from collections.abc import Mapping
from dataclasses import dataclass

import ipywidgets as widgets
from IPython.display import DisplayHandle

from . import timing
from .lm.model import LanguageModel
from .validation import positive_number

SLICE = 0.25  # seconds that one model writes before it is the next one's turn
MOST_TOKENS = 400  # of one text; nobody reads more


class Lane:
    """One model in the race: its tokens so far, and the seconds that all but the first took.

    The first token is not timed: for it the prompt is read, and perhaps a kernel compiled.
    """

    def __init__(self, model: LanguageModel, prompt: str):
        self.model, self.seconds, self.is_done = model, 0.0, False
        self._stream = model.stream(prompt, min(MOST_TOKENS, model.config.max_context))
        self.tokens: list[int] = []
        self._add_one()

    def write(self, seconds: float) -> None:
        """Write for so long, but at least one token, or to the end of the text."""
        start = now = time.perf_counter()
        while now - start < seconds and not self.is_done:
            self._add_one()
            now = time.perf_counter()
        self.seconds += now - start

    @property
    def tokens_per_second(self) -> float:
        return (len(self.tokens) - 1) / self.seconds if len(self.tokens) > 1 else 0.0

    def _add_one(self) -> None:
        token = next(self._stream, None)
        if token is None:
            self.is_done = True
        else:
            self.tokens.append(token)


def race(models: Mapping[str, LanguageModel], prompt: str, seconds: float = 1.5) -> dict[str, float]:
    """Let models (name -> LanguageModel) go on after `prompt` for so many seconds each, and return their tokens/s.

    A model whose text ends before its second token has 0. Raises TypeError or ValueError for `seconds` that are no
    number above 0, and for a prompt that a model cannot read.
    """
    seconds = positive_number(seconds, "seconds")
    lanes = {name: Lane(model, prompt) for name, model in models.items()}
    panel = widgets.HTML(_drawn(lanes, prompt))
    output = DisplayHandle()
    output.display(_Shown({**panel._repr_mimebundle_(), "text/plain": "They are off."}))
    while running := [lane for lane in lanes.values() if not lane.is_done and lane.seconds < seconds]:
        for lane in running:
            time.sleep(timing.PAUSE)  # until the threads of the one before have stopped waiting for work
            lane.write(min(SLICE, seconds - lane.seconds))
            panel.value = _drawn(lanes, prompt)
    # What stays is no widget, so that it can be read without a kernel.
    output.update(_Shown({"text/html": _drawn(lanes, prompt, "status"), "text/plain": _told(lanes, prompt)}))
    panel.close()
    return {name: lane.tokens_per_second for name, lane in lanes.items()}


@dataclass(frozen=True)
class _Shown:
    """What is shown in each of several formats; the front end takes the best that it can."""

    formats: dict[str, object]

    def __repr__(self):
        return self.formats["text/plain"]

    def _repr_mimebundle_(self, include=None, exclude=None):
        return self.formats


def _drawn(lanes: Mapping[str, Lane], prompt: str, role: str = "group") -> str:
    """The texts in columns. While they grow no screen reader is told; "status" tells it what has become of them."""
    column = '<div style="flex:1 1 12em"><strong>{}</strong>: {}<div style="{}"><em>{}</em>{}</div></div>'
    look = "min-height:9em;border-top:1px solid;padding-top:4px;white-space:pre-wrap"
    columns = "".join(
        column.format(html.escape(name), _numbers(lane), look, html.escape(prompt), html.escape(_text(lane)))
        for name, lane in lanes.items()
    )
    return f'<div role="{role}" style="display:flex;flex-wrap:wrap;gap:18px;line-height:1.45">{columns}</div>'


def _told(lanes: Mapping[str, Lane], prompt: str) -> str:
    return "\n\n".join(f"{name}: {_numbers(lane)}\n{prompt}{_text(lane)}" for name, lane in lanes.items())


def _numbers(lane: Lane) -> str:
    return f"{len(lane.tokens)} tokens, {lane.tokens_per_second:.0f} a second"


def _text(lane: Lane) -> str:
    return lane.model.decode(lane.tokens)

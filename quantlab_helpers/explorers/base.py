"""What every explorer is made of: three pure functions, a list of controls, and one thin shell of widgets.

`compute(**positions)` gives a small result, `draw(result)` a picture and `describe(result)` one sentence with the
numbers. Nothing here knows about quantization, and nothing in an explorer knows about widgets.

Up to 200 positions are all drawn when the cell runs, and a style sheet shows the one that the sliders stand at:
moving one costs no round trip to the kernel, and goes on working when the kernel is gone. Of more positions, those
that one slider leads to are drawn: dragging it costs no round trip either, and the next slider's first step costs one.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import ipywidgets as widgets
from tqdm.auto import tqdm

from .manners import MANNERS

MOST_PRECOMPUTED = 200
# A progress bar is for a large array of the learner's own: by size and not by the clock, so that the course's own
# explorers never show one, however slow the machine.
MANY_VALUES = 500_000_000


@dataclass(frozen=True)
class Control:
    """One slider: the keyword of `compute` that it drives, its label, every position, and where it starts."""

    name: str
    label: str
    positions: tuple
    start: object
    text: Callable[[object], str] = str  # how a position reads

    def __post_init__(self):
        if None in self.positions:  # ipywidgets takes None for "nothing selected"
            raise ValueError(f"control {self.name!r} cannot have None as a position")
        if self.start not in self.positions:
            raise ValueError(f"control {self.name!r} cannot start at {self.start!r}: it is none of its positions")


@dataclass(frozen=True)
class Explorer:
    """A picture and a sentence, driven by sliders. It shows itself when it is the last thing in a cell."""

    title: str
    controls: tuple[Control, ...]
    compute: Callable[..., object]
    draw: Callable[[object], str]  # -> one <svg> element, made by `svg.Chart.image` or the like
    describe: Callable[[object], str]
    num_values: int = 0  # how many values one position works on
    num_lines: int = 3  # room for the longest sentence, so that nothing below jumps

    def positions(self) -> Iterator[dict]:
        """Every combination of positions, as keywords of `compute`; the last control changes fastest."""
        names = [control.name for control in self.controls]
        for values in itertools.product(*(control.positions for control in self.controls)):
            yield dict(zip(names, values, strict=True))

    @property
    def is_precomputed(self) -> bool:
        return len(list(self.positions())) <= MOST_PRECOMPUTED

    def at_start(self) -> dict:
        return {control.name: control.start for control in self.controls}

    def sentence(self, **positions) -> str:
        """What the explorer says at these positions (left out: where the control starts)."""
        return self.describe(self.compute(**{**self.at_start(), **positions}))

    def frame(self, **positions) -> str:
        """The picture with its sentence as HTML; it names its positions, so that a test can wait for them."""
        result = self.compute(**positions)
        sentence = html.escape(self.describe(result))
        where = "; ".join(f"{c.name}={c.text(positions[c.name])}" for c in self.controls)
        return (
            f'<figure data-position="{html.escape(where, quote=True)}" style="margin:4px 0">{self.draw(result)}'
            f'<figcaption style="min-height:{1.5 * self.num_lines}em;max-width:680px;'
            f'line-height:1.5">{sentence}</figcaption></figure>'
        )

    @cached_property
    def panel(self) -> widgets.VBox:
        """The widgets: for each control a slider and a drop-down list of the same positions, then the picture."""
        rows = [_ControlRow(control) for control in self.controls]
        picture = widgets.HTML(self._all_frames()) if self.is_precomputed else self._live(rows)
        heading = widgets.HTML(f"<strong>{html.escape(self.title)}</strong>{MANNERS}<style>{self._rules()}</style>")
        panel = widgets.VBox([heading, *(row.box for row in rows), picture]).add_class("quantlab-explorer")
        # The website asks for those that are precomputed: they go on working on a page without a kernel.
        return panel.add_class("quantlab-precomputed" if self.is_precomputed else "quantlab-live")

    def _rules(self) -> str:
        """The rules by which the browser shows, of all the frames that it has, the one that the sliders stand at."""
        return "".join(_hide_elsewhere(c.name, index) for c in self.controls for index in range(len(c.positions)))

    def _all_frames(self) -> str:
        """Every frame, each in its place.

        One piece of HTML: a widget for each frame would be made anew at every move, and tell the kernel of it.
        """
        positions = list(self.positions())
        is_quick = self.num_values * len(positions) < MANY_VALUES
        frames = iter([self.frame(**p) for p in tqdm(positions, desc=self.title, disable=is_quick, leave=False)])

        def nested(controls):  # one level for each control: a browser looks at nothing inside of what is hidden
            if not controls:
                return next(frames)
            first, *rest = controls
            return "".join(
                f'<div class="{_place(first.name, index)}">{nested(rest)}</div>'
                for index in range(len(first.positions))
            )

        return nested(self.controls)

    def _frames_around(self, centre: dict) -> str:
        """The frame at these positions, and those that moving one slider from there leads to, each in its place.

        One of them is always seen: where two sliders have left the centre, that of the last of the two.
        """
        places = {c.name: _place(c.name, c.positions.index(centre[c.name])) for c in self.controls}
        frames = [(places.values(), centre)]
        for number, control in enumerate(self.controls, 1):
            later = [places[c.name] for c in self.controls[number:]]
            for index, position in enumerate(control.positions):
                if position != centre[control.name]:
                    frames.append(([_place(control.name, index), *later], {**centre, control.name: position}))
        return "".join(f'<div class="{" ".join(at)}">{self.frame(**positions)}</div>' for at, positions in frames)

    def _live(self, rows):
        picture, centre = widgets.HTML(), {}
        has_few_around = sum(len(control.positions) for control in self.controls) <= MOST_PRECOMPUTED

        def update(_=None):
            at = {row.control.name: row.slider.value for row in rows}
            if centre and sum(at[name] != centre[name] for name in at) <= 1:
                return  # the browser has it
            picture.value = self.frame(**at)
            if has_few_around:
                picture.value = self._frames_around(at)
                centre.update(at)

        for row in rows:
            row.slider.observe(update, "value")
        update()
        return picture

    def _repr_mimebundle_(self, include=None, exclude=None, **kwargs):
        """The live panel; and, where no kernel is (GitHub, a printed page), the picture at the start."""
        start = self.compute(**self.at_start())
        return {
            **self.panel._repr_mimebundle_(),
            "image/svg+xml": self.draw(start),
            "text/plain": f"{self.title}\n{self.describe(start)}",
        }


def _place(name: str, index: int) -> str:
    """The CSS class of what is to be seen while the slider of a control stands at a place."""
    return f"{name}-{index}"


def _hide_elsewhere(name: str, index: int) -> str:
    """The CSS rule that hides what belongs to a place while the slider stands at another one."""
    # The handle of a slider tells screen readers, and this rule, where it stands: "3.0". Only the row is searched for
    # it, and not the panel with all its pictures, which would cost several milliseconds at each move.
    is_there = f":has([aria-valuenow='{index}'],[aria-valuenow^='{index}.'])"
    return f".quantlab-explorer>.quantlab-{name}:not({is_there})~* .{_place(name, index)}{{display:none}}"


class _ControlRow:
    """A slider and its twin: a drop-down list that shows the position, has the name, and goes to what is typed.

    Not a number box: positions lie unevenly, many are words, and only whole indices can be linked in the browser.
    """

    def __init__(self, control: Control):
        self.control = control
        options = [(control.text(p), p) for p in control.positions]
        self.slider = widgets.SelectionSlider(
            options=options, value=control.start, readout=False, layout=widgets.Layout(width="420px")
        )
        twin = widgets.Dropdown(
            options=[text for text, _ in options],
            index=self.slider.index,
            description=control.label,
            style={"description_width": "100px"},  # the longest label, which would else be cut
            layout=widgets.Layout(width="260px"),
        )
        widgets.jslink((self.slider, "index"), (twin, "index"))
        self.box = widgets.HBox([twin, self.slider]).add_class(f"quantlab-{control.name}")

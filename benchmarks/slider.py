"""How smooth are the sliders? From a move of the mouse to changed pixels, in a real JupyterLab.

    python benchmarks/slider.py                         # every explorer of every notebook
    python benchmarks/slider.py 01_float32_to_int8      # only of this one
    python benchmarks/slider.py --steps-per-second 5    # slowly, so that each picture is there before the next step

At the end of each notebook a cell is added, and everything on that one page takes turns:

    readout    the number at a slider, which the browser writes: the page itself, and nothing of the course
    label      that slider's handler in Python writes the number into a label: the bare way to the kernel and back
    explorer   each of the notebook's explorers, over its longest control
    textbook   the same plot of the same numbers, with the same sentence, over the same positions, in the textbook's
               way: `interact` with a function that draws with matplotlib and calls `plt.show()` (`textbook.py`)

The mouse sweeps over each slider from end to end, at 25 steps a second as a hand does: it does not wait for the
picture, and what is slow lags behind. At 5 steps a second nothing lags, and the textbook comes nearer: compare it with
the readout, then, which no picture on that page can beat.

A move, one step, ends when the browser has painted the first frame that shows its position or, where that was skipped,
a later one of the sweep. Each line shows the median and the 95th percentile of at least 50 moves, in milliseconds. The
promise: at least 10 times faster than the textbook at the median, and at the 95th percentile at most 50 ms above the
label.
Needs a Chromium, as the browser tests do.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import numpy as np
import psutil
from playwright.sync_api import Locator, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ("tests/browser", "tests", "tools")]

import course  # noqa: E402 (the tests are no package)
from jupyterlab_driver import PATIENCE, LabNotebook, find_browser, grab, serve  # noqa: E402

MOVES = 50
TEXTBOOK = "  the same plot, the textbook's way"
TIMES_FASTER, MOST_ABOVE_LABEL = 10, 50

LAST_CELL = f"""
import sys
sys.path.append({str(ROOT / "benchmarks")!r})
import textbook

textbook.label()
for shown in list(Out.values()):
    if isinstance(shown, ql.explorers.Explorer):
        textbook.interact_with(shown)
"""

# What is seen of an element: the positions of its figures. It looks at nothing inside of what is hidden.
SEEN = """function seen(element) {
    if (!element.checkVisibility()) return '';
    return element.dataset.position ?? [...element.children].map(seen).join('');
}"""
# Notes when the mouse moved to which position, and when which position was first painted.
WATCH = """(root, [state, names, left, width]) => {
    const read = new Function('root', `return ${state}`), moves = [], frames = [];
    const onMove = event => {
        for (const {timeStamp, clientX} of event.getCoalescedEvents())
            moves.push([timeStamp, names[Math.round((clientX - left) / width * (names.length - 1))]]);
    };
    let shown, request;
    const look = () => {
        const now = read(root);
        if (now && now !== shown) {
            shown = now;  // the task comes right after this frame was painted
            scheduler.postTask(() => frames.push([performance.now(), now]), {priority: 'user-blocking'});
        }
        request = requestAnimationFrame(look);
    };
    window.addEventListener('pointermove', onMove, {capture: true});
    look();
    window.stopWatching = () => {
        window.removeEventListener('pointermove', onMove, {capture: true});
        cancelAnimationFrame(request);
        return [moves, frames];
    };
}"""


@dataclass
class Contender:
    """Something with a slider on a page, and an expression in JavaScript: what `root` shows, false while unsettled.

    `names` are what `state` says at each position of the slider.
    """

    name: str
    root: Locator
    slider: Locator
    state: str
    names: list[str]
    milliseconds: list[float] = field(default_factory=list)

    def sweep(self, steps_per_second: float) -> None:
        """Drag the slider step by step from the end that it is nearer to to the other one."""
        page = self.slider.page
        handle = self.slider.locator(".noUi-handle")
        is_left = float(handle.get_attribute("aria-valuenow")) < float(handle.get_attribute("aria-valuemax")) / 2
        order = self.names if is_left else self.names[::-1]
        bar = left, length, _ = grab(self.slider)
        self._move_to(bar, order[0])
        self._wait_until_shown(order[0])
        self.root.evaluate(WATCH, [self.state, self.names, left, length])
        began = time.perf_counter()
        for step, name in enumerate(order[1:]):
            # up to a frame of the screen later: else some paces would meet all frames at the same moment of theirs
            due = began + step / steps_per_second + random.uniform(0, 1 / 60)
            page.wait_for_timeout(max(0, 1000 * (due - time.perf_counter())))
            self._move_to(bar, name)
        self._wait_until_shown(order[-1])
        moves, frames = page.evaluate("() => window.stopWatching()")
        page.mouse.up()
        seen = [(moment, order.index(name)) for moment, name in frames]
        for moment, name in moves:
            self.milliseconds.append(min(then for then, step in seen if step >= order.index(name)) - moment)

    def _move_to(self, bar: tuple[float, float, float], name: str) -> None:
        left, length, middle = bar
        self.slider.page.mouse.move(left + length * self.names.index(name) / (len(self.names) - 1), middle)

    def _wait_until_shown(self, name: str) -> None:
        there = f"([root, name]) => ({self.state}) === name"
        self.slider.page.wait_for_function(there, arg=[self.root.element_handle(), name])

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.milliseconds, share))


def add_last_cell(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(LAST_CELL))
    nbformat.write(notebook, path)


def contenders_on(notebook: LabNotebook) -> list[Contender]:
    """The readout and the label; then each explorer of a notebook, by its longest slider, and its textbook."""
    page = notebook.page
    label, words = page.locator(".the-label"), "root.querySelector('.widget-label:last-child').textContent"
    numbers = [str(number) for number in range(1000)]
    slider, readout = label.locator(".noUi-target"), "root.querySelector('.widget-readout').textContent"
    found = [
        Contender("readout", label, slider, readout, numbers[:21]),
        Contender("label", label, slider, words, numbers[:21]),
    ]
    textbooks = page.locator(".the-textbook").all()
    for explorer, textbook in zip(notebook.explorers(), textbooks, strict=True):
        title = explorer.panel.locator("strong").first.text_content()
        kind = "live" if explorer.is_live else "precomputed"
        lists = [
            [option.replace("\xa0", " ") for option in choice.locator("option").all_text_contents()]
            for choice in explorer.panel.locator("select").all()
        ]
        longest = max(range(len(lists)), key=lambda index: len(lists[index]))
        slider = explorer.panel.locator(".noUi-target").nth(longest)
        # "bits=3; clip at=50%" -> "50%"
        state = f"({SEEN})(root.lastElementChild).split('; ')[{longest}]?.replace(/^.*?=/, '')"
        found.append(Contender(f"{title[:40]} ({kind})", explorer.panel, slider, state, lists[longest]))
        textbook.locator("img").wait_for(state="attached", timeout=PATIENCE)
        shown = "root.querySelector('img')?.complete && root.querySelector('pre')?.textContent.split(':')[0]"
        slider = textbook.locator(".noUi-target")
        found.append(Contender(TEXTBOOK, textbook, slider, shown, numbers[: len(lists[longest])]))
    return found


def report(name: str, contenders: list[Contender]) -> None:
    print(f"\n{name}\n{'':60} median  95th percentile (ms)")
    label = next(contender for contender in contenders if contender.name == "label")
    for contender, before in zip(contenders, [None, *contenders], strict=False):
        line = f"  {contender.name:58} {contender.percentile(50):6.0f} {contender.percentile(95):7.0f}"
        if contender.name == TEXTBOOK:  # it comes after its explorer
            times = contender.percentile(50) / before.percentile(50)
            above = before.percentile(95) - label.percentile(95)
            kept = times >= TIMES_FASTER and above <= MOST_ABOVE_LABEL
            line += f"   {times:5.1f} times, {above:+.0f} ms to the label: {'kept' if kept else 'NOT KEPT'}"
        print(line, flush=True)


def main(names: list[str], steps_per_second: float) -> None:
    print(f"{os.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}")
    print(f"at least {MOVES} moves each, {steps_per_second:g} a second")
    with tempfile.TemporaryDirectory() as home, serve(Path(home)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        for name in names or course.NAMES:
            add_last_cell(Path(home) / "notebooks" / f"{name}.ipynb")
            notebook = LabNotebook(browser.new_page(viewport={"width": 1200, "height": 1000}), address, name)
            notebook.run_all()
            contenders = contenders_on(notebook)
            for contender in contenders:  # to warm up
                contender.sweep(steps_per_second)
                contender.milliseconds.clear()
            while unfinished := [c for c in contenders if len(c.milliseconds) < MOVES]:
                for contender in unfinished:
                    contender.sweep(steps_per_second)
            report(name, contenders)
            notebook.close()
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NOTEBOOK", help="all, if none is named")
    parser.add_argument("--steps-per-second", type=float, default=25)
    given = parser.parse_args()
    main(given.names, given.steps_per_second)

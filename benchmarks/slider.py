"""How smooth are the sliders? From a move of the mouse to changed pixels, in a real JupyterLab.

    python benchmarks/slider.py                         # every explorer of every notebook
    python benchmarks/slider.py 01_float32_to_int8      # only of this one

Beside the explorers of each notebook, and taking turns with them:

    label      a slider whose handler in Python writes a number into a label: the bare way to the kernel and back
    textbook   `interact` with a function that draws with matplotlib, in the look of the course's figures, and calls
               `plt.show()`: 100,000 weights before and after quantization, and one sentence of numbers
    ours       the same plot of the same weights with the same sentence: `ql.explorers.buckets`

A move is one step of the slider by the mouse. It ends when the browser has painted the first frame in which the page
shows the new position. Each shows the median and the 95th percentile of 50 moves, in milliseconds. The promise: at
least 10 times faster than the textbook at the median, and at the 95th percentile at most 50 ms above the label.
Needs a Chromium, as the browser tests do.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from playwright.sync_api import Locator, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ("tests/browser", "tests", "tools")]

import course  # noqa: E402 (the tests are no package)
from jupyterlab_driver import PATIENCE, LabNotebook, add_notebook, find_browser, serve  # noqa: E402

TURNS, MOVES_IN_A_TURN = 5, 10
TIMES_FASTER, MOST_ABOVE_LABEL = 10, 50

USUAL_WAY = """
import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import HBox, IntSlider, Label, Layout, interact
import quantlab_helpers as ql

slider, label = IntSlider(5, 0, 20, layout=Layout(width="420px")), Label("5")
slider.observe(lambda change: setattr(label, "value", str(change.new)), "value")
display(HBox([slider, label]).add_class("the-label"))

weights = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
ours = ql.explorers.buckets(weights)

def plot(bits):
    result = ours.compute(**{**ours.at_start(), "num_bits": bits})
    with plt.rc_context(ql.plots.LOOK):
        plt.hist(weights, bins=80, histtype="step", color="black", label="before")
        plt.hist((result.codes - result.zero_point) * result.scale, 80, weights=result.counts, label="after")
        plt.axvspan(-1.4 * result.threshold, -result.threshold, alpha=0.2, label="clipped")
        plt.axvspan(result.threshold, 1.4 * result.threshold, alpha=0.2)
        plt.xlabel("value")
        plt.ylabel("values")
        plt.legend()
        plt.show()
    print(ours.describe(result))

bits = IntSlider(5, 2, 8, layout=Layout(width="420px"))
textbook = interact(plot, bits=bits).widget.add_class("the-textbook")
ours
"""

# Notes the time of the next move of the mouse, and that of the first painted frame in which `state` is a new one.
START_CLOCK = """(root, state) => {
    const read = () => new Function('root', `return ${state}`)(root), before = read();
    window.moved = new Promise(resolve => {
        const onMove = event => {
            const look = () => {
                const now = read();
                if (now && now !== before) {
                    const channel = new MessageChannel();  // its message comes after the frame was painted
                    channel.port1.onmessage = () => resolve(performance.now() - event.timeStamp);
                    channel.port2.postMessage('');
                } else requestAnimationFrame(look);
            };
            look();
        };
        window.addEventListener('pointermove', onMove, {once: true, capture: true});
    });
}"""


@dataclass
class Contender:
    """Something with a slider on a page, and an expression in JavaScript: what `root` shows, false while unsettled."""

    name: str
    notebook: LabNotebook
    root: Locator
    slider: Locator
    state: str
    milliseconds: list[float] = field(default_factory=list)

    def take_turn(self) -> None:
        """Drag the slider step by step, to and fro, and wait after each step until it is seen."""
        page = self.notebook.page
        page.bring_to_front()
        self.slider.scroll_into_view_if_needed()
        bar, handle = self.slider.bounding_box(), self.slider.locator(".noUi-handle")
        place, height = handle.bounding_box(), float(handle.get_attribute("aria-valuemax"))
        least = float(handle.get_attribute("aria-valuemin"))
        steps, at = round(height - least), round(float(handle.get_attribute("aria-valuenow")) - least)
        y = place["y"] + place["height"] / 2
        page.mouse.move(bar["x"] + bar["width"] * at / steps, y)
        page.mouse.down()
        direction = 1 if at < steps else -1
        for _ in range(MOVES_IN_A_TURN):
            if not 0 <= at + direction <= steps:
                direction = -direction
            at += direction
            self.root.evaluate(START_CLOCK, self.state)
            page.mouse.move(bar["x"] + bar["width"] * at / steps, y)
            self.milliseconds.append(page.evaluate("() => window.moved"))
        page.mouse.up()

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.milliseconds, share))


def usual_ways(notebook: LabNotebook) -> list[Contender]:
    page = notebook.page
    label, textbook = page.locator(".the-label"), page.locator(".the-textbook")
    slider, words = ".noUi-target", "root.querySelector('.widget-label:last-child').textContent"
    page.locator(".the-textbook img").wait_for(timeout=PATIENCE)
    shown = "root.querySelector('img')?.complete && root.querySelector('img').src"
    return [
        Contender("label", notebook, label, label.locator(slider), words),
        Contender("textbook", notebook, textbook, textbook.locator(slider), shown),
    ]


def explorers_of(notebook: LabNotebook) -> list[Contender]:
    """The explorers of a notebook, each by its slider with the most positions."""
    found = []
    for explorer in notebook.explorers():
        handles = explorer.panel.locator(".noUi-handle")
        lengths = handles.evaluate_all("all => all.map(handle => Number(handle.getAttribute('aria-valuemax')))")
        slider = explorer.panel.locator(".noUi-target").nth(int(np.argmax(lengths)))
        title = explorer.panel.locator("strong").first.inner_text()
        kind = "live" if explorer.is_live else "precomputed"
        state = (
            "[...root.querySelectorAll('figure[data-position]')]"
            ".filter(figure => figure.checkVisibility()).map(figure => figure.dataset.position).join('|')"
        )
        found.append(
            Contender(
                f"{'ours: ' if notebook.name == 'usual' else ''}{title[:40]} ({kind})",
                notebook,
                explorer.panel,
                slider,
                state,
            )
        )
    return found


def report(name: str, contenders: list[Contender]) -> None:
    label, textbook, *explorers = contenders
    print(f"\n{name}\n{'':60} median  95th percentile (ms)")
    for contender in contenders:
        median, high = contender.percentile(50), contender.percentile(95)
        line = f"  {contender.name:58} {median:6.0f} {high:7.0f}"
        if contender in explorers:
            times, above = textbook.percentile(50) / median, high - label.percentile(95)
            kept = times >= TIMES_FASTER and above <= MOST_ABOVE_LABEL
            line += (
                f"   {times:5.1f} times the textbook, {above:+.0f} ms to the label: {'kept' if kept else 'NOT KEPT'}"
            )
        print(line, flush=True)


def main(names: list[str]) -> None:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {TURNS * MOVES_IN_A_TURN} moves each")
    with tempfile.TemporaryDirectory() as home, serve(Path(home)) as address, sync_playwright() as playwright:
        add_notebook(Path(home), "usual", USUAL_WAY)
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])

        def opened(name: str) -> LabNotebook:
            notebook = LabNotebook(browser.new_page(viewport={"width": 1200, "height": 1000}), address, name)
            notebook.run_all()
            return notebook

        usual = opened("usual")
        for name in names or course.NAMES:
            notebook = opened(name)
            contenders = [*usual_ways(usual), *explorers_of(usual), *explorers_of(notebook)]
            for turn in range(TURNS + 1):
                for contender in contenders:
                    contender.take_turn()
                    if not turn:  # to warm up
                        contender.milliseconds.clear()
            report(name, contenders)
            notebook.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])

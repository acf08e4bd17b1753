"""Every notebook as a learner meets it: in JupyterLab, in a browser, with mouse and keyboard.

Each notebook is run once, and all tests work on the page that is open then. They look at what the browser shows; what
it should show they ask the notebook's own kernel.
"""

import inspect
import itertools
import json
import shutil

import course
import pytest
from jupyterlab_driver import PATIENCE, add_notebook, grab
from playwright.sync_api import expect

from quantlab_helpers import exercises

LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"

# In the kernel: the explorers that cells showed, in their order, and what one of them draws.
ASK = """
import json
import quantlab_helpers as ql
shown = [Out[n] for n in sorted(Out) if isinstance(Out[n], ql.explorers.Explorer)]

def controls_of(explorer):
    return [[c.name, c.label, list(map(c.text, c.positions))] for c in explorer.controls]

def frame(number, words):
    explorer = shown[number]
    return explorer.frame(**{c.name: next(p for p in c.positions if c.text(p) == words[c.name])
                             for c in explorer.controls})
"""


@pytest.fixture(scope="module", params=course.NAMES)
def notebook(request, open_notebook):
    opened = open_notebook(request.param)
    yield opened
    opened.close()


class Explorers:
    """The explorers on the page, each with what Python says of it."""

    def __init__(self, notebook):
        self.notebook = notebook
        self.controls = json.loads(self.ask("print(json.dumps([controls_of(explorer) for explorer in shown]))"))
        expect(notebook.page.locator(".quantlab-explorer")).to_have_count(len(self.controls), timeout=PATIENCE)
        self.panels = notebook.explorers()

    def ask(self, code):
        return self.notebook.ask(f"def _answer():\n{_indented(ASK + code)}\n_answer()\ndel _answer")

    def check(self, number):
        """The figure that is seen, with its sentence, is the one that Python draws for what the lists show."""
        panel = self.panels[number]
        assert panel.shows(self.ask(f"print(frame({number}, {panel.position()!r}), end='')"))

    def __iter__(self):
        yield from zip(itertools.count(), self.panels, self.controls, strict=False)


def _indented(code):
    return "\n".join(f"    {line}" for line in code.splitlines())


def test_run_all_shows_no_error(notebook):
    assert notebook.cell_errors() == []
    assert notebook.problems == []


def test_every_explorer_is_on_the_page_as_python_draws_it(notebook):
    explorers = Explorers(notebook)
    assert len(explorers.panels) >= "\n".join(notebook.sources()).count("\nql.explorers.")
    for number, panel, controls in explorers:
        panel.wait_until_settled()
        assert list(panel.position()) == [name for name, *_ in controls]
        assert panel.cut_labels() == []
        explorers.check(number)


def test_mouse_arrows_and_typing_move_picture_and_sentence_without_a_flicker(notebook):
    _check_every_move(notebook)


def _check_every_move(notebook):
    explorers, sources = Explorers(notebook), notebook.sources()
    for number, panel, controls in explorers:
        for i, (_, _, texts) in enumerate(controls):
            for move, how, lands_on in _moves(panel, texts):
                with panel.watched() as frames:
                    move(i, how)
                assert panel.read_outs()[i] == lands_on, (move.__name__, how)
                explorers.check(number)
                assert len(frames) == 1, f"{move.__name__} {how}: not steady, figures seen, heights: {frames}"
                assert frames[0][:2] == [1, True]
    assert notebook.sources() == sources  # the keys went nowhere else
    assert notebook.problems == []


def _moves(panel, texts):
    """Ways to move a control, one after the other: how, and where each should land."""
    last = len(texts) - 1
    middle = last // 2
    typed = texts[last].split(" ")[0]  # a list goes to the next entry that begins so
    reached = next(text for text in (*texts[middle + 1 :], *texts) if text.startswith(typed))
    return (
        (panel.drag, 1.0, texts[last]),
        (panel.drag, middle / last, texts[middle]),
        (panel.press, "ArrowRight", texts[middle + 1]),
        (panel.press, "ArrowLeft", texts[middle]),
        (panel.type, typed, reached),
        (panel.press, "Home", texts[0]),
        (panel.press_on_list, "ArrowDown", texts[1]),
    )


def test_the_tab_key_reaches_every_control_by_its_name(notebook):
    for _, panel, controls in Explorers(notebook):
        names = [label for _, label, _ in controls]
        assert panel.tab_stops() == [f"{kind} {name}" for name in names for kind in ("list", "slider")]


def test_a_screen_reader_hears_the_words_of_the_position(notebook):
    for _, panel, _ in Explorers(notebook):
        assert panel.seen.evaluate("figure => figure.closest('[aria-live=polite]') !== null")  # and the new sentence
        handles = panel.panel.locator(".noUi-handle")
        spoken = handles.evaluate_all("all => all.map(handle => handle.getAttribute('aria-valuetext'))")
        assert [words.replace("\xa0", " ") for words in spoken] == panel.read_outs()


@pytest.mark.parametrize("theme", [DARK, LIGHT])
def test_axe_finds_no_obstacle(notebook, theme):
    notebook.use_theme(theme)
    assert notebook.obstacles() == []


FAINT = """
from IPython.display import HTML
HTML("<p>words</p>" * 200 + "<p style='color: #ccc'>faint words</p>")
"""


def test_axe_sees_what_one_must_scroll_to(open_notebook, lab_home):
    add_notebook(lab_home, "faint", FAINT)
    notebook = open_notebook("faint")
    try:
        [found] = notebook.obstacles()
        assert found.startswith("color-contrast")
        assert "faint words" in found
    finally:
        notebook.close()


def test_every_picture_has_an_alt_text(notebook):
    for alt in notebook.pictures():
        assert alt and len(alt.split()) >= 3, alt


def test_the_words_of_a_picture_can_be_read_before_the_notebook_was_run(open_notebook, lab_home):
    """JupyterLab takes the alt text from a stored picture, and the script that would put it back."""
    shutil.copy(course.FOLDER / "03_bit_width_sweep.ipynb", lab_home / "notebooks" / "not_run.ipynb")
    notebook = open_notebook("not_run", run=False)
    try:
        outputs = [output for cell in course.read("03_bit_width_sweep").cells for output in cell.get("outputs", [])]
        words = [output.data["text/plain"] for output in outputs if output.get("metadata", {}).get("is_alt_text")]
        assert len(words) == 3
        shown = notebook.page.locator(".jp-OutputArea-output .alt-text")
        expect(shown).to_have_text(words, timeout=PATIENCE)
        assert all(box["height"] == 1 for box in (place.bounding_box() for place in shown.all()))
    finally:
        notebook.close()


def test_a_wrong_answer_earns_a_hint_and_a_right_one_a_green_line(notebook):
    for exercise in course.exercises_in(notebook.name)[:1]:
        cell = notebook.cell_with(f'@ql.exercise("{exercise}")')
        task = exercises.get(exercise)
        arguments = ", ".join(inspect.signature(task.reference).parameters)
        stub = f'@ql.exercise("{exercise}")\ndef {task.reference.__name__}({arguments}):\n    return 12345'
        assert f"✗ {exercise}: not right yet" in notebook.type_and_run(cell, stub)
        expect(cell.locator("[data-kind=hint]")).to_be_visible()
        assert notebook.obstacles() == []
        assert f"✓ {exercise}: passed" in notebook.type_and_run(cell, course.solution(exercise))
        expect(cell.locator("[data-kind=good]")).to_be_visible()
        assert notebook.cell_errors() == []


def test_what_a_learner_wrote_is_there_after_saving_and_reloading(notebook):
    if notebook.name == "00_start_here":
        pytest.skip("has no prediction and no reflection")
    source = next(s for s in notebook.sources() if "ql.predict(" in s and "choices=" not in s)
    guess = source.replace("answer=None", "answer=42.5")
    assert "Noted: 42.5." in notebook.type_and_run(notebook.cell_with(source), guess)
    notebook.write(notebook.cell_with("*Your answer:*", "markdown"), "*Your answer:* it depends on the **scales**.")
    notebook.save_and_reload()
    assert guess in notebook.sources()
    expect(notebook.cell_with(guess).locator("[data-kind=note]")).to_contain_text("Noted: 42.5.")
    expect(notebook.cell_with("*Your answer:*", "markdown")).to_contain_text("it depends on the scales.")
    for number, panel, _ in (explorers := Explorers(notebook)):
        panel.wait_until_settled()
        explorers.check(number)
    assert notebook.problems == []


def test_a_kernel_that_restarts_in_the_middle_of_a_drag(notebook):
    """The last test of a page, since its kernel is a new one afterwards."""
    _restart_in_the_middle_of_a_drag(notebook)


def _restart_in_the_middle_of_a_drag(notebook, *, all_frames_are_there=True):
    panels = notebook.explorers()
    for panel in panels[:1]:
        panel.press(0, "Home")
        if all_frames_are_there:
            expect(panel.panel.locator("figure")).not_to_have_count(1, timeout=PATIENCE)
        left, length, middle = grab(panel.slider(0))
        notebook.page.mouse.move(left + 0.5 * length, middle, steps=6)
        notebook.restart_kernel()
        notebook.page.mouse.move(left + length, middle, steps=12)
        notebook.page.mouse.up()
        notebook.wait_for_new_kernel()
        if all_frames_are_there:
            panel.wait_until_settled()
            texts = panel.texts(0)
            assert panel.read_outs()[0] == texts[-1]
            panel.press(0, "ArrowLeft")
            assert panel.read_outs()[0] == texts[-2]
            panel.drag(0, 0.0)
            assert panel.read_outs()[0] == texts[0]
    for panel in panels:
        assert panel.says_that_its_kernel_is_gone() is panel.is_live
    assert notebook.cell_errors() == []
    assert notebook.problems == []


LIVE = """
from quantlab_helpers.explorers import Control, Explorer
from quantlab_helpers.explorers.svg import Chart

def draw(n):
    chart = Chart((0, 300), (0, 1))
    chart.points(n, 0.5, "#0072b2")
    return chart.image("A point on a line of 300 places")

Explorer("Many places", (Control("n", "place", tuple(range(300)), 7),), lambda n: n, draw, "place {}".format)
"""


def test_an_explorer_that_asks_the_kernel_says_when_there_is_none(open_notebook, lab_home):
    add_notebook(lab_home, "live", LIVE)
    notebook = open_notebook("live")
    try:
        _check_every_move(notebook)
        _restart_in_the_middle_of_a_drag(notebook, all_frames_are_there=False)
        notebook.run_all()
        assert not notebook.explorers()[0].says_that_its_kernel_is_gone()
        _check_every_move(notebook)
    finally:
        notebook.close()


def test_on_another_day_it_is_as_notebook_00_says(open_notebook):
    notebook = open_notebook("00_start_here")
    try:
        there = notebook.sources()
        assert any("you read *model not found*: choose *Run → Run All Cells*" in source for source in there)
        notebook.come_back_another_day()
        expect(notebook.page.get_by_text("Error displaying widget: model not found")).to_have_count(1, timeout=PATIENCE)
        assert notebook.explorers() == []
        assert notebook.sources() == there
        notebook.problems.clear()  # JupyterLab's own words about the widgets
        notebook.run_all()
        _check_every_move(notebook)
    finally:
        notebook.close()

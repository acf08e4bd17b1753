"""The website in a browser, as a reader without a kernel and without a connection meets it."""

import os
import re
from pathlib import Path

import build_site
import course
import nbformat
import pytest
from jupyterlab_driver import LabExplorer
from refresh_outputs import refresh

RUN = ["01_float32_to_int8", "03_bit_width_sweep"]  # quick ones; nbval runs all of them anyway
PAGES = ["index.html", *(f"notebooks/{name}.html" for name in course.NAMES), "quantlab_helpers/data/README.html"]
LIVE = """\
from quantlab_helpers.explorers import Control, Explorer
many = Control("n", "n", tuple(range(201)), 7)
draw = '<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 9 9"><text y="9">{}</text></svg>'.format
Explorer("More than can be drawn", (many,), lambda n: n, draw, "n is {}.".format)"""


def _build(folder, **options):
    try:
        build_site.build(folder, **options)
    except ConnectionError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the libraries of the website: {error}")
        pytest.skip(f"the libraries of the website are not here and cannot be downloaded: {error}")
    return folder


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory):
    return _build(tmp_path_factory.mktemp("site"), run_only=RUN)


@pytest.fixture
def open_page(browser):
    """A function that opens a file in the browser, which has no connection; nothing may ask for one or complain."""
    context = browser.new_context(viewport={"width": 1200, "height": 1000}, offline=True)
    requests, problems = [], []
    context.on("request", lambda request: requests.append(request.url))
    context.on("requestfailed", lambda request: problems.append(f"not loaded: {request.url}"))
    context.on("weberror", lambda error: problems.append(str(error.error)))
    context.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)

    def open_one(path, **size):
        page = context.new_page()
        if size:
            page.set_viewport_size(size)
        page.goto(path.as_uri(), wait_until="load")
        views = page.locator("script[type='application/vnd.jupyter.widget-view+json']")
        page.wait_for_function("n => document.querySelectorAll('.quantlab-explorer').length === n", arg=views.count())
        return page

    yield open_one
    context.close()
    assert problems == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("name", RUN)
def test_explorers_move_by_mouse_keys_and_list(open_page, site, name):
    page = open_page(site / "notebooks" / f"{name}.html")
    on_page = [LabExplorer(page, panel) for panel in page.locator(".quantlab-explorer").all()]
    in_python = course.explorers_in(name)
    assert len(on_page) == len(in_python) > 0
    for panel, explorer in zip(on_page, in_python, strict=True):
        panel.wait_until_settled()
        _check_picture(panel, explorer)
        for i, control in enumerate(explorer.controls):
            texts = [control.text(position) for position in control.positions]
            for move, how, lands_on in (
                (panel.drag, 1.0, texts[-1]),
                (panel.drag, 0.0, texts[0]),
                (panel.press, "ArrowRight", texts[1]),
                (panel.choose, texts[-1], texts[-1]),
            ):
                move(i, how)
                assert panel.read_outs()[i] == lands_on
                _check_picture(panel, explorer)


def _check_picture(panel, explorer):
    """What is seen is, element for element, what Python draws and says at this position."""
    chosen = {
        control.name: next(p for p in control.positions if control.text(p) == panel.position()[control.name])
        for control in explorer.controls
    }
    assert panel.shows(explorer.frame(**chosen))


@pytest.mark.parametrize("name", RUN)
def test_on_a_phone_nothing_is_cut_and_the_sliders_work(open_page, site, name):
    page = open_page(site / "notebooks" / f"{name}.html", width=390, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    panel = LabExplorer(page, page.locator(".quantlab-explorer").first)
    panel.wait_until_settled()
    assert panel.cut_labels() == []
    before = panel.read_outs()
    panel.drag(0, 1.0)
    assert panel.read_outs() != before
    for part in panel.panel.locator("select:visible, .noUi-target:visible, svg:visible").all():
        box = part.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert not page.locator("#menu").evaluate("menu => menu.open")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_complete(open_page, site, name):
    """Formulas are set, images are there and have words for those who do not see them, links lead somewhere."""
    page = open_page(site / name)
    assert page.title().endswith("· QuantLab")
    assert page.locator(".katex-error").count() == 0
    left_over = """() => [...document.querySelectorAll(".text")].map(text => {
        const copy = text.cloneNode(true);
        copy.querySelectorAll("code, pre, .katex").forEach(part => part.remove());
        return copy.textContent;
    }).filter(text => text.includes("$"))"""
    assert page.evaluate(left_over) == []
    pictures = page.locator("img").evaluate_all("all => all.map(i => [i.naturalWidth > 0, i.alt])")
    assert all(loaded and words for loaded, words in pictures)
    drawn = page.locator("img[src^='data:']").evaluate_all("all => all.map(i => i.alt)")
    assert drawn == _stored_alt_texts(Path(name).stem)
    assert page.locator(".alt-text").count() == 0  # the output by which JupyterLab gets these words
    assert page.locator("main details[open]").count() == 0
    inside = page.locator("a").evaluate_all("all => all.map(a => a.href).filter(h => h.startsWith('file:'))")
    assert inside
    _check_links(site, inside)


def _stored_alt_texts(name):
    """Those of the pictures that a notebook drew; a page that is no notebook has none."""
    cells = course.read(name).cells if name in course.NAMES else []
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [output.metadata["image/png"]["alt"] for output in outputs if "image/png" in output.get("data", {})]


def _check_links(site, addresses):
    for address in set(addresses):
        file, _, anchor = address.removeprefix(site.as_uri() + "/").partition("#")
        assert (site / file).is_file(), address
        if anchor:  # a browser looks for the name as it is written
            names = re.findall(r'id="([^"]+)"', (site / file).read_text(encoding="utf-8"))
            assert anchor in [name.replace("&amp;", "&") for name in names], address


def test_formulas_are_set(open_page, site):
    page = open_page(site / "notebooks" / "08_gptq.html")
    assert page.locator(".katex").count() > 10
    assert page.locator(".katex-display").first.bounding_box()["height"] > 20


def test_a_notebook_that_was_not_run_shows_its_explorers_as_pictures(open_page, site):
    name = "02_memory_savings"
    page = open_page(site / "notebooks" / f"{name}.html")
    _check_is_picture(page, course.explorers_in(name)[0].sentence())


def test_an_explorer_with_too_many_positions_is_a_picture(open_page, tmp_path, browser):
    """Never a slider that seems to work."""
    page = open_page(_page_of(tmp_path, nbformat.v4.new_code_cell(LIVE)))
    _check_is_picture(page, "n is 7.")


@pytest.mark.parametrize(("tags", "notes"), [([], 0), (["nbval-ignore-output"], 1)])
def test_a_panel_of_what_was_measured_anew_says_so(open_page, tmp_path, browser, tags, notes):
    few = nbformat.v4.new_code_cell(LIVE.replace("range(201)", "range(9)"), metadata={"tags": tags})
    page = open_page(_page_of(tmp_path, few))
    assert page.locator(".quantlab-precomputed").count() == 1
    assert page.get_by_text("This panel was measured when the page was built").count() == notes


def _page_of(folder, cell):
    """The page that a course of one code cell becomes."""
    root = folder / "course"
    (root / "notebooks").mkdir(parents=True)
    (root / "README.md").write_text("# A course", encoding="utf-8")
    cells = [nbformat.v4.new_markdown_cell("# One"), cell]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / "00_one.ipynb")
    refresh(root / "notebooks" / "00_one.ipynb")
    return _build(folder / "site", root=root) / "notebooks" / "00_one.html"


def _check_is_picture(page, sentence):
    picture = page.locator("figure")
    assert picture.locator("svg[role=img]").is_visible()
    assert picture.inner_text().endswith(sentence)
    assert page.get_by_text("This panel needs JupyterLab").is_visible()
    assert page.locator(".widget-slider, .noUi-target, main select").count() == 0
    assert "its sliders work" not in page.locator("main").inner_text()

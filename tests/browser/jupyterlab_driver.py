"""A real JupyterLab in a real browser, for tests: start it, open a notebook, work in it as a learner does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import course
import nbformat
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

TOKEN = "quantlab"
_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    # Cells that are left out until one scrolls to them take their height late, and the mouse misses what they move.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
    # Without this, typing ( in a cell also types ), which is not what the test wants to type.
    "@jupyterlab/codemirror-extension:plugin": {"defaultConfig": {"autoClosingBrackets": False}},
}
PATIENCE = 60_000  # milliseconds: a busy machine is slow, and only what never comes is an error

_SESSION = "() => window.jupyterapp.shell.currentWidget?.context?.sessionContext?.session"
_CELLS = "() => window.jupyterapp.shell.currentWidget.content.widgets"
_BUSY_CELLS = f"""() => ({_CELLS})()
    .filter(cell => cell.model.type === 'code' && cell.model.executionState !== 'idle').length"""
_SEEN = """[...panel.querySelectorAll('figure[data-position]')]
    .filter(figure => figure.checkVisibility({opacityProperty: true, visibilityProperty: true}))"""
_IS_SETTLED = f"""panel => {{
    const seen = {_SEEN};
    const words = list => list.selectedOptions[0].text.replace(/\xa0/g, ' ');
    const chosen = [...panel.querySelectorAll('select')].map(words);
    const drawn = seen[0]?.dataset.position.split('; ').map(part => part.slice(part.indexOf('=') + 1));
    return seen.length === 1 && JSON.stringify(drawn) === JSON.stringify(chosen);
}}"""
# In each frame: how many figures are seen, whether the first has something in it, its height and the panel's.
_WATCH = f"""panel => {{
    const notes = new Set();
    let request;
    const look = () => {{
        const seen = {_SEEN};
        const {{height}} = seen[0]?.getBoundingClientRect() ?? {{height: 0}};
        const marks = seen[0]?.querySelectorAll('svg *').length > 0 && seen[0].textContent.length > 0;
        notes.add(JSON.stringify([seen.length, marks, height, panel.getBoundingClientRect().height]));
        request = requestAnimationFrame(look);
    }};
    panel.stopWatching = () => {{
        cancelAnimationFrame(request);
        return [...notes].map(note => JSON.parse(note));
    }};
    look();
}}"""
_FOCUS = """panel => {
    const here = document.activeElement;
    if (!panel.contains(here)) return '';
    return here.matches('select') ? `list ${here.labels[0].textContent}` : `slider ${here.getAttribute('aria-label')}`;
}"""


def find_browser() -> str | None:
    """The path of a Chromium: $QUANTLAB_CHROMIUM, or one on the PATH."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return os.environ.get("QUANTLAB_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextlib.contextmanager
def serve(home: Path):
    """Run JupyterLab in the empty folder `home` on copies of the notebooks; yield its address."""
    config = home / "config"
    (config / "labconfig").mkdir(parents=True)
    (config / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(_SETTINGS))
    shutil.copytree(course.FOLDER, home / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    folders = {"HOME": "home", "JUPYTER_RUNTIME_DIR": "runtime", "JUPYTER_DATA_DIR": "data", "IPYTHONDIR": "ipython"}
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(config),
        **{name: str(home / folder) for name, folder in folders.items()},
    }
    port = _free_port()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={home / 'notebooks'}"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", "--LabApp.expose_app_in_browser=True"]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=home)
        try:
            _wait_for(server, f"http://127.0.0.1:{port}", home / "server.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=30)


def add_notebook(home: Path, name: str, source: str) -> None:
    """Put a notebook with one code cell beside the course's in the folder that `serve` works in."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(source)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, home / "notebooks" / f"{name}.ipynb")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(server: subprocess.Popen, address: str, log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab stopped:\n{log.read_text()}")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{address}/api/status?token={TOKEN}", timeout=5).close()
            return
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not answer at {address}:\n{log.read_text()}")


class LabNotebook:
    """One notebook, open in JupyterLab on a page of the browser."""

    def __init__(self, page: Page, address: str, name: str):
        self.page = page
        self.name = name
        self.problems: list[str] = []  # what the browser's console and the page itself complain of
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda m: self.problems.append(m.text) if m.type == "error" else None)
        page.goto(f"{address}/doc/tree/{name}.ipynb?token={TOKEN}&reset")
        self._wait_until_open()

    def _wait_until_open(self) -> None:
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=PATIENCE)
        self.page.wait_for_function(f"({_SESSION})()?.kernel?.status === 'idle'", timeout=PATIENCE)

    def run_all(self) -> None:
        """Run every cell and wait until all are done."""
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self._wait_until_idle()

    def _wait_until_idle(self) -> None:
        self.page.wait_for_function(f"({_BUSY_CELLS})() === 0", timeout=PATIENCE)

    def save_and_reload(self) -> None:
        self.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        self.page.reload()
        self._wait_until_open()

    def come_back_another_day(self) -> None:
        """Stop the kernel, save, and open the page again, where a new kernel knows nothing."""
        self.page.evaluate(f"({_SESSION})().shutdown()")
        self.save_and_reload()

    def restart_kernel(self) -> None:
        """Ask for a new kernel, as the menu does, and do not wait for it."""
        self.page.evaluate(f"() => void (window.restarted = ({_SESSION})().kernel.restart())")

    def wait_for_new_kernel(self) -> None:
        """Wait until the new kernel is there and answers."""
        self.page.evaluate("() => window.restarted")
        assert self.ask("print(6 * 7)") == "42\n"

    def close(self) -> None:
        self.page.evaluate(f"({_SESSION})().shutdown()")
        self.page.close()

    def use_theme(self, name: str) -> None:
        self.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
        self.page.wait_for_selector(f"body[data-jp-theme-name='{name}']", state="attached", timeout=PATIENCE)

    def ask(self, code: str) -> str:
        """Run `code` in the notebook's kernel, behind the scenes, and return what it prints."""
        return self.page.evaluate(
            f"""async code => {{
                const future = ({_SESSION})().kernel.requestExecute({{code, store_history: false}});
                let printed = '';
                future.onIOPub = message => {{
                    if (message.header.msg_type === 'stream') printed += message.content.text;
                    if (message.header.msg_type === 'error') throw new Error(message.content.evalue);
                }};
                await future.done;
                return printed;
            }}""",
            code,
        )

    def sources(self) -> list[str]:
        return self.page.evaluate(f"({_CELLS})().map(cell => cell.model.sharedModel.source)")

    def cell_errors(self) -> list[str]:
        shown = self.page.locator(
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error'], .jp-mod-error, .jp-Dialog"
        )
        return shown.all_text_contents()

    def explorers(self) -> list[LabExplorer]:
        return [LabExplorer(self.page, panel) for panel in self.page.locator(".quantlab-explorer").all()]

    def pictures(self) -> list[str | None]:
        """The alt text of every picture in the text and in the outputs; None for a picture without one."""
        return self.page.evaluate(
            """[...document.querySelectorAll('.jp-MarkdownOutput img, .jp-OutputArea-output :is(img, svg)')]
            .filter(picture => !picture.parentElement.closest('svg') && !picture.closest('.jp-icon-hoverShow'))
            .map(picture => picture.getAttribute('alt') ?? picture.getAttribute('aria-label'))"""
        )

    def obstacles(self) -> list[str]:
        """What axe-core finds in our outputs that keeps people out, seriously or worse."""
        # For axe-core all that JupyterLab's <body>, which has no height, does not cover is hidden, and what one would
        # have to scroll to is obscured: so it gets a page with a height, and a window for all of it.
        self.page.add_style_tag(content="body { height: 100vh }")
        window = self.page.viewport_size
        height = self.page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollHeight")
        self.page.set_viewport_size({**window, "height": height + 200})
        found = Axe().run(self.page, {"include": [[".jp-OutputArea-output"]]}).response["violations"]
        self.page.set_viewport_size(window)
        return [
            f"{violation['id']}: {node['html'][:300]} {node['failureSummary']}"
            for violation in found
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]

    def cell_with(self, text: str, kind: str = "code") -> Locator:
        """The first cell of a kind whose source holds `text`."""
        index = self.page.evaluate(
            f"([text, kind]) => ({_CELLS})()"
            ".findIndex(cell => cell.model.type === kind && cell.model.sharedModel.source.includes(text))",
            [text, kind],
        )
        assert index >= 0, f"no cell holds {text!r}"
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def type_and_run(self, cell: Locator, source: str) -> str:
        """Replace what is in the code cell by typing `source`, run it with Shift+Enter, return what it shows."""
        cell.locator(".cm-content").click()
        prompt = cell.locator(".jp-InputPrompt").first
        before = prompt.inner_text()
        self._type_over(source)
        expect(prompt).not_to_have_text(before, timeout=PATIENCE)
        self._wait_until_idle()
        return cell.locator(".jp-OutputArea").first.inner_text()

    def write(self, cell: Locator, text: str) -> None:
        """Replace what is in the Markdown cell by typing, and render it."""
        cell.locator(".jp-MarkdownOutput").click()
        self.page.keyboard.press("Enter")
        self._type_over(text)
        cell.locator(".jp-MarkdownOutput").wait_for()

    def _type_over(self, text: str) -> None:
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.press("Delete")
        self.page.keyboard.insert_text(text)
        self.page.keyboard.press("Shift+Enter")


def grab(slider: Locator) -> tuple[float, float, float]:
    """Take the handle of a slider with the mouse; return the left end of its bar, its length, and its height."""
    slider.locator(".noUi-handle").hover()  # scrolls, and waits until it stands still
    bar, handle = slider.bounding_box(), slider.locator(".noUi-handle").bounding_box()
    slider.page.mouse.down()
    return bar["x"], bar["width"], handle["y"] + handle["height"] / 2


def _words(options: Locator) -> list[str]:
    # ipywidgets keeps the words of an option together
    return [text.replace("\xa0", " ") for text in options.all_text_contents()]


class LabExplorer:
    """One explorer on the page: its sliders and lists, and the picture that is seen now."""

    def __init__(self, page: Page, panel: Locator):
        self.page = page
        self.panel = panel

    @property
    def seen(self) -> Locator:
        """The figure that is seen."""
        return self.panel.locator("figure[data-position]:visible")

    def position(self) -> dict[str, str]:
        """What the picture says of itself: the name of each control and how its position reads."""
        return dict(part.split("=", 1) for part in self.seen.get_attribute("data-position").split("; "))

    def read_outs(self) -> list[str]:
        """What the list beside each slider shows."""
        return _words(self.panel.locator("select option:checked"))

    def texts(self, control: int) -> list[str]:
        """How each position of a control reads, in the list beside its slider."""
        return _words(self.panel.locator("select").nth(control).locator("option"))

    def shows(self, frame: str) -> bool:
        """Whether the figure that is seen is `frame`, an element as HTML, to the last mark."""
        return self.seen.evaluate(
            """(seen, frame) => {
                const template = document.createElement('template');
                template.innerHTML = frame;
                return template.content.firstElementChild.isEqualNode(seen);
            }""",
            frame,
        )

    @property
    def is_live(self) -> bool:
        """Whether the kernel draws each picture when it is asked for."""
        return "quantlab-live" in self.panel.get_attribute("class")

    def says_that_its_kernel_is_gone(self) -> bool:
        return "run this cell again" in self.panel.evaluate("panel => getComputedStyle(panel, '::before').content")

    def cut_labels(self) -> list[str]:
        """The names of controls that do not fit into their place."""
        cut = "all => all.filter(l => l.scrollWidth > l.clientWidth).map(l => l.textContent)"
        return self.panel.locator("label.widget-label").evaluate_all(cut)

    def wait_until_settled(self) -> None:
        """Wait until the one picture that is seen belongs to what the lists show."""
        self.page.wait_for_function(_IS_SETTLED, arg=self.panel.element_handle(), timeout=PATIENCE)

    @contextlib.contextmanager
    def watched(self):
        """While this is open, note in every frame that the browser paints what is seen; yield the list of it."""
        seen: list = []
        self.panel.evaluate(_WATCH)
        try:
            yield seen
        finally:
            seen.extend(self.panel.evaluate("panel => panel.stopWatching()"))

    def slider(self, control: int) -> Locator:
        return self.panel.locator(".noUi-target").nth(control)

    def drag(self, control: int, fraction: float) -> None:
        """Drag the slider of a control with the mouse to a fraction of its length."""
        left, length, middle = grab(self.slider(control))
        self.page.mouse.move(left + length * fraction, middle, steps=12)
        self.page.mouse.up()
        self.wait_until_settled()

    def press(self, control: int, key: str) -> None:
        """Press a key with the focus on the slider of a control."""
        self.panel.locator(".noUi-handle").nth(control).focus()
        self.page.keyboard.press(key)
        self.wait_until_settled()

    def press_on_list(self, control: int, key: str) -> None:
        """Press a key with the focus on the list beside the slider."""
        self.panel.locator("select").nth(control).focus()
        self.page.keyboard.press(key)
        self.wait_until_settled()

    def type(self, control: int, text: str) -> None:
        """Type with the focus on the list beside the slider, which goes to the entry that begins so."""
        self.panel.locator("select").nth(control).focus()
        self.page.keyboard.type(text)
        self.wait_until_settled()

    def choose(self, control: int, text: str) -> None:
        """Choose an entry of the list beside the slider."""
        self.panel.locator("select").nth(control).select_option(label=text)
        self.wait_until_settled()

    def tab_stops(self) -> list[str]:
        """What the Tab key reaches in the panel, from its first list on: "list NAME" or "slider NAME"."""
        self.panel.locator("select").first.focus()
        stops = []
        while name := self.panel.evaluate(_FOCUS):
            stops.append(name)
            self.page.keyboard.press("Tab")
        return stops

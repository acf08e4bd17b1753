"""A real JupyterLab in a real browser, for tests: start it, open a notebook, work in it as a learner does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import course
from playwright.sync_api import Locator, Page

TOKEN = "quantlab"
_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
    # Without this, typing ( in a cell also types ), which is not what the test wants to type.
    "@jupyterlab/codemirror-extension:plugin": {"defaultConfig": {"autoClosingBrackets": False}},
}
_BUSY_CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code' && cell.model.executionState !== 'idle').length"""


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
        self.problems: list[str] = []  # what the browser's console and the page itself complain of
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda m: self.problems.append(m.text) if m.type == "error" else None)
        page.goto(f"{address}/doc/tree/{name}.ipynb?token={TOKEN}&reset")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        page.wait_for_function(
            "window.jupyterapp.shell.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )

    def run_all(self) -> None:
        """Run every cell and wait until all are done."""
        self.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.page.wait_for_function(f"({_BUSY_CELLS})() === 0", timeout=120_000)

    def cell_errors(self) -> list[str]:
        shown = self.page.locator(
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error'], .jp-mod-error"
        )
        return shown.all_inner_texts()

    def explorers(self) -> list[LabExplorer]:
        return [LabExplorer(self.page, panel) for panel in self.page.locator(".quantlab-explorer").all()]

    def cell_with(self, text: str) -> Locator:
        """The code cell whose source holds `text`."""
        index = self.page.evaluate(
            "text => window.jupyterapp.shell.currentWidget.content.widgets"
            ".findIndex(cell => cell.model.type === 'code' && cell.model.sharedModel.source.includes(text))",
            text,
        )
        assert index >= 0, f"no cell holds {text!r}"
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def type_and_run(self, cell: Locator, source: str) -> str:
        """Replace what is in `cell` by typing `source`, run it with Shift+Enter, return what it shows."""
        editor = cell.locator(".cm-content")
        editor.click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.press("Delete")
        self.page.keyboard.insert_text(source)
        before = cell.locator(".jp-InputPrompt").first.inner_text()
        self.page.keyboard.press("Shift+Enter")
        prompt = cell.locator(".jp-InputPrompt").first
        for _ in range(300):
            if re.search(r"\d", prompt.inner_text()) and prompt.inner_text() != before:
                break
            self.page.wait_for_timeout(100)
        self.page.wait_for_function(f"({_BUSY_CELLS})() === 0", timeout=60_000)
        return cell.locator(".jp-OutputArea").first.inner_text()


class LabExplorer:
    """One explorer on the page: its sliders and lists, and the picture that is seen now."""

    def __init__(self, page: Page, panel: Locator):
        self.page = page
        self.panel = panel

    @property
    def _seen(self) -> Locator:
        return self.panel.locator("figure[data-position]:visible")

    def position(self) -> dict[str, str]:
        """What the picture says of itself: the name of each control and how its position reads."""
        return dict(part.split("=", 1) for part in self._seen.get_attribute("data-position").split("; "))

    def sentence(self) -> str:
        return self._seen.locator("figcaption").inner_text()

    def read_outs(self) -> list[str]:
        """What the list beside each slider shows."""
        shown = self.panel.locator("select").evaluate_all("all => all.map(s => s.selectedOptions[0].text)")
        return [text.replace("\xa0", " ") for text in shown]  # ipywidgets keeps the words of an option together

    def cut_labels(self) -> list[str]:
        """The names of controls that do not fit into their place."""
        cut = "all => all.filter(l => l.scrollWidth > l.clientWidth).map(l => l.textContent)"
        return self.panel.locator("label.widget-label").evaluate_all(cut)

    def wait_until_settled(self) -> None:
        """Wait until the one picture that is seen belongs to what the lists show."""
        for _ in range(100):
            if self._seen.count() == 1 and list(self.position().values()) == self.read_outs():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"picture and controls do not agree: {self.read_outs()}, {self._seen.count()} pictures")

    def drag(self, control: int, fraction: float) -> None:
        """Drag the slider of a control with the mouse to a fraction of its length."""
        slider = self.panel.locator(".noUi-target").nth(control)
        slider.scroll_into_view_if_needed()
        bar, handle = slider.bounding_box(), slider.locator(".noUi-handle").bounding_box()
        middle = handle["y"] + handle["height"] / 2
        self.page.mouse.move(handle["x"] + handle["width"] / 2, middle)
        self.page.mouse.down()
        self.page.mouse.move(bar["x"] + bar["width"] * fraction, middle, steps=12)
        self.page.mouse.up()
        self.wait_until_settled()

    def press(self, control: int, key: str) -> None:
        """Press a key with the focus on the slider of a control."""
        self.panel.locator(".noUi-handle").nth(control).focus()
        self.page.keyboard.press(key)
        self.wait_until_settled()

    def choose(self, control: int, text: str) -> None:
        """Choose an entry of the list beside the slider."""
        self.panel.locator("select").nth(control).select_option(label=text)
        self.wait_until_settled()

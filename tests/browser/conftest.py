"""Fixtures of the browser tests: one JupyterLab and one browser for all tests that a worker runs."""

import os

import pytest
from jupyterlab_driver import LabNotebook, find_browser, serve
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="session")
def lab_home(tmp_path_factory):
    """The folder in which JupyterLab has everything; its notebooks are in `notebooks`."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def browser():
    path = find_browser()
    if path is None:
        complaint = "no Chromium found: install one, or name it in QUANTLAB_CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(complaint)
        pytest.skip(complaint)
    # Without a sandbox, since containers run as root; no calls home while testing.
    quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=quiet)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def open_notebook(browser, lab_home):
    """A function that opens a notebook by name in JupyterLab and, if not told otherwise, runs it."""
    with serve(lab_home) as address:

        def open_one(name: str, *, run: bool = True) -> LabNotebook:
            notebook = LabNotebook(browser.new_page(viewport={"width": 1200, "height": 1000}), address, name)
            if run:
                notebook.run_all()
            return notebook

        yield open_one

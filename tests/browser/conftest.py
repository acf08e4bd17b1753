"""Fixtures of the browser tests: one JupyterLab and one browser for all tests of a file."""

import os

import pytest
from jupyterlab_driver import LabNotebook, find_browser, serve
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="module")
def lab_address(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("lab")) as address:
        yield address


@pytest.fixture(scope="module")
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


@pytest.fixture
def open_notebook(browser, lab_address):
    """A function that opens a notebook by name in JupyterLab; its page is closed after the test."""
    pages = []

    def open_one(name: str) -> LabNotebook:
        pages.append(browser.new_page(viewport={"width": 1200, "height": 1000}))
        return LabNotebook(pages[-1], lab_address, name)

    yield open_one
    for page in pages:
        page.close()

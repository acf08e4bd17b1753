"""Take the README's picture anew: the first lesson in a real JupyterLab, its sliders moved.

    python tools/take_screenshot.py

Needs a Chromium, as the browser tests do; it works on copies of the notebooks.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "browser")]

from jupyterlab_driver import LabNotebook, find_browser, serve  # noqa: E402 (the tests are no package)

PICTURE = ROOT / "notebooks" / "images" / "lesson.png"


def main() -> None:
    with tempfile.TemporaryDirectory() as home, serve(Path(home)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 860})
        notebook = LabNotebook(page, address, "01_float32_to_int8")
        notebook.run_all()
        buckets = notebook.explorers()[1]
        buckets.choose(1, "60% of max")
        page.evaluate("document.activeElement.blur()")
        # The section's heading at the top, then the explorer.
        page.get_by_role("heading", name="Rounding against clipping").evaluate("heading => heading.scrollIntoView()")
        page.wait_for_timeout(500)
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()

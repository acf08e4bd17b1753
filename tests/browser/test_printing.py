"""The page to print is one page, on A4 and on US letter."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from quantlab_helpers import Table, summary_page


def typical_page():
    """Three tables, a figure and three paragraphs."""
    table = Table(["recipe", "MB", "tokens/s", "KL"], [[f"recipe {i}", "0.8", "5,000", "0.001"] for i in range(6)])
    figure, axes = plt.subplots(figsize=(7.2, 2.6))
    axes.plot(np.arange(10))
    plt.close(figure)
    text = "A sentence that says something about a measurement, and what follows from it. " * 3
    return summary_page("int8 or int4?", {"A": [text, table], "B": [text, figure, table], "C": [table, text]})


@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_a_typical_page_is_one_page(tmp_path, browser, paper):
    path = typical_page().save(tmp_path / "page.html")
    page = browser.new_page()
    page.goto(path.as_uri())
    pdf = page.pdf(format=paper)
    page.close()
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1

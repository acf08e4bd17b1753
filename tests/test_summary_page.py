"""The page to print: what is on it, that it overwrites nothing."""

import matplotlib.pyplot as plt
import pytest

from quantlab_helpers import Table, summary_page
from quantlab_helpers.messages import Message


def test_everything_is_on_it_and_nothing_comes_from_elsewhere(tmp_path):
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    table = Table(["format", "MB"], [["int8", "1.2"]])
    sections = {"Text": "a < b\n\nnext", "Table": table, "Both": [Message("good", "done"), figure]}
    page = summary_page("int8 & int4", sections).save(tmp_path / "page.html").read_text(encoding="utf-8")
    plt.close(figure)
    for part in ("<h1>int8 &amp; int4</h1>", "<p>a &lt; b</p><p>next</p>", "int8</td>", "done", 'role="img"'):
        assert part in page
    for outside in ("src=", "<link", "<script", "url("):
        assert outside not in page.replace("url(#", "")  # clip paths of the figure's own


def test_a_file_that_is_there_stays(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"page\.html is there already: choose another name"):
        summary_page("t", {}).save(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "error", "told"),
    [
        ("page.pdf", ValueError, r"path must end in \.html, not 'page\.pdf'"),
        (3, TypeError, r"path must be the name of a file that ends in \.html, not 3"),
        ("no such/page.html", FileNotFoundError, r"path must lie in a folder that is there, but there is no .*no such"),
    ],
)
def test_another_path_is_refused(path, error, told):
    with pytest.raises(error, match=told):
        summary_page("t", {}).save(path)


def test_other_content_is_refused():
    with pytest.raises(TypeError, match=r"sections must hold texts, tables or figures, but under 'x' is 3"):
        summary_page("t", {"x": 3})

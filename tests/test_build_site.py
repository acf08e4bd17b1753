"""The tool that builds the website: which files become which pages, and what it refuses. Its pages: tests/browser."""

import base64
import copy
import hashlib
import io
import re
import subprocess
import tarfile
from pathlib import Path

import build_site
import course
import nbformat
import pytest


@pytest.fixture
def small_course(tmp_path, monkeypatch):
    """A function that writes a course of one notebook without code (and no libraries), and builds its website."""
    monkeypatch.setattr(build_site, "LIBRARIES", {})
    root, folder = tmp_path / "course", tmp_path / "site"
    (root / "notebooks").mkdir(parents=True)

    def build(*cells, readme="# A course\n\n[Begin](notebooks/00_one.ipynb)", **options):
        (root / "README.md").write_text(readme, encoding="utf-8")
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(cell) for cell in cells])
        nbformat.write(notebook, root / "notebooks" / "00_one.ipynb")
        build_site.build(folder, root=root, **options)
        return folder

    build.root = root
    return build


def _links(page):
    return re.findall(r'<a href="([^"]+)">', page.read_text(encoding="utf-8").partition("<main")[2])


def test_emphasis_in_a_title_is_left_out_of_the_contents(small_course):
    page = (small_course("# For *your* device?") / "index.html").read_text(encoding="utf-8")
    assert "For your device?" in page and "*your*" not in page


def test_notebooks_and_markdown_become_pages_and_links_lead_to_them(small_course):
    (small_course.root / "data").mkdir()
    (small_course.root / "data" / "README.md").write_text("# The data\n\n[Licence](LICENSE.txt)", encoding="utf-8")
    (small_course.root / "data" / "LICENSE.txt").write_text("free", encoding="utf-8")
    text = "[card](../data/README.md), [here](#Two-·-words), [there](00_one.ipynb#Two-·-words), [web](https://a.b/c.md)"
    folder = small_course("# One\n\n## Two · words", text)
    assert _links(folder / "index.html") == ["notebooks/00_one.html"]
    assert _links(folder / "notebooks" / "00_one.html")[1:] == [
        "../data/README.html",
        "#Two-%C2%B7-words",
        "00_one.html#Two-%C2%B7-words",
        "https://a.b/c.md",
    ]
    assert _links(folder / "data" / "README.html") == ["LICENSE.txt"]
    assert (folder / "data" / "LICENSE.txt").read_text(encoding="utf-8") == "free"


def test_the_map_names_every_page_and_the_sections_of_this_one(small_course):
    page = small_course("# One\n\n## A *section*").joinpath("notebooks", "00_one.html").read_text(encoding="utf-8")
    contents = page.partition("</nav>")[0]
    assert '<a href="../index.html">A course</a>' in contents
    assert '<a aria-current="page" href="#main">One</a>' in contents
    assert '<a href="#A-section">A <em>section</em></a>' in contents


def test_only_pages_with_formulas_load_what_shows_them(small_course):
    folder = small_course("# One\n\nCosts `$5`.", readme="# A course\n\nThe scale $s$.")
    assert "katex" in (folder / "index.html").read_text(encoding="utf-8")
    assert "katex" not in (folder / "notebooks" / "00_one.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "cell, complaint",
    [
        ("[gone](02_gone.ipynb)", "there is no notebooks/02_gone.ipynb"),
        ("![gone](images/gone.png)", "there is no notebooks/images/gone.png"),
        ("[outside](../../secret.txt)", r"there is no \.\./secret.txt"),
        ("[gone](#No-heading)", "notebooks/00_one.ipynb has no #No-heading"),
    ],
)
def test_a_link_that_leads_nowhere(small_course, cell, complaint):
    (small_course.root.parent / "secret.txt").write_text("secret")
    with pytest.raises(ValueError, match=f"^notebooks/00_one.ipynb must lead .*{complaint}$"):
        small_course("# One", cell)
    assert not (small_course.root.parent / "site").exists()


def test_a_folder_with_something_in_it(small_course, tmp_path, capsys):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="site must be a new or an empty folder: remove it, or name another"):
        small_course("# One")
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["thesis.txt"]
    with pytest.raises(SystemExit):
        build_site.main([str(tmp_path / "site")])
    assert "must be a new or an empty folder" in capsys.readouterr().err


def test_a_notebook_that_is_not_there(small_course):
    with pytest.raises(ValueError, match="there is no notebook 07_gone in"):
        small_course("# One", run_only=["07_gone"])


def test_nothing_is_written_beside_the_notebooks(small_course):
    small_course("# One")
    assert sorted(path.name for path in small_course.root.rglob("*")) == ["00_one.ipynb", "README.md", "notebooks"]


def test_a_notebook_whose_outputs_were_cleared(small_course):
    small_course("# One")
    page = build_site.Page(small_course.root, "notebooks/00_one.ipynb")
    page.notebook.cells.append(nbformat.v4.new_code_cell("1"))
    fresh = copy.deepcopy(page.notebook)
    page.enliven(fresh)
    fresh.cells[-1].outputs.append(nbformat.v4.new_output("stream", text="1"))
    with pytest.raises(ValueError, match=r"must hold .* `python tools/refresh_outputs.py notebooks/00_one.ipynb`"):
        page.enliven(fresh)
    page.notebook.cells[-1].metadata.tags = ["nbval-ignore-output"]
    page.enliven(fresh)


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Plays the part of npm, which gives out `npm.packed`, or else fails; the cache is empty."""
    monkeypatch.setenv("QUANTLAB_CACHE", str(tmp_path / "cache"))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in {"package/dist/small.js": b"small()", "package/README.md": b"#"}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

    def run(command, **_):
        if not run.packed:
            return subprocess.CompletedProcess(command, 1, "", "npm error: no connection\n")
        assert command[1:3] == ["pack", "@a/small@1.0.0"]
        Path(command[-1], "a-small-1.0.0.tgz").write_bytes(run.packed)
        return subprocess.CompletedProcess(command, 0)

    run.packed = packed.getvalue()
    digest = base64.b64encode(hashlib.sha512(run.packed).digest()).decode()
    run.library = build_site.Library("@a/small@1.0.0", digest, r"dist/.*\.js")
    monkeypatch.setattr(build_site.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(build_site.subprocess, "run", run)
    return run


def test_a_library_is_downloaded_once(npm, tmp_path):
    assert build_site.library_files(npm.library) == {"dist/small.js": b"small()"}
    npm.packed = None
    assert build_site.library_files(npm.library) == {"dist/small.js": b"small()"}
    assert [kept.name for kept in (tmp_path / "cache").iterdir()] == ["a-small-1.0.0.tgz"]


def test_a_damaged_library_in_the_cache_is_replaced(npm, tmp_path):
    build_site.library_files(npm.library)
    (tmp_path / "cache" / "a-small-1.0.0.tgz").write_bytes(b"half")
    assert build_site.library_files(npm.library) == {"dist/small.js": b"small()"}


@pytest.mark.parametrize(
    "packed, reason", [(b"another file", "has not the SHA-512"), (None, "npm error: no connection")]
)
def test_what_is_not_the_library_is_refused(npm, tmp_path, packed, reason):
    npm.packed = packed
    with pytest.raises(ConnectionError, match=rf"needs @a/small@1\.0\.0 from npm: .*{reason}"):
        build_site.library_files(npm.library)
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_npm_the_message_says_what_to_do(npm, monkeypatch):
    monkeypatch.setattr(build_site.shutil, "which", lambda _: None)
    by_hand = (
        r"there is no npm\n.*Node\.js.*\n    npm pack @a/small@1\.0\.0\nthen put a-small-1\.0\.0\.tgz into .*cache"
    )
    with pytest.raises(ConnectionError, match=by_hand):
        build_site.library_files(npm.library)


def test_every_page_of_the_course_leads_somewhere():
    names = ["README.md", *(f"notebooks/{path.name}" for path in course.NOTEBOOKS)]
    pages, others = build_site.collect(course.FOLDER.parent, names)
    assert set(names) < set(pages)
    assert "quantlab_helpers/data/README.md" in pages
    assert "notebooks/images/lesson.png" in others

"""Build the course as a website: static pages that need no kernel, no server and no connection.

    python tools/build_site.py site                 # all notebooks, into the new folder `site`
    python tools/build_site.py site 01_float32_to_int8   # only this one is run: quicker, for a look at one page

Then open `site/index.html`. Texts, figures and numbers are those that the repository stores, which the tests compare.
The notebooks run only to get the state of their explorers, whose sliders then work in the browser (one that shows what
it measured on this computer says so). An explorer with too many positions for that stays a picture, as do those of
notebooks that are not run.

Two JavaScript libraries come from npm, which must be there the first time; they are kept in the course's cache folder.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import itertools
import os
import posixpath
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, unquote

import nbformat
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter
from refresh_outputs import NOTEBOOKS, WIDGET, run
from tqdm import tqdm

from quantlab_helpers import local_files

ROOT = NOTEBOOKS.parent
TEMPLATE = Path(__file__).resolve().parent / "website"
STATE = "application/vnd.jupyter.widget-state+json"


@dataclass(frozen=True)
class Library:
    """A package of npm, the SHA-512 that npm states for it, and which of its files the pages need."""

    package: str
    sha512: str  # base64, as npm writes it
    files: str  # a regular expression

    @property
    def file(self) -> str:
        """The name that npm gives the package as a file."""
        return re.sub("[/@]", "-", self.package.removeprefix("@")) + ".tgz"


LIBRARIES = {
    "html-manager": Library(  # the widgets of the explorers
        "@jupyter-widgets/html-manager@1.0.15",
        "5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvFi//SABeNz1yp47bCrJ3CQA==",
        r"dist/(embed\.js|embed\.js\.LICENSE\.txt)",
    ),
    "katex": Library(  # the formulas
        "katex@0.19.1",
        "jG8uKntjSEcm2EpQOh0XturpPuuC9r3Sq5HLHdsFdWZT27E672SF19QEi+of0/YeOy15lDgRhKvr5614uRrEfA==",
        r"dist/(katex\.min\.(js|css)|contrib/auto-render\.min\.js|fonts/.*\.woff2)|LICENSE",
    ),
}


class Page:
    """A notebook or a Markdown file of the course that becomes a page; `name` is its path in the course, with /."""

    def __init__(self, root: Path, name: str):
        self.name = name
        self.is_notebook = name.endswith(".ipynb")
        if self.is_notebook:
            self.notebook = nbformat.read(root / name, as_version=4)
        else:
            cell = nbformat.v4.new_markdown_cell((root / name).read_text(encoding="utf-8"))
            self.notebook = nbformat.v4.new_notebook(cells=[cell])
        self.previous = self.next = None

    @property
    def address(self) -> str:
        return "index.html" if self.name == "README.md" else str(Path(self.name).with_suffix(".html").as_posix())

    @property
    def up(self) -> str:
        """The way from the page to the website's own folder."""
        return "../" * self.name.count("/")

    @cached_property
    def text(self) -> str:
        """What the Markdown cells say, as HTML."""
        return "\n".join(markdown2html(cell.source) for cell in self.notebook.cells if cell.cell_type == "markdown")

    @property
    def title(self) -> str:
        heading = re.search(r"^# (.+)$", self.notebook.cells[0].source, re.MULTILINE)[1]
        return heading.replace("*", "")  # a list of contents has no room for emphasis

    @property
    def sections(self) -> list[tuple[str, str]]:
        """The anchor and the words of each heading of the second level."""
        return re.findall(r'<h2 id="([^"]+)">(.+?)<a class="anchor-link"', self.text)

    @property
    def anchors(self) -> set[str]:
        return {unquote(html.unescape(name)) for name in re.findall(r' id="([^"]+)"', self.text)}

    @property
    def has_math(self) -> bool:
        return "$" in re.sub(r"<code>.*?</code>", "", self.text)

    @property
    def is_alive(self) -> bool:
        return STATE in self.notebook.metadata.get("widgets", {})

    def links(self) -> Iterator[tuple[str, str]]:
        """The file of the course (its path, with /) and the anchor to which each link and each image leads."""
        for target in re.findall(r' (?:href|src)="([^"]+)"', self.text):
            if not _leads_outside(target):
                yield self._split(target)

    def _split(self, target: str) -> tuple[str, str]:
        file, _, anchor = unquote(html.unescape(target)).partition("#")
        folder = posixpath.dirname(self.name)
        return posixpath.normpath(posixpath.join(folder, file)) if file else self.name, anchor

    def with_links_to_pages(self, text: str, pages: Collection[str]) -> str:
        """Let the links in `text` lead to the pages that the files become."""

        def changed(match):
            attribute, target = match.groups()
            if _leads_outside(target) or target.startswith("#") or self._split(target)[0] not in pages:
                return match[0]
            name, anchor = self._split(target)
            address = posixpath.relpath(pages[name].address, posixpath.dirname(self.name) or ".")
            # nbconvert escapes the anchors of headings, too: all but these characters.
            fragment = "#" + quote(anchor, safe="?/:@!$&'()*+,;=") if anchor else ""
            return f' {attribute}="{html.escape(quote(address) + fragment)}"'

        return re.sub(r' (href|src)="([^"]+)"', changed, text)

    def enliven(self, fresh) -> None:
        """Take over from the notebook as it was just run the explorers that work without a kernel."""
        models = fresh.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
        for cell, cell_now in zip(self.notebook.cells, fresh.cells, strict=True):
            outputs, outputs_now = cell.get("outputs", []), cell_now.get("outputs", [])
            if len(outputs) != len(outputs_now) and "nbval-ignore-output" not in cell.metadata.get("tags", []):
                raise ValueError(
                    f"{self.name} must hold the outputs of its cells, which are not those that it gives now: "
                    f"store them with `python tools/refresh_outputs.py {self.name}`"
                )
            for output, output_now in zip(outputs, outputs_now, strict=False):
                view = output_now.get("data", {}).get(WIDGET)
                if view and "quantlab-precomputed" in models[view["model_id"]]["state"].get("_dom_classes", ()):
                    output.data[WIDGET] = view
                    self.notebook.metadata.widgets = fresh.metadata.widgets


def _leads_outside(target: str) -> bool:
    return re.match(r"[a-z]+:", target) is not None


def build(folder: Path, *, root: Path = ROOT, run_only: Collection[str] | None = None) -> None:
    """Write the website of the course in `root` into the new or empty `folder`.

    run_only  the names of the notebooks to run (without the ending); None for all
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} must be a new or an empty folder: remove it, or name another")
    notebooks = [f"notebooks/{path.name}" for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))]
    if unknown := set(run_only or ()) - {Path(name).stem for name in notebooks}:
        raise ValueError(f"there is no notebook {', '.join(sorted(unknown))} in {root / 'notebooks'}")
    libraries = {name: library_files(library) for name, library in tqdm(LIBRARIES.items(), desc="Libraries")}
    pages, others = collect(root, ["README.md", *notebooks])
    for name in tqdm(notebooks, unit="notebook", desc="Running"):
        if run_only is None or Path(name).stem in run_only:
            pages[name].enliven(run(root / name))
    contents = [pages[name] for name in ["README.md", *notebooks]]
    for before, after in itertools.pairwise(contents):
        before.next, after.previous = after, before

    for page in pages.values():
        _write(folder / page.address, _html(page, pages, contents).encode())
    for name in others:
        _write(folder / name, (root / name).read_bytes())
    for library, files in libraries.items():
        for name, content in files.items():
            _write(folder / "libraries" / library / name, content)
    colours = HtmlFormatter().get_style_defs(".highlight")
    _write(folder / "style.css", f"{colours}\n{(TEMPLATE / 'style.css').read_text(encoding='utf-8')}".encode())


def collect(root: Path, names: list[str]) -> tuple[dict[str, Page], set[str]]:
    """The pages `names` and all to which they lead, by name; and the other files to which they lead."""
    pages, others, waiting = {}, set(), list(names)
    while waiting:
        name = waiting.pop(0)
        pages[name] = page = Page(root, name)
        for target, _ in page.links():
            if target.startswith("../") or not (root / target).is_file():
                raise ValueError(f"{name} must lead to files of the course, but there is no {target}")
            if not target.endswith((".ipynb", ".md")):
                others.add(target)
            elif target not in pages and target not in waiting:
                waiting.append(target)
    for page in pages.values():
        for target, anchor in page.links():
            if anchor and target in pages and anchor not in pages[target].anchors:
                raise ValueError(f"{page.name} must lead to a heading, but {target} has no #{anchor}")
    return pages, others


def _html(page: Page, pages: dict[str, Page], contents: list[Page]) -> str:
    exporter = HTMLExporter(template_name=TEMPLATE.name, extra_template_basedirs=[str(TEMPLATE.parent)])
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    exporter.register_filter("local_links", lambda text: page.with_links_to_pages(text, pages))
    exporter.environment.globals.update(page=page, contents=contents)
    return exporter.from_notebook_node(page.notebook)[0]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def library_files(library: Library) -> dict[str, bytes]:
    """The files of `library` that the pages need, by their names in it; downloaded if they are not in the cache."""
    kept = local_files.cache() / library.file
    if not (kept.is_file() and _is_whole(kept, library)):
        _download(library, kept)
    with tarfile.open(kept) as archive:
        members = {member.name.removeprefix("package/"): member for member in archive}
        wanted = {name: member for name, member in members.items() if re.fullmatch(library.files, name)}
        return {name: archive.extractfile(member).read() for name, member in wanted.items()}


def _download(library: Library, kept: Path) -> None:
    """Let npm, which knows the user's registry and proxy, fetch the package; it gets its name when it is whole."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        _npm_pack(library, folder)
        if not _is_whole(Path(folder, library.file), library):
            raise _failure(library, f"what came has not the SHA-512 {library.sha512}")
        os.replace(Path(folder, library.file), kept)


def _npm_pack(library: Library, folder: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise _failure(library, "there is no npm")
    command = [npm, "pack", library.package, "--pack-destination", folder]
    npm_says = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    if npm_says.returncode:
        raise _failure(library, npm_says.stderr.strip())


def _failure(library: Library, reason: str) -> ConnectionError:
    return ConnectionError(
        f"the website needs {library.package} from npm: {reason}\n"
        "With npm, which is a part of Node.js, and a connection, run this again. By hand, on any computer:\n"
        f"    npm pack {library.package}\n"
        f"then put {library.file} into the folder {local_files.cache()}."
    )


def _is_whole(file: Path, library: Library) -> bool:
    return base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode() == library.sha512


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Build the course as a website that needs no kernel.")
    parser.add_argument("folder", type=Path, help="where to: a new or an empty folder")
    parser.add_argument("only", nargs="*", help="run only these notebooks; the explorers of the others stay pictures")
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the same sums as in the tests
    try:
        build(chosen.folder, run_only=[Path(name).stem for name in chosen.only] or None)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"Open {chosen.folder / 'index.html'} in a browser.")


if __name__ == "__main__":
    main()

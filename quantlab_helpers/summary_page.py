"""One page to print: what a learner measured, in a file that needs nothing else."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from . import style
from .validation import new_file

_STYLE = f"""
@page {{ size: A4; margin: 12mm }}
body {{ font: 9.5pt/1.25 system-ui, sans-serif; color: {style.INK}; max-width: 186mm; margin: 8mm auto }}
h1 {{ font-size: 16pt; margin: 0 0 2mm }} h2 {{ font-size: 11pt; margin: 2.5mm 0 0.5mm }} p {{ margin: 1mm 0 }}
section {{ break-inside: avoid }} table {{ border-collapse: collapse; font-size: 8.5pt }}
th, td {{ padding: 0.3mm 3mm 0.3mm 0; border-bottom: 0.2mm solid {style.FAINT} }}
svg {{ max-width: 100%; height: auto }}
footer {{ margin-top: 2mm; font-size: 8pt }}
@media print {{ body {{ margin: 0 }} }}
"""


@dataclass(frozen=True)
class SummaryPage:
    """A page that shows itself in a notebook; `save` writes it to a file, to be opened in a browser and printed."""

    title: str
    body: str  # HTML

    def save(self, path) -> Path:
        """Write the page to a new .html file and return its path.

        Raises FileExistsError for a file that is there already, FileNotFoundError for a folder that is not, and
        ValueError or TypeError for another ending.
        """
        path = new_file(path, "path", (".html",))
        head = f'<meta charset="utf-8"><title>{html.escape(self.title)}</title><style>{_STYLE}</style>'
        page = f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{self.body}\n</body></html>\n'
        with open(path, "x", encoding="utf-8") as file:
            file.write(page)
        return path.absolute()

    def __repr__(self):
        return f"SummaryPage {self.title!r}: .save('my-summary.html') writes it to a file"

    def _repr_html_(self):
        return f'<div style="border:1px solid {style.FAINT};padding:0 12px 8px;max-width:46em">{self.body}</div>'


def summary_page(title: str, sections: Mapping[str, object]) -> SummaryPage:
    """Put what was measured on one page.

    sections  heading -> what stands below: a text, in which an empty line parts paragraphs; a Matplotlib figure; or
              whatever shows itself as HTML in a notebook, such as a Table. A list stands for several of these

    Raises TypeError for anything else.

    >>> summary_page("int8 or int4?", {"Decision": "int8."})
    SummaryPage 'int8 or int4?': .save('my-summary.html') writes it to a file
    """
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for heading, content in sections.items():
        several = content if isinstance(content, list) else [content]
        inner = "".join(_as_html(part, heading) for part in several)
        parts.append(f"<section><h2>{html.escape(heading)}</h2>{inner}</section>")
    parts.append(f"<footer>Measured with QuantLab, {date.today().isoformat()}</footer>")
    return SummaryPage(title, "\n".join(parts))


def _as_html(content, heading: str) -> str:
    if isinstance(content, str):
        return "".join(f"<p>{html.escape(part)}</p>" for part in content.split("\n\n") if part.strip())
    if hasattr(content, "savefig"):
        file = io.StringIO()
        content.savefig(file, format="svg")
        svg = file.getvalue()
        return svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{html.escape(heading)}"', 1)
    if hasattr(content, "_repr_html_"):
        return content._repr_html_()
    raise TypeError(f"sections must hold texts, tables or figures, but under {heading!r} is {content!r}")

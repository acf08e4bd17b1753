"""A small table that reads well in a notebook (HTML), in a terminal and in a test (plain text)."""

from __future__ import annotations

import html
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of values under headers; the first column is text, the others are set to the right.

    Values that are not strings are shown with `str`: format numbers before you put them in.

    >>> Table(["bits", "SQNR (dB)"], [["8", 40.5], ["4", 16.6]])
    bits  SQNR (dB)
    ----  ---------
    8          40.5
    4          16.6
    """

    headers: list[str]
    rows: list[list]
    caption: str = ""

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ValueError(f"each row needs {len(self.headers)} values, one for each header, but got {row}")

    def __repr__(self):
        cells = [[str(value) for value in row] for row in [self.headers, *self.rows]]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        cells.insert(1, ["-" * width for width in widths])
        lines = [
            "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
            for row in cells
        ]
        return "\n".join([*([self.caption] if self.caption else []), *(line.rstrip() for line in lines)])

    def _repr_html_(self):
        def line(tag, row):
            cells = (
                f'<{tag} style="text-align:{"right" if i else "left"}">{html.escape(str(value))}</{tag}>'
                for i, value in enumerate(row)
            )
            return f"<tr>{''.join(cells)}</tr>"

        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        body = "".join(line("td", row) for row in self.rows)
        return f"<table>{caption}<thead>{line('th', self.headers)}</thead><tbody>{body}</tbody></table>"

"""What the course says to a learner: one short message with a sign, as a coloured box or as plain text."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from . import style

# The sign comes first, so that nobody needs to see the colour.
_SIGNS = {"good": ("✓", style.GOOD), "hint": ("✗", style.ERROR), "note": ("○", style.ORIGINAL)}


@dataclass(frozen=True)
class Message:
    """A message of one `kind` ("good", "hint" or "note"): a title, then lines. `Code` goes in backticks."""

    kind: str
    title: str
    lines: tuple[str, ...] = ()

    def __repr__(self):
        sign, _ = _SIGNS[self.kind]
        return "\n  ".join([f"{sign} {self.title}", *self.lines])

    def _repr_html_(self):
        sign, colour = _SIGNS[self.kind]
        title = f"<strong>{_marked_up(f'{sign} {self.title}')}</strong>"
        body = "<br>".join([title, *map(_marked_up, self.lines)])
        return (
            f'<div role="status" data-kind="{self.kind}" style="border-left:5px solid {colour};'
            f'padding:6px 12px;margin:4px 0;max-width:46em">{body}</div>'
        )


def _marked_up(text: str) -> str:
    """Escape `text` for HTML, keep its line breaks, and set what stands in backticks as code."""
    escaped = html.escape(text, quote=False).replace("\n", "<br>").replace("  ", "&nbsp; ")
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)

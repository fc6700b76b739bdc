"""Standard output and standard error: the one place where text is made safe for whoever reads it there."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from sim.errors import shown

_NOT_PLAIN = re.compile(r"[^\x20-\x7e\n]")


class Terminal(Console):
    """A console that obeys nothing in the text it prints: no escape sequence, no markup, no emoji code.

    Text comes from scenarios, data, file names and documents that somebody else may have written. Colours are the
    program's own: they are styles beside the text, which are turned into escape sequences after this.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, soft_wrap=soft_wrap, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments of text, each without what a terminal would obey."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_safe(segment.text), segment.style)


def print_json(document: str | object) -> None:
    """One JSON document on standard output, in ASCII: other characters are written as JSON's own escapes.

    `document` is JSON already, laid out in lines, or what the json module can write.
    """
    text = document if isinstance(document, str) else json.dumps(document, indent=2)
    sys.stdout.write(_NOT_PLAIN.sub(lambda found: json.dumps(found[0])[1:-1], text) + "\n")


def tolerate_any_text() -> None:
    """Text that a terminal's encoding lacks is written with escapes and never ends a command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _safe(text: str) -> str:
    return text if text.isprintable() else "\n".join(map(shown, text.split("\n")))

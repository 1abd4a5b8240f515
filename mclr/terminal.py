"""The last line of a terminal while it is redrawn; no other line ever stands behind it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

CLEAR = "\r\x1b[2K"
Tell = Callable[[str], None]
"""Takes what is done now, in a few words."""


class _LastLine:
    """What ends the line that standard error's cursor stands on; empty where it is clean."""

    end = ""


def redraw(text: str, stream: TextIO | None = None, *, stays: bool) -> None:
    """Show a text in place of the one that was redrawn last.

    The next ordinary line goes below a text that ``stays``, and takes the place of another one.
    """
    stream = stream or sys.stderr
    stream.write(CLEAR + text)
    stream.flush()
    _LastLine.end = "\n" if stays else CLEAR


def clean_line(stream: TextIO | None = None) -> None:
    """Have the cursor on a clean line, before an ordinary line and at the end."""
    if _LastLine.end:
        stream = stream or sys.stderr
        stream.write(_LastLine.end)
        stream.flush()
        _LastLine.end = ""


def silent(_: str) -> None:
    """Tells nobody."""


@contextmanager
def waiting(command: str) -> Iterator[Tell]:
    """A line ``command: what is done now`` on standard error, overwritten and at last removed.

    Where standard error is no terminal, nothing is written.
    """
    if not sys.stderr.isatty():
        yield silent
        return

    def tell(text: str) -> None:
        redraw(f"{command}: {text} …", stays=False)

    try:
        yield tell
    finally:
        clean_line()

"""What people see while a command of theirs computes: one line, on a terminal alone."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mclr.terminal import clean_line, redraw

Tell = Callable[[str], None]
"""Takes what is done now, in a few words."""


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


@contextmanager
def no_collection() -> Iterator[None]:
    """Do not look for cycles of objects meanwhile.

    Python looks through all that lives whenever much is made; of a tier's jobs all stay, so half
    of the time of planning them went there.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

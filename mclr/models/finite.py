"""Whether all numbers of an image are finite: noted where it is made, read when that costs no time.

A GPU computes a batch while the next one is made ready; to ask it for a number is to wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

from mclr.errors import UserError

NOT_FINITE = (
    "not finite (NaN or infinite numbers), so there is no image to show or to score; the weights "
    "are damaged or their training diverged: import or train them again. If they are sound, choose "
    "guidance and sampler nearer to the model's own, or float32 for precision and decoding"
)
_notes: ContextVar[list[Tensor] | None] = ContextVar("notes", default=None)


def note_finite(x: Tensor) -> None:
    """Note which rows of x (N, …), which become images, are finite in all numbers.

    Raises:
        UserError: some are not, and nobody is going to read the note (``noted``).
    """
    note_rows(x.detach().unsqueeze(1).flatten(1).isfinite().all(1))


def note_rows(finite: Tensor) -> None:
    """``note_finite`` of rows of which it is known: bool (N,), on any device."""
    notes = _notes.get()
    if notes is not None:
        notes.append(finite)
    elif not finite.all():
        raise UserError(f"{int((~finite).sum())} of {len(finite)} images are {NOT_FINITE}")


@contextmanager
def noted() -> Iterator[list[Tensor]]:
    """The notes that are taken until its end."""
    notes: list[Tensor] = []
    outer = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(outer)

"""Where the code of a family of one's own is; plans read this, so it does without torch."""

from __future__ import annotations

from pathlib import Path

from mclr.errors import UserError


def source_of(implementation: str) -> Path:
    """The file of ``path/to/file.py:Class``; UserError if there is none."""
    path, _, name = implementation.rpartition(":")
    if not name or not Path(path).is_file():
        raise UserError(
            f"implementation: {implementation!r}: expected path/to/file.py:Class, with a path "
            "from the folder in which Snakemake runs"
        )
    return Path(path)

"""Which kinds have code that their results were not confirmed with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mclr.files import write_json
from mclr.versions.digest import PACKAGE, Code
from mclr.versions.kinds import KINDS, matching
from mclr.versions.record import PLACE, Versions

READ = (f"{PACKAGE}/**/*.py", f"{PACKAGE}/**/*.j2", "workflow/*", "workflow/rules/*")
"""Patterns of all files that digests are taken over."""


def digests(root: Path) -> dict[str, str]:
    """The digest of every kind's code, in the checkout at ``root``."""
    code = Code(root)
    return {name: kind.digest(code) for name, kind in KINDS.items()}


def moved(versions: Versions, found: dict[str, str]) -> list[str]:
    """The kinds whose code is not that of the recorded digest, and kinds without a record."""
    return [k for k, d in found.items() if k not in versions.entries or versions.entries[k][1] != d]


def moved_since(root: Path, versions: Versions, memory: Path) -> list[str]:
    """The same, from ``memory`` if no file has been touched since it was written.

    Taking digests takes seconds, which is too long at every start of Snakemake.
    """
    stamp = _stamp(root)
    try:
        remembered = json.loads(memory.read_text(encoding="utf-8"))
        if remembered["stamp"] == stamp:
            return [str(kind) for kind in remembered["moved"]]
    except (OSError, ValueError, TypeError, KeyError):
        pass
    found = moved(versions, digests(root))
    write_json(memory, {"stamp": stamp, "moved": found})
    return found


def _stamp(root: Path) -> str:
    """Changes whenever one of the files is written."""
    stamp = hashlib.sha256()
    for pattern in READ:
        for path in sorted(p for p in root.glob(pattern) if p.is_file()):
            about = path.stat()
            stamp.update(f"{path.relative_to(root)} {about.st_mtime_ns} {about.st_size}".encode())
    return stamp.hexdigest()


def explanation(kinds: list[str]) -> str:
    """What to do about kinds whose code moved."""
    return (
        f"{PLACE}: the code of these kinds of job has changed since they were confirmed:\n"
        f"  {grouped(kinds)}\n"
        "First `make same`: it confirms the kinds whose results are equal, byte by byte, and\n"
        "names those that differ. Then `make bump KIND=…` for each kind that is meant to differ:\n"
        "its results, and what follows from them, are made again."
    )


def grouped(kinds: list[str]) -> str:
    """Kinds in few words: ``theory.* (13)`` for all of a command."""
    found = []
    for command in dict.fromkeys(kind.split(".")[0] for kind in kinds):
        named = [kind for kind in kinds if kind.split(".")[0] == command]
        every = len(named) > 1 and named == matching(command)
        found.append(f"{command}.* ({len(named)})" if every else ", ".join(named))
    return ", ".join(found)


def warning(kinds: list[str]) -> str:
    """What Snakemake says at its start, which makes no results again because of code alone."""
    return (
        f"mclr: the code of {grouped(kinds)} has changed since these results were confirmed. "
        "Existing results are kept: `make same` tells whether they would differ, and `make bump "
        "KIND=…` has those of a kind made again."
    )

"""State dicts within what others saved: nested in dictionaries, with the prefixes of wrappers.

torch.compile, DistributedDataParallel, FSDP and activation checkpointing put a name of theirs into
the names of weights; training loops put the whole under a key of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mclr.checkpoints.fit import misfit

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
MAX_DEPTH = 4
Place = tuple[tuple[Mapping[Any, Any], Any], ...]


@dataclass(frozen=True)
class Found:
    """Weights in a file, under the names that the network itself has."""

    state: dict[str, Any]
    place: str  # keys that lead to them, with dots; empty: the file is these weights
    prefix: str  # that all names had
    wrapped: bool  # whether names of wrappers were within the names, too
    dropped: list[str]  # what else is in the file

    def said(self, usual: str) -> list[str]:
        """What was undone, in words; ``usual``: a place that needs none."""
        said = [f"taken from {self.place}"] if self.place not in ("", usual) else []
        said += [f"names without their prefix {self.prefix!r}"] if self.prefix else []
        return said + (["names without those of wrappers (torch.compile, …)"] * self.wrapped)


def find_states(content: Any, mark: str, source: object) -> list[Found]:
    """All state dicts in the content that have a tensor named ``mark``; each object once.

    Raises:
        UserError: two names of one are the same without those of wrappers.
    """
    found = []
    for place, table in _tables(content):
        for name in table:
            plain = _unwrapped(name)
            if f".{plain}".endswith(f".{mark}") and isinstance(table[name], Tensor):
                found.append(_state(place, table, plain.removesuffix(mark), source))
    return found


def only(found: list[Found], what: str, source: object) -> Found | None:
    """The one that was found, or None; UserError where there are several."""
    if len(found) > 1:
        places = ", ".join(
            (f"{f.place}.{f.prefix}".strip(".") or "the top")[:60] for f in found[:5]
        )
        misfit(
            source,
            f"{len(found)} state dicts of {what} in it ({places}), and nothing tells which is "
            "meant: save that one alone",
        )
    return found[0] if found else None


def _tables(content: Any) -> Iterator[tuple[Place, Mapping[Any, Any]]]:
    """Dictionaries in dictionaries, each with those around it and the keys that lead there."""
    pending: list[tuple[Place, Any]] = [((), content)]
    seen: set[int] = set()
    while pending:
        place, table = pending.pop()
        if not isinstance(table, Mapping) or id(table) in seen or len(place) > MAX_DEPTH:
            continue
        seen.add(id(table))
        yield place, table
        inner = [((*place, (table, key)), value) for key, value in table.items()]
        pending += [entry for entry in reversed(inner) if isinstance(entry[1], Mapping)]


def _unwrapped(name: Any) -> str:
    """A name without those of wrappers; empty where it is no text."""
    if type(name) is not str or "_" not in name:
        return name if type(name) is str else ""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _state(place: Place, table: Mapping[Any, Any], prefix: str, source: object) -> Found:
    """The part of the table whose names have the prefix, without it."""
    state: dict[str, Any] = {}
    keys = [str(key) for _, key in place]
    rest = [
        ".".join([*keys[:depth], str(other)])
        for depth, (outer, key) in enumerate(place)
        for other in outer
        if other != key
    ]
    wrapped = False
    for name, value in table.items():
        plain = _unwrapped(name)
        short = plain.removeprefix(prefix)
        if not plain.startswith(prefix) or not short:
            rest.append(".".join([*keys, str(name)]))
            continue
        if short in state:
            misfit(source, f"{short} is there twice, once under the name of a wrapper")
        state[short] = value
        wrapped |= plain != name
    return Found(state, ".".join(keys), prefix, wrapped, rest)

"""What a pickle may say: the names with a meaning, and the error for all else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from mclr.errors import UserError


class MisfitError(ValueError):
    """The file is well-formed but says something that has no place in it; the message says what."""


@dataclass(frozen=True)
class Raw:
    """Bytes in the file, by position; they are read when something needs them."""

    start: int
    length: int


@dataclass(frozen=True)
class Name:
    """A function or class that the file mentions, by its dotted name."""

    dotted: str


def _refuse_build(target: Any, state: Any) -> None:
    raise MisfitError("it gives a state to an object that has none")


@dataclass(frozen=True)
class Vocabulary:
    """All names that a file may mention, and what stands for them here.

    ``calls``: what a call of the name with the file's arguments gives; ``classes``: what a new
    object without arguments gives; ``mentions``: names that only occur as arguments.
    ``build(object, state)`` completes an object; ``persistent(id)`` looks up a persistent id.
    A meaning raises MisfitError if it does not accept the arguments.
    """

    calls: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    classes: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    mentions: frozenset[str] = frozenset()
    build: Callable[[Any, Any], None] = _refuse_build
    persistent: Callable[[Any], Any] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self.calls or name in self.classes or name in self.mentions


def refuse(source: object, what: str) -> NoReturn:
    """Raise the UserError for a file that is not what it should be."""
    raise UserError(
        f"{source}: refused: {what}. The official code writes no such file, and nothing of it was "
        "loaded; get it again from its publisher, compare its sha256, and do not open it with "
        "other tools"
    )

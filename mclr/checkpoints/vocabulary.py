"""What a pickle may say: the names with a meaning, and the error for all else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


def one_line(text: str) -> str:
    """Text out of a file, for a message: what does not print, or breaks the line, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def refuse(source: object, what: str) -> NoReturn:
    """Raise the UserError for a file that is not what it should be."""
    raise UserError(
        f"{source}: refused: {one_line(what)}. The official code writes no such file, and nothing "
        "of it was loaded; get it again from its publisher, compare its sha256, and do not open it "
        "with other tools"
    )


@contextmanager
def reading(source: object) -> Iterator[None]:
    """Whatever parsers raise at a damaged file becomes one UserError; its cause is kept.

    They raise errors of many kinds (struct, zlib, tokenize, …), and none is documented whole.
    """
    try:
        yield
    except UserError:
        raise
    except MisfitError as error:
        refuse(source, str(error))
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror or error}") from error
    except Exception as error:
        lines = [line.strip("'\" ") for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
        refuse(source, f"damaged, or of another format ({reason})")

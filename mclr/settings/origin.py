"""Weights and statistics that others published, in place of what a tier would train."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from mclr.settings.section import Section

TRAINED, RELEASED = "trained", "released"


class Released(Section):
    """A published file: a name in ``data/versions.csv``, or the path of a local copy."""

    released: str


def origin(value: Any) -> str:
    """Which of the two a section is: it names a published file, or says how to train."""
    named = "released" in value if isinstance(value, dict) else isinstance(value, Released)
    return RELEASED if named else TRAINED


ORIGIN = Discriminator(origin)
FromOthers = Annotated[Released, Tag(RELEASED)]


def released_parts(**parts: object) -> dict[str, Released]:
    """Those parts of a model, by role, that are published files."""
    return {role: part for role, part in parts.items() if isinstance(part, Released)}

"""A survey as a few lines for people, and as plain values for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from mclr.data.images.noticed import in_words
from mclr.new.survey import Survey

SHOWN = 10
"""Unusable files that are named; of more, the number."""
NOTICED = {
    **{"transparent": "transparent", "low_16_bit": "dark 16 bits"},
    **{"first_of_several": "first of several", "constant": "of one colour"},
}
"""Headings of what pictures show, by its names in ``mclr.data.images.noticed``."""


def as_text(found: Survey) -> str:
    """What is there, then what is odd."""
    return "\n".join([*_what(found), *_odd(found)])


def as_json(found: Survey) -> dict[str, Any]:
    """Everything that is known of the images."""
    return asdict(found) | {"images": found.count}


def _what(found: Survey) -> Iterator[str]:
    classes, (least, median, most) = found.classes, found.sides
    yield f"{found.path} ({found.kind}): {found.count:,} images of {len(classes):,} classes"
    small = min(classes, key=lambda name: classes[name])
    large = max(classes, key=lambda name: classes[name])
    yield (
        f"  images per class   {classes[small]:,} ({small}) to {classes[large]:,} ({large}), "
        f"{found.count / len(classes):,.0f} on average"
    )
    drawn = "" if found.looked == found.count else f", of {found.looked:,} drawn at random"
    yield (
        f"  short side         {least:,} to {most:,} pixels, median {median:,}; "
        f"longest side {found.longest:,}{drawn}"
    )
    yield f"  pixels             {', '.join(f'{n:,} {mode}' for mode, n in found.modes.items())}"


def _odd(found: Survey) -> Iterator[str]:
    counts = found.classes.values()
    if min(counts) * 2 < max(counts):
        yield "  out of balance     some classes have more than twice as many images as others"
    if found.turned:
        yield f"  turned by EXIF     {found.turned:,}; the configuration applies it"
    told = in_words(found.noticed, "white")
    yield from (
        f"  {NOTICED[kind]:<18} {text}" for kind, text in zip(found.noticed, told, strict=True)
    )
    if found.duplicates:
        examples = "; ".join("  =  ".join(same[:2]) for same in found.duplicates[:2])
        count = f"{len(found.duplicates):,} image{'s'[: len(found.duplicates) > 1]}"
        yield f"  there repeatedly   {count}, byte by byte, such as {examples}"
    if found.ignored:
        others = ", ".join(f"{n:,} × {ending or 'none'}" for ending, n in found.ignored.items())
        yield f"  other files        by ending: {others}"
    if found.bad:
        yield f"  unusable           {len(found.bad):,} files, which are left out:"
        yield from _some([f"{name}: {reason}" for name, reason in found.bad.items()])


def _some(lines: list[str]) -> Iterator[str]:
    yield from (f"    {line}" for line in lines[:SHOWN])
    if len(lines) > SHOWN:
        yield f"    and {len(lines) - SHOWN:,} more"

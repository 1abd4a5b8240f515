"""What the pictures of a source show when they are decoded, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mclr.data.images.decode import Seen
from mclr.data.images.depth import FULL, LOW

KINDS = ("transparent", "low_16_bit", "first_of_several", "constant")


def notice(names: Sequence[str], seen: Sequence[Seen]) -> dict[str, dict[str, Any]]:
    """Number of images of each kind that there are, and the first name; by the kinds' names.

    For images of 16 bits with low values also: the number of all that do not tell their range, and
    the highest value among these.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, image in zip(names, seen, strict=True):
        for kind in _kinds_of(image):
            found.setdefault(kind, {"images": 0, "example": name})["images"] += 1
    if "low_16_bit" in found:
        highest = [image.highest for image in seen if image.highest is not None]
        found["low_16_bit"] |= {"of": len(highest), "highest": max(highest)}
    return {kind: found[kind] for kind in KINDS if kind in found}


def _kinds_of(image: Seen) -> Iterator[str]:
    if image.is_transparent:
        yield "transparent"
    if image.highest is not None and image.highest < LOW:
        yield "low_16_bit"
    if image.is_first:
        yield "first_of_several"
    if image.is_constant:
        yield "constant"


def in_words(noticed: dict[str, dict[str, Any]], background: str) -> Iterator[str]:
    """A sentence on each kind, with what a user can do."""
    for kind, about in noticed.items():
        some = f"{about['images']:,} images, such as {about['example']},"
        if kind == "transparent":
            yield (
                f"{some} are transparent in places and put on {background}; `background` in "
                "section data names another colour"
            )
        elif kind == "first_of_several":
            yield f"{some} are the first of several frames or pages, and the others are not used"
        elif kind == "constant":
            yield f"{some} have one colour throughout: nothing can be learnt from them"
        else:
            yield f"{some} {_low(about)}"


def _low(about: dict[str, Any]) -> str:
    """On 16-bit images with low values."""
    limit = f"of {about['of']:,} with 16 bits have no value above {LOW - 1:,} of {2**FULL - 1:,}"
    bits = max(8, int(about["highest"]).bit_length())
    if about["highest"] >= LOW:
        return f"{limit} and become dark pictures; see that they are meant to be"
    return (
        f"{limit} and become dark pictures; if their values have {bits} bits, write `bits: {bits}` "
        f"in section data, or `bits: {FULL}` if they are meant to be dark"
    )

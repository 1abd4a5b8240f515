"""What a folder or archive of images holds: classes, sizes, kinds of pixels, and what is odd."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
from PIL import Image

from mclr.data.images.decode import FORMATS, Decoder
from mclr.data.images.examine import examine_all
from mclr.data.images.listing import list_images, list_members
from mclr.data.images.members import Member, read_member
from mclr.data.images.prepare import MOST_CLASSES, Examination, duplicates
from mclr.data.images.source import expand, kind_of
from mclr.errors import UserError

MIN_PER_CLASS = 10
"""Fewer leave fewer than two images of a class to compare with, and nothing to learn from."""

LOOKED = 10_000
"""Images whose sizes and modes are told; of more, as many drawn at random."""

MODES = {
    **{"1": "grey", "L": "grey", "I": "grey", "I;16": "grey", "I;16B": "grey", "I;16L": "grey"},
    **{"LA": "grey with alpha", "La": "grey with alpha", "RGB": "RGB", "YCbCr": "RGB"},
    **{"RGBA": "RGB with alpha", "RGBa": "RGB with alpha", "P": "palette", "PA": "palette"},
}
"""PIL's modes in words; others are told by their names (CMYK, LAB)."""


@dataclass(frozen=True)
class Survey:
    """What was found in a source.

    classes: usable images of each class. bad: reason by name of unusable ones. duplicates: names
    with the same bytes. ignored: other files by ending. turned: images that EXIF turns. sides:
    shortest, median and longest short side of the images looked at, in pixels; longest: longest
    side of all. modes: how many of those looked at are grey, RGB, …
    """

    path: str
    kind: str
    classes: dict[str, int]
    bad: dict[str, str]
    duplicates: list[list[str]]
    ignored: dict[str, int]
    turned: int
    sides: tuple[int, int, int]
    longest: int
    modes: dict[str, int]
    noticed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of the pictures themselves: see ``mclr.data.images.noticed``."""

    @property
    def count(self) -> int:
        """Usable images."""
        return sum(self.classes.values())

    @property
    def is_grey(self) -> bool:
        """Whether all images looked at are grey."""
        return all(mode.startswith("grey") for mode in self.modes)

    @property
    def looked(self) -> int:
        """Images whose size and mode were looked at."""
        return sum(self.modes.values())


def survey(path: str, threads: int = 1) -> Survey:
    """Read and decode every image of a source once, in ``threads`` processes.

    path: folder, .tar or .zip, as it will stand in the configuration ($VARIABLES included).

    Raises:
        UserError: nothing is there, images are in no class, there are fewer than two classes, no
            image can be used, or some class has too few that can.
    """
    source = expand(path)
    kind = kind_of(source)
    listing = list_images(source, list_members(source, kind), kind)
    decoder = Decoder("center-crop-dhariwal", 1, 3)  # just to open files
    seen = Examination(listing, examine_all(source, listing.members, decoder, threads))
    counts = np.bincount(np.array(listing.labels)[seen.good], minlength=len(listing.class_names))
    classes = dict(zip(listing.class_names, counts.tolist(), strict=True))
    _check(path, classes, seen)
    shorts, longs, modes = zip(
        *_headers(source, [listing.members[i] for i in seen.good]), strict=True
    )
    return Survey(
        path,
        kind,
        classes,
        seen.bad,
        duplicates(seen),
        listing.ignored,
        sum(image.turned for image in seen.found),
        (min(shorts), median_low(shorts), max(shorts)),
        max(longs),
        dict(Counter(modes).most_common()),
        seen.noticed,
    )


def _check(path: str, classes: dict[str, int], seen: Examination) -> None:
    """UserError unless something can be learnt from the images."""
    if not len(seen.good):
        name, reason = next(iter(seen.bad.items()))
        raise UserError(
            f"{path}: all {len(seen.bad)} images are bad, such as {name}: {reason}; "
            "check that the files are whole, and that their formats are those of docs/data.md"
        )
    few = [f"{name} ({count})" for name, count in classes.items() if count < MIN_PER_CLASS]
    if few:
        raise UserError(
            f"{path}: {len(few)} of {len(classes)} classes have fewer than {MIN_PER_CLASS} usable "
            f"images: {', '.join(few[:5])}{' …' if len(few) > 5 else ''}; add images, or move "
            "these classes away"
        )
    if len(classes) > MOST_CLASSES:
        raise UserError(f"{path}: {len(classes)} classes; at most {MOST_CLASSES} are possible")


def _headers(source: Path, members: list[Member]) -> Iterator[tuple[int, int, str]]:
    """Short side, long side and mode of images, of at most ``LOOKED``; no pixel is decoded."""
    if len(members) > LOOKED:
        members = random.Random(0).sample(members, LOOKED)
    for member in members:
        with Image.open(io.BytesIO(read_member(source, member)), formats=FORMATS) as image:
            yield min(image.size), max(image.size), MODES.get(image.mode, image.mode)

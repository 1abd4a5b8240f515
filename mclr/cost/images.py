"""What is known of the images of a source before they are fetched or indexed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mclr.config.tier import Tier
from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.files import read_json
from mclr.settings.data import COUNTS, OwnImages

IMAGENET = 1_281_167
"""Training images of ILSVRC 2012 (Russakovsky et al., arXiv 1409.0575, table 2)."""


@dataclass(frozen=True)
class Source:
    """Images of a source: all of them, those of its own test split, their shape and classes."""

    count: int
    test: int
    channels: int
    resolution: int
    classes: int


# As ``mclr.data.sources`` reads them.
SOURCES = {
    "digits": Source(*COUNTS["digits"], 1, 8, 10),
    "fashion-mnist": Source(*COUNTS["fashion-mnist"], 1, 32, 10),
}


@dataclass(frozen=True)
class Images:
    """The images of a tier, and how they are split.

    is_held_out: no training image is a reference. flip: mirror images are trained on, too.
    """

    source: Source
    n_reference: int
    is_held_out: bool = True
    flip: bool = False

    @property
    def n_train(self) -> int:
        kept = self.source.count - (self.n_reference if self.is_held_out else 0)
        return kept * (2 if self.flip else 1)

    def manifest(self, resolution: int | None) -> Manifest:
        """What networks ask of the data, at a resolution (None: the source's own)."""
        side = resolution or self.source.resolution
        return Manifest(self.source.channels, side, self.source.classes, (), {})

    def pixels(self, resolution: int | None) -> int:
        """Bytes of one image."""
        channels, height, width = self.manifest(resolution).shape
        return channels * height * width


def images_of(tier: Tier, count: int | None = None) -> Images:
    """The images of a tier; of the user's own, as many as are indexed, or ``count``.

    Raises:
        UserError: nothing is known of the source.
    """
    if isinstance(tier.data, OwnImages):
        return _own_images(tier.tier, tier.data, count)
    if count is not None:
        raise UserError(f"--images: the source {tier.data.source} has a size of its own; leave out")
    if tier.data.source not in SOURCES:
        raise UserError(
            f"data.source: the size of {tier.data.source!r} is not known before it is fetched; "
            f"known are {', '.join(SOURCES)}. Add it to mclr/cost/images.py"
        )
    source = SOURCES[tier.data.source]
    return Images(source, tier.data.n_reference or source.test)


def _own_images(tier: str, data: OwnImages, count: int | None) -> Images:
    """By the index if there is one, else as told, else as many as ImageNet has."""
    index = Path("data", "prepared", tier, "manifest.json")
    classes = data.classes
    held_out = data.reference == "held-out"
    if count is None and index.is_file():
        found = read_json(index)
        splits = {name: split["count"] for name, split in found["splits"].items()}
        kept = splits["train"] // (2 if data.flip else 1)
        count = kept + (splits["reference"] if held_out else 0)
        classes = found["num_classes"]
    count = data.count if count is None else count
    if count is None and is_imagenet(data):
        count = IMAGENET
    if count is None:
        raise UserError(
            f"data.path: how many images {data.path} has is not known before they are indexed "
            f"({index} is missing); give --images N"
        )
    if classes is None:
        raise UserError(
            f"data.classes: how many classes {data.path} has is not known before its images are "
            f"indexed ({index} is missing); write it there"
        )
    source = Source(count, 0, data.channels, data.resolution, classes)
    return Images(source, data.n_reference or count, held_out, data.flip)


def is_imagenet(data: OwnImages) -> bool:
    """Whether the path says that these are ImageNet's training images, of all 1,000 classes."""
    named = re.search("imagenet|ilsvrc", data.path, re.IGNORECASE)
    return data.classes == 1000 and named is not None

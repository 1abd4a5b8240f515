"""What is known of the images of a source before they are fetched."""

from __future__ import annotations

from dataclasses import dataclass

from mclr.config.tier import Tier
from mclr.data.load import Manifest
from mclr.errors import UserError


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
    "digits": Source(1_797, 0, 1, 8, 10),
    "fashion-mnist": Source(70_000, 10_000, 1, 32, 10),
}


@dataclass(frozen=True)
class Images:
    """The images of a tier, and how they are split."""

    source: Source
    n_reference: int

    @property
    def n_train(self) -> int:
        return self.source.count - self.n_reference

    def manifest(self, resolution: int | None) -> Manifest:
        """What networks ask of the data, at a resolution (None: the source's own)."""
        side = resolution or self.source.resolution
        return Manifest(self.source.channels, side, self.source.classes, (), {})

    def pixels(self, resolution: int | None) -> int:
        """Bytes of one image."""
        channels, height, width = self.manifest(resolution).shape
        return channels * height * width


def images_of(tier: Tier) -> Images:
    """The images of a tier.

    Raises:
        UserError: nothing is known of the source.
    """
    if tier.data.source not in SOURCES:
        raise UserError(
            f"data.source: the size of {tier.data.source!r} is not known before it is fetched; "
            f"known are {', '.join(SOURCES)}. Add it to mclr/cost/images.py"
        )
    source = SOURCES[tier.data.source]
    return Images(source, tier.data.n_reference or source.test)

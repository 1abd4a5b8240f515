"""The networks and grids that a proposal chooses from: all of them ours."""

from __future__ import annotations

from dataclasses import dataclass

from mclr.new.given import GivenBase

IMAGES_PER_PIXEL = 400
"""Training images that the smallest base model needs, for each pixel of what it denoises: as many
as config/fashion.yaml gives a network of 16×16 pixels."""

WIDER = 4
"""The next wider network is worth its cost with so many times as many."""

MOST_PASSES = 1000
"""Over the training images in base training: more learn them by heart."""

BATCH = {False: 128, True: 256}
"""Minibatch of base training, of narrow and of wide networks; EDM2 has 2048."""

WIDE = 128
"""Channels from which a network has EDM2's own depth and sampler."""

WIDE_VAR = 768
"""The same for VAR's transformers, of which the smallest that is released has 1,024."""


@dataclass(frozen=True)
class Size:
    """An EDM2 network for images of a resolution; with ``levels``, of an autoencoder's latents.

    side: of what it denoises. levels: channels of the autoencoder, halving the side between them.
    """

    resolution: int
    side: int
    channels: int
    least_images: int
    levels: tuple[int, ...] = ()
    family: str = "edm2"

    @property
    def width(self) -> int:
        return self.channels

    @property
    def channel_mult(self) -> tuple[int, ...]:
        return {8: (1, 2), 16: (1, 2), 32: (1, 2, 2), 64: (1, 2, 3, 4)}[self.side]

    @property
    def attn_resolutions(self) -> tuple[int, ...]:
        return {8: (), 16: (8,), 32: (8,), 64: (16, 8)}[self.side]

    @property
    def num_blocks(self) -> int:
        return 3 if self.channels >= WIDE else 1

    @property
    def logvar_channels(self) -> int:
        return 128 if self.channels >= WIDE else 32

    @property
    def channels_per_head(self) -> int:
        return min(64, self.channels)

    @property
    def num_steps(self) -> int:
        """Of the sampler."""
        if self.channels >= WIDE:
            return 32
        return {8: 8, 16: 12, 32: 16, 64: 16}[self.side]

    @property
    def batch(self) -> int:
        return BATCH[self.channels >= WIDE]


# side of the images: (side of what is denoised, channels of the networks, those of the autoencoder)
FAMILIES: dict[int, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    8: (8, (16, 32), ()),
    16: (16, (24, 48), ()),
    32: (32, (32, 64, 128), ()),
    64: (64, (32, 64, 128, 192), ()),
    128: (32, (64, 128), (32, 64, 64)),
    256: (32, (64, 128), (32, 64, 64, 64)),
    512: (64, (64, 128, 192), (32, 64, 64, 64)),
}
SMALLEST = 16
"""Images are made no smaller than this, if they are not smaller themselves."""


def sizes_for(side: int, only: int | None = None) -> list[Size]:
    """Networks for images of a (median) short side, the best first; none below 8 pixels.

    only: the networks for images of this side, and no others.
    """
    usable = [r for r in FAMILIES if r <= side and only in (None, r)]
    found = []
    for resolution in [r for r in usable if r >= SMALLEST] or usable:
        inner, widths, levels = FAMILIES[resolution]
        first = IMAGES_PER_PIXEL * inner**2
        sizes = enumerate(widths)
        found += [Size(resolution, inner, w, first * WIDER**i, levels) for i, w in sizes]
    return found[::-1]


@dataclass(frozen=True)
class Grid:
    """How much is tried and measured: samples at most, CFG scales, MCLR's settings, final seeds."""

    samples: int
    scales: tuple[float, ...]
    lrs: tuple[float, ...]
    P_means: tuple[float, ...]
    checkpoints: tuple[int, ...]
    final: tuple[int, ...] = ()


PAPER = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1, 1.5, 2, 3)
GRIDS = (
    Grid(2000, PAPER, (0.00003, 0.0001), (-0.8, 1), (5, 10, 20, 40), (1, 2)),
    Grid(1000, (0.2, 0.5, 1, 2), (0.00003, 0.0001), (1,), (10, 20, 40), (1, 2)),
    Grid(400, (0.3, 1), (0.0001,), (1,), (10, 40)),
)
"""Of EDM2 networks as small as those above; settings as in config/fashion.yaml."""

LARGE_GRIDS = (
    Grid(10_000, PAPER, (0.000003, 0.00001, 0.00003, 0.0001), (-0.8, 1), (50, 100, 200, 400, 800)),
    Grid(5_000, (0.2, 0.5, 1, 2), (0.00001, 0.00003), (-0.8,), (50, 100, 200, 400)),
    Grid(1_000, (0.3, 1), (0.00001,), (-0.8,), (50, 200)),
)
"""Of networks of the paper's sizes; learning rates as in config/imagenet.yaml."""

PAPER_VAR = (0.5, 0.8, 1.1, 1.5, 1.7, 2, 2.5, 3, 4, 5, 7, 10, 15)
VAR_GRIDS = (
    Grid(2000, PAPER_VAR, (0.000005, 0.000015, 0.00005, 0.00015), (), (5, 10, 20, 40), (1, 2)),
    Grid(1000, (0.5, 1.5, 3, 5), (0.000015, 0.00005), (), (10, 20, 40), (1, 2)),
    Grid(400, (0.5, 3), (0.00005,), (), (10, 40)),
)
LARGE_VAR_GRIDS = (
    Grid(10_000, PAPER_VAR, (0.000005, 0.00001, 0.00002, 0.00004), (), (50, 100, 200, 400, 800)),
    Grid(5_000, (0.5, 1.5, 3, 5), (0.00001, 0.00002), (), (50, 100, 200, 400)),
    Grid(1_000, (0.5, 3), (0.00002,), (), (50, 200)),
)
GRIDS_OF = {
    "edm2": {False: GRIDS, True: LARGE_GRIDS},
    "var": {False: VAR_GRIDS, True: LARGE_VAR_GRIDS},
    "diffusers": {False: GRIDS, True: LARGE_GRIDS},
}
WIDE_OF = {"edm2": WIDE, "var": WIDE_VAR, "diffusers": WIDE}


def grids_for(size: Size | GivenBase) -> tuple[Grid, ...]:
    """Grids for a base model, the largest first."""
    return GRIDS_OF[size.family][is_large(size)]


def is_large(size: Size | GivenBase) -> bool:
    """Whether a network is of the paper's kind of size, which is fine-tuned more gently."""
    return size.width >= WIDE_OF[size.family]

"""What a model costs: each family says so for its networks, in ``cost.py`` of its folder.

The unit is the multiply-add of matrix products and convolutions, see ``mclr.models.trace``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mclr.data.load import Manifest
from mclr.models.config import Model
from mclr.models.trace import Trace, parameters, trace

ROWS = 16
"""Images of a traced pass: so many that memory is theirs, not the weights'."""


@dataclass(frozen=True)
class Coder:
    """Multiply-adds of an image to tokens or latents and back; all zero for models of pixels.

    half: in the model's own precision, and not in float32. statistics: whether its training ends
    with the deviation of what it makes of images.
    """

    encode: int = 0
    decode: int = 0
    parameters: int = 0
    half: bool = False
    statistics: bool = False


class Cost(ABC):
    """A network of a tier, on images of its data; ``is_guide``: the network that guides a model."""

    has_average: ClassVar[bool] = False
    """Whether base training keeps an average of the weights."""
    release_bytes: ClassVar[int] = 4
    """Of a number in its published weights."""
    kept_bytes: ClassVar[int] = 4
    """Of a number of what is kept of a training image."""

    def __init__(self, model: Model, manifest: Manifest, *, is_guide: bool = False) -> None:
        self.model, self.manifest, self.is_guide = model, manifest, is_guide

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """What tells networks of other costs apart."""

    @abstractmethod
    def traced(self, rows: int, grad: bool) -> Trace:
        """A pass of ``rows`` images: denoiser calls, or likelihoods."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Numbers in its file."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """Multiply-adds of an image without guidance, but for its decoding."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The network with some weights."""

    @abstractmethod
    def evaluate(self, net: Any, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A pass of ``rows`` images through a network on ``device``, computing in ``dtype``."""

    def restore(self, net: Any) -> None:  # noqa: B027
        """Constraints after an optimiser's step, as ``Family.after_step``."""

    def narrower(self) -> Cost:
        """A network of the kind that takes less time; itself, where none is known."""
        return self

    @property
    def half(self) -> bool:
        """Whether it computes in 16-bit numbers."""
        return self.model.precision != "float32"

    @property
    def evaluation(self) -> int:
        """Multiply-adds of one pass of one image."""
        return self.traced(ROWS, True).macs // ROWS

    def sampling(self, guided: bool, interval: Any = None, guide: Cost | None = None) -> float:
        """Multiply-adds of an image; ``guide``: what guides where that is another network."""
        return self.generation * (2 if guided else 1)

    @cached_property
    def coder(self) -> Coder:
        """What makes something else of images, and back."""
        return Coder()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is kept of one training image."""
        return self.manifest.shape

    @property
    def drawn_bytes(self) -> float:
        """Of one sample in a file, as the network models it."""
        return 8 * self.manifest.shape[0] * self.manifest.resolution**2

    def training_bytes(self) -> tuple[int, int]:
        """What a training pass keeps: whatever its size, and for every row (image) more."""
        some, more = self.traced(ROWS, True).peak, self.traced(2 * ROWS, True).peak
        return max(0, 2 * some - more), (more - some) // ROWS

    def sampling_bytes(self) -> int:
        """What a pass without gradients holds at once for a row, and what stays between passes."""
        some, more = (self.traced(n * ROWS, False).peak for n in (1, 2))
        return (more - some) // ROWS + self.cache_bytes()

    def cache_bytes(self) -> int:
        """What sampling keeps of a row from pass to pass."""
        return 0


class DenoiserCost(Cost):
    """A denoiser of pixels, or of latents of an autoencoder: ``drawn`` (channels, side, side)."""

    has_average = True
    kept_bytes = 2
    drawn: tuple[int, ...]
    is_latent: bool

    @property
    def generation(self) -> int:
        return self.evaluation * self.model.nfe_of(False)

    def sampling(self, guided: bool, interval: Any = None, guide: Cost | None = None) -> float:
        alone = self.model.nfe_of(False)
        more = self.model.nfe_of(guided, interval) - alone
        return alone * self.evaluation + more * (guide or self).evaluation

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels, or mean and deviation of latents."""
        channels, *sides = self.drawn
        return (2 * channels if self.is_latent else channels, *sides)

    @property
    def drawn_bytes(self) -> float:
        """float32, of pixels or of drawn latents."""
        return 4 * prod(self.drawn)


def traced_coder(
    make: Callable[[], nn.Module],
    encode: Callable[[Any], Any],
    decode: Callable[[Any], Any],
    *,
    half: bool = False,
    statistics: bool = False,
) -> Coder:
    """The cost of a tokenizer or autoencoder, by an image there and one back."""
    with torch.device("meta"):
        size = parameters(make())
    # Plain attention: the counter does not know the fused one of CPUs.
    with sdpa_kernel(SDPBackend.MATH):
        there, back = trace(make, encode).macs, trace(make, decode).macs
    return Coder(there, back, size, half, statistics)

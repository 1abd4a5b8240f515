"""A family of one's own: three methods to write, the rest has defaults.

``models.<name>.implementation`` names a class as ``path/to/file.py:Class``. It is given its
options, the manifest of the data and a device, and must say how a network is built, what log p(x|c)
is, and how to sample. See ``docs/examples/own_family.py``.
"""

from __future__ import annotations

import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.likelihood import Draw
from mclr.models.implementation import source_of


class OwnFamily(ABC):
    """See ``mclr.models.family.Family``; x is pixels in [−1, 1] unless ``encode`` says otherwise.

    options: ``models.<name>.options`` of the configuration.
    """

    def __init__(self, options: dict[str, Any], manifest: Manifest, device: torch.device) -> None:
        self.options, self.manifest, self.device = options, manifest, device

    @abstractmethod
    def build(self, generator: torch.Generator) -> nn.Module:
        """A network with random weights that depend on the generator alone."""

    @abstractmethod
    def log_likelihood(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        """log p(x|c), or a surrogate of it: (N,). Label ``num_classes`` is the null label."""

    @abstractmethod
    def generate(
        self,
        net: nn.Module,
        seeds: Sequence[int],
        labels: Tensor,
        guidance: float,
        *,
        guide: nn.Module | None = None,
        interval: tuple[float, float] | None = None,
    ) -> Tensor:
        """Samples x, one for each seed and label; each depends on its own seed only."""

    def encode(self, images: Tensor) -> Tensor:
        """uint8 images to x."""
        return images.float() / 127.5 - 1

    def from_encoded(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Rows of what ``encode`` gave to x."""
        return rows

    def decode(self, x: Tensor) -> Tensor:
        """x to uint8 images."""
        return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def draw(self, x: Tensor, generator: torch.Generator) -> Draw:
        """The randomness of one log-likelihood: none where it is exact."""
        return Draw()

    def base_loss(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        """What trains a base model: the negative log-likelihood of an image."""
        return -self.log_likelihood(net, x, labels, draw).mean()

    def after_step(self, net: nn.Module) -> None:  # noqa: B027
        """No constraint."""

    def frozen(self, net: nn.Module) -> nn.Module:
        """A network for evaluation alone."""
        return deepcopy(net).eval().requires_grad_(False)


def own_family(architecture: dict[str, Any], manifest: Manifest, device: torch.device) -> OwnFamily:
    """The family of a configuration; ``architecture`` holds ``implementation`` and ``options``."""
    made = find_class(architecture["implementation"])
    return made(architecture["options"], manifest, device)


def find_class(implementation: str) -> type[OwnFamily]:
    """The class that ``path/to/file.py:Class`` names.

    Raises:
        UserError: no such file or class, an error in the file, or not an ``OwnFamily``.
    """
    path = source_of(implementation)
    name = implementation.rpartition(":")[2]
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"implementation: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"implementation: {path}: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, OwnFamily)):
        raise UserError(
            f"implementation: {path} has no class {name} derived from mclr.models.own.OwnFamily"
        )
    return found

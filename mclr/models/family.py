"""What a model family offers the pipeline, and the families there are.

A family knows how images become what its network models (``encode``), the log-likelihood of that
under a label, and how to sample it. Label ``num_classes`` is the null label of both families.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.files import load_tensors
from mclr.likelihood import Draw
from mclr.models.weights import load_weights


class Family(Protocol):
    """One kind of generative model, for data of one shape."""

    def build(self, generator: torch.Generator) -> nn.Module:
        """A network with random weights."""

    def encode(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W) to what the network models: pixels or tokens, (N, …)."""

    def decode(self, x: Tensor) -> Tensor:
        """The inverse of ``encode``, to uint8 images."""

    def draw(self, x: Tensor, generator: torch.Generator) -> Draw:
        """The randomness of one log-likelihood for each row of ``x``."""

    def log_likelihood(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        """ℓ_θ(x, c): (N,)."""

    def base_loss(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        """The scalar loss that trains a base model."""

    def after_step(self, net: nn.Module) -> None:
        """Constraints restored after each optimiser step."""

    def frozen(self, net: nn.Module) -> nn.Module:
        """``net`` for evaluation alone, while its weights stay: what can be done once is done.

        ``log_likelihood`` and ``generate`` take it in place of a network.
        """

    def generate(
        self, net: nn.Module, seeds: Sequence[int], labels: Tensor, guidance: float
    ) -> Tensor:
        """Samples ``x``, one for each seed and label; sample i depends on its own seed only."""


def make_family(spec: dict[str, Any], manifest: Manifest, tokenizer: Path | None = None) -> Family:
    """The family of ``spec["network"]``, with ``spec["noise"]`` / ``spec["sampler"]`` if given.

    ``spec["precision"]`` is a name of ``mclr.models.precision``; float32 if absent.
    """
    network = dict(spec["network"])
    family, precision = network.pop("family"), spec.get("precision", "float32")
    if family == "edm2":
        from mclr.models.edm2.family import Edm2Family

        return Edm2Family(network, manifest, spec.get("noise"), spec.get("sampler"), precision)
    if family == "var":
        from mclr.models.var.family import VarFamily

        if tokenizer is None:
            raise UserError("a VAR model needs its tokenizer's weights: give --tokenizer")
        return VarFamily(network, manifest, tokenizer, spec.get("sampler"), precision)
    raise UserError(f"model family {family!r} is unknown; choose from edm2, var")


def load_network(family: Family, weights: Path) -> nn.Module:
    """A network of the family with the weights of a checkpoint, in eval mode.

    Raises:
        UserError: checkpoint missing, truncated, or of another architecture.
    """
    tensors, _ = load_tensors(weights)
    net = family.build(torch.Generator().manual_seed(0))
    load_weights(net, tensors, weights)
    return net.eval().requires_grad_(False)

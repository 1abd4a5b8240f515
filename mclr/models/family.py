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
from mclr.device import CPU
from mclr.errors import UserError
from mclr.files import load_tensors
from mclr.likelihood import Draw
from mclr.models.weights import load_weights


class Family(Protocol):
    """One kind of generative model, for data of one shape, computing on ``device``.

    What ``encode`` and ``from_encoded`` give and ``draw`` draws lies on the CPU; all else is given
    and made on ``device``.
    """

    device: torch.device

    def build(self, generator: torch.Generator) -> nn.Module:
        """A network with random weights."""

    def encode(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W) to what is kept of them, however often they are used.

        Pixels, tokens, or means and deviations of latents: (N, …).
        """

    def from_encoded(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Rows of what ``encode`` gives to what the network models, x (N, …).

        A model of pixels also takes uint8 images themselves.
        Latents are drawn from ``generator``, anew for every use; nothing else draws from it.
        """

    def decode(self, x: Tensor) -> Tensor:
        """What the network models back to uint8 images (N, C, H, W)."""

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

        ``log_likelihood`` and ``generate`` take it in place of a network. On a GPU ``generate``
        is fast for what this gives alone, since it records the passes of a network that stays.
        """

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
        """Samples ``x``, one for each seed and label; sample i depends on its own seed only.

        The labels may lie on any device. guidance: scale γ. guide: the network that guides, under
        the same labels; without it the null label of ``net`` does. interval: noise levels outside
        which there is no guidance. Only diffusion has the last two; UserError elsewhere.
        """


def make_family(
    spec: dict[str, Any],
    manifest: Manifest,
    tokenizer: Path | None = None,
    device: torch.device = CPU,
) -> Family:
    """The family of ``spec["network"]``, with ``spec["noise"]`` / ``spec["sampler"]`` if given.

    tokenizer: weights of the VQ-VAE of a VAR model, or of the autoencoder of a model of latents.
    ``spec["precision"]`` is a name of ``mclr.models.precision``; float32 if absent, as is
    ``spec["decoding"]``, see ``mclr.config.base.Decoding``.
    """
    network = dict(spec["network"])
    family, precision = network.pop("family"), spec.get("precision", "float32")
    decoding = spec.get("decoding", "float32")
    if family == "edm2":
        from mclr.models.edm2.family import Edm2Family

        noise, sampler = spec.get("noise"), spec.get("sampler")
        return Edm2Family(network, manifest, noise, sampler, precision, device, tokenizer, decoding)
    if family == "var":
        from mclr.models.var.family import VarFamily

        if tokenizer is None:
            raise UserError("a VAR model needs its tokenizer's weights: give --tokenizer")
        sampler = spec.get("sampler")
        return VarFamily(network, manifest, tokenizer, sampler, precision, device, decoding)
    if family == "own":
        from mclr.models.own.family import own_family

        return own_family(network, manifest, device)
    raise UserError(f"model family {family!r} is unknown; choose from edm2, var, own")


def load_network(family: Family, weights: Path) -> nn.Module:
    """A network of the family with the weights of a checkpoint, on its device, in eval mode.

    Raises:
        UserError: checkpoint missing, truncated, or of another architecture.
    """
    tensors, _ = load_tensors(weights)
    net = family.build(torch.Generator().manual_seed(0))
    load_weights(net, tensors, weights)
    return net.to(family.device).eval().requires_grad_(False)

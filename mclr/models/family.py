"""What a model family offers the pipeline.

A family knows how images become what its network models (``encode``), the log-likelihood of that
under a label, and how to sample it. Label ``num_classes`` is the null label of all families.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mclr.device import fused
from mclr.errors import UserError
from mclr.files import load_tensors
from mclr.likelihood import Draw, LevelDraw
from mclr.likelihood.prediction import Prediction
from mclr.models.finite import note_finite
from mclr.models.precision import resolve_precision
from mclr.models.recipe import Recipe, linear_learning_rate
from mclr.models.weights import load_weights


class Family(ABC):
    """One kind of generative model, for data of one shape, computing on ``device``.

    What ``encode`` and ``from_encoded`` give and ``draw`` draws lies on the CPU; all else is given
    and made on ``device``. Three methods have no default; the defaults are those of an exact
    likelihood of pixels in [−1, 1].
    """

    device: torch.device
    guided_by: ClassVar[frozenset[str]] = frozenset({"null"})
    """What can guide it: its ``null`` label, another ``network``, either within an ``interval``."""
    has_noise_levels: ClassVar[bool] = False
    """Whether it has ``noisy_log_likelihood``, and ``draw`` gives σ and ε."""
    has_masks: ClassVar[bool] = False
    """Whether ``log_likelihood`` drops what ``draw.masks`` says, of any network it is given."""
    has_dial: ClassVar[bool] = False
    """Whether it has ``with_dial``, and its networks heed ``draw.dial`` (``mclr.models.dial``)."""
    official: ClassVar[str | None] = None
    """The kind of its published files, as ``mclr import-weights`` has them; None: safetensors."""

    @property
    def untold(self) -> Mapping[str, Any]:
        """What an official file does not tell of its networks, as the configuration has it."""
        return {}

    @abstractmethod
    def build(self, generator: torch.Generator) -> nn.Module:
        """A network with random weights that depend on the generator alone."""

    @abstractmethod
    def log_likelihood(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        """ℓ_θ(x, c), log p(x|c) or a surrogate of it: (N,)."""

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
        """Samples ``x``, one for each seed and label; sample i depends on its own seed only.

        The labels may lie on any device. guidance: scale γ. guide: the network that guides, under
        the same labels; without it the null label of ``net`` does. interval: noise levels outside
        which there is no guidance. The last two are given to families that say so alone
        (``guided_by``).
        """

    def encode(self, images: Tensor) -> Tensor:
        """uint8 images (N, C, H, W) to what is kept of them, however often they are used.

        Pixels, tokens, or means and deviations of latents: (N, …).
        """
        return images.float() / 127.5 - 1

    def from_encoded(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Rows of what ``encode`` gives to what the network models, x (N, …).

        A model of pixels also takes uint8 images themselves.
        Latents are drawn from ``generator``, anew for every use; nothing else draws from it.
        """
        return rows

    def decode(self, x: Tensor) -> Tensor:
        """What the network models back to uint8 images (N, C, H, W).

        Raises:
            UserError: some are not finite (``mclr.models.finite``; whoever draws many asks later).
        """
        note_finite(x)
        return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def draw(self, x: Tensor, generator: torch.Generator) -> Draw:
        """The randomness of one log-likelihood for each row of ``x``: none where it is exact."""
        return Draw()

    def predict(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Prediction:
        """What the network says of x under the labels: a denoised image, or logits.

        Raises:
            UserError: the family does not tell.
        """
        raise UserError(
            f"{type(self).__name__} has no `predict`, which objectives that imitate guidance need "
            "(distill, gft, mg); write it in the class, or fine-tune with mclr"
        )

    def noisy_log_likelihood(
        self, net: nn.Module, x_t: Tensor, sigma: Tensor, labels: Tensor, draw: LevelDraw
    ) -> Tensor:
        """log p_t(x_t|c) of noisy x_t (N, …) at levels sigma (N,), up to a constant per row.

        Raises:
            UserError: the family has no noise levels.
        """
        raise UserError("wmclr needs a diffusion model; fine-tune this one with mclr")

    def base_loss(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        """The scalar loss that trains a base model: the negative log-likelihood of an image."""
        return -self.log_likelihood(net, x, labels, draw).mean()

    def recipe(self, net: nn.Module, settings: Any) -> Recipe:
        """How a base model is trained, by section ``base``: AdamW, warm-up, linear decay."""
        optimizer = torch.optim.AdamW(
            net.parameters(),
            betas=(0.9, 0.95),
            weight_decay=settings.weight_decay,
            fused=fused(self.device),
        )

        def learning_rate(step: int) -> float:
            return linear_learning_rate(
                step, lr=settings.lr, warmup_steps=settings.warmup_steps, steps=settings.steps
            )

        return Recipe(optimizer, learning_rate)

    def dtype(self, device: torch.device) -> torch.dtype:
        """The number type of this family's networks on ``device``, by its ``precision``."""
        name: str = getattr(self, "precision", "float32")
        return resolve_precision(name, device, on_gpu=torch.bfloat16)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether weight decay in fine-tuning is for a parameter: not for biases and gains."""
        return parameter.ndim > 1

    def after_step(self, net: nn.Module) -> None:  # noqa: B027
        """Constraints restored after each optimiser step: none."""

    def with_dial(self, net: nn.Module) -> nn.Module:
        """``net`` with a dial, which does nothing yet: all that it says is the same to the bit.

        Raises:
            UserError: networks of the family cannot have one.
        """
        raise UserError(
            f"{type(self).__name__}: networks of this family cannot take β as an input; give "
            "objective.beta a number"
        )

    def frozen(self, net: nn.Module) -> nn.Module:
        """``net`` for evaluation alone, while its weights stay: what can be done once is done.

        ``log_likelihood`` and ``generate`` take it in place of a network. On a GPU ``generate``
        may be fast for what this gives alone, since it records the passes of a network that stays.
        """
        return deepcopy(net).eval().requires_grad_(False)


def load_network(family: Family, weights: Path) -> nn.Module:
    """A network of the family with the weights of a checkpoint, on its device, in eval mode.

    Raises:
        UserError: checkpoint missing, truncated, or of another architecture.
    """
    tensors, _ = load_tensors(weights)
    net = family.build(torch.Generator().manual_seed(0))
    load_weights(net, tensors, weights)
    return net.to(family.device).eval().requires_grad_(False)

"""diffusers' networks, built of a configuration, and as denoisers D_θ(x; σ, c)."""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from torch import Tensor, nn

from mclr.errors import UserError
from mclr.models.diffusers.architecture import DitArchitecture, Scheduler, UnetArchitecture
from mclr.models.diffusers.folder import Drawn
from mclr.models.diffusers.prediction import DENOISED, FlowLevels, Levels, VpLevels
from mclr.models.precision import autocast

OURS = ("kind", "learned_variance", "null_label")
"""Keys of an architecture that diffusers does not have."""


class _Checkpointed:
    """Activations that are kept or computed again, as ``mclr.training.share.Share`` says."""

    @property
    def checkpointing(self) -> bool:
        """Whether they are computed again for the gradient."""
        return bool(cast(Any, self).is_gradient_checkpointing)

    @checkpointing.setter
    def checkpointing(self, wanted: bool) -> None:
        net = cast(Any, self)
        net.enable_gradient_checkpointing() if wanted else net.disable_gradient_checkpointing()


class Dit(_Checkpointed, DiTTransformer2DModel):
    """diffusers' DiT."""


class Unet(_Checkpointed, UNet2DModel):
    """diffusers' U-Net."""


def diffusers_config(model: DitArchitecture | UnetArchitecture, drawn: Drawn) -> dict[str, Any]:
    """What diffusers' class is given for such images."""
    settings = model.model_dump(exclude=set(OURS))
    settings |= {
        "sample_size": drawn.side,
        "in_channels": drawn.channels,
        "out_channels": drawn.channels * (2 if model.learned_variance else 1),
    }
    if isinstance(model, DitArchitecture):
        return settings | {"num_embeds_ada_norm": drawn.classes}
    return settings | {"num_class_embeds": drawn.classes + (1 if model.null_label else 0)}


def build(
    model: DitArchitecture | UnetArchitecture, drawn: Drawn, generator: torch.Generator
) -> nn.Module:
    """A network with random weights that depend on the generator's seed alone.

    Raises:
        UserError: the sizes do not fit each other.
    """
    settings, is_dit = diffusers_config(model, drawn), isinstance(model, DitArchitecture)
    # diffusers draws from torch's own generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        try:
            net: Any = cast(Any, Dit if is_dit else Unet)(**settings)
        except (ValueError, TypeError, RuntimeError, IndexError) as error:
            said = str(error).split("\n")[0]
            raise UserError(f"network: {said}; choose other sizes") from None
        if is_dit:
            _initialise(net)
    return cast(nn.Module, net)


# Peebles & Xie (arXiv 2212.09748), section 3.2, and their code: "adaLN-Zero".
@torch.no_grad()
def _initialise(net: Any) -> None:
    """Every block begins as the identity, and the output as zero; labels are dropped by us."""
    for block in net.transformer_blocks:
        nn.init.zeros_(block.norm1.linear.weight)
        nn.init.zeros_(block.norm1.linear.bias)
        embedder = block.norm1.emb.class_embedder
        nn.init.normal_(embedder.embedding_table.weight, std=0.02)
        embedder.dropout_prob = 0.0
    for layer in (net.proj_out_1, net.proj_out_2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def levels_of(scheduler: Scheduler) -> Levels:
    """Noise levels and times of a schedule; UserError if diffusers does not take its settings."""
    if scheduler.is_flow:
        return FlowLevels(scheduler.num_train_timesteps)
    return VpLevels(cast(Any, make_scheduler(scheduler)).alphas_cumprod)


def make_scheduler(scheduler: Scheduler) -> Any:
    """diffusers' scheduler, of a class of diffusers alone."""
    import diffusers

    try:
        return getattr(diffusers, scheduler.name).from_config(scheduler.settings)
    except (ValueError, TypeError, NotImplementedError, RuntimeError, ImportError) as error:
        said = str(error).split("\n")[0]
        raise UserError(f"scheduler: {scheduler.name}: {said}; correct its settings") from None


class Denoiser:
    """A network as a denoiser; ``precision``: the number type of its products.

    A variance that it predicts, too, is left out.
    """

    def __init__(
        self, net: nn.Module, levels: Levels, prediction: str, channels: int, precision: str
    ) -> None:
        self.net, self.levels, self.channels = net, levels, channels
        self.denoised, self.precision = DENOISED[prediction], precision

    def predict(self, seen: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        """The network's prediction (N, C, H, W) of x_t at times (N,), under labels (N,)."""
        with autocast(self.precision, seen.device):
            out = self.net(seen, time, class_labels=labels).sample
        return cast(Tensor, out[:, : self.channels].float())

    def __call__(self, noisy: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """D (N, C, H, W) of x + σε with σ (N,) or a number, under labels (N,)."""
        noisy, sigma = noisy.float(), sigma.float().expand(len(noisy))
        level = sigma.view(-1, 1, 1, 1)
        seen = self.levels.scale_of(level) * noisy
        out = self.predict(seen, self.levels.time_of(sigma), labels)
        return self.denoised(noisy, out, level)

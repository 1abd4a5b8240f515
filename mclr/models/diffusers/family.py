"""Networks of diffusers as a model family: denoising surrogate, Heun or scheduler sampling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from mclr.data.load import Manifest
from mclr.device import CPU, fused
from mclr.errors import UserError
from mclr.likelihood import Denoise, Draw
from mclr.models.denoising import DenoisingFamily
from mclr.models.diffusers.autoencoder import FolderAutoencoder, ScaledPixels
from mclr.models.diffusers.config import DiffusersBase, DiffusersSampler
from mclr.models.diffusers.folder import Drawn
from mclr.models.diffusers.network import Denoiser, build, levels_of
from mclr.models.diffusers.prediction import TARGET
from mclr.models.diffusers.sampler import guided_prediction, scheduler_sample
from mclr.models.edm2.config import Edm2Sampler
from mclr.models.edm2.sampler import ConditionalDenoiser
from mclr.models.precision import check_precision
from mclr.models.recipe import Recipe, linear_learning_rate
from mclr.models.spec import DiffusersSpec
from mclr.settings.section import NoiseLevels


class DiffusersFamily(DenoisingFamily):
    """See ``mclr.models.family.Family``.

    x is pixels in [−1, 1], or scaled draws of the latents of an ``autoencoder`` with its weights.
    """

    def __init__(
        self,
        network: DiffusersSpec,
        manifest: Manifest,
        noise: NoiseLevels | None,
        sampler: dict[str, Any] | None,
        precision: str = "float32",
        device: torch.device = CPU,
        autoencoder: Path | None = None,
        decoding: str = "float32",
    ) -> None:
        self.device, self.precision = device, check_precision(precision)
        self.encoder: FolderAutoencoder | ScaledPixels = ScaledPixels()
        self.shape, self.classes = manifest.shape, manifest.num_classes
        if network.autoencoder:
            if autoencoder is None:
                raise UserError("a model of latents needs its autoencoder: give --tokenizer")
            self.encoder = FolderAutoencoder(autoencoder, device, decoding)
            self.shape = self.encoder.shape_of(manifest)
        self.network, self.scheduler = network.model, network.scheduler
        self.sigma_data = network.sigma_data
        self.levels, self.noise = levels_of(self.scheduler), noise
        told: TypeAdapter[Any] = TypeAdapter(DiffusersSampler)
        self.sampler = told.validate_python(sampler) if sampler else None

    @property
    def drawn(self) -> Drawn:
        """What the network draws."""
        return Drawn(self.shape[0], self.shape[1], self.classes)

    def build(self, generator: torch.Generator) -> nn.Module:
        return build(self.network, self.drawn, generator)

    def encode(self, images: Tensor) -> Tensor:
        if isinstance(self.encoder, ScaledPixels):
            return self.encoder.encode_latents(images)
        return self.encoder.encode_pixels(images).cpu()

    def from_encoded(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        return self.encoder.encode_latents(rows, generator)

    def decode(self, x: Tensor) -> Tensor:
        return self.encoder.decode(x)

    def denoiser(self, net: nn.Module) -> Denoiser:
        """The network as D_θ(x; σ, c)."""
        prediction = self.scheduler.prediction
        return Denoiser(net, self.levels, prediction, self.shape[0], self.precision)

    def _denoise(self, net: nn.Module, device: torch.device, draw: Draw | None = None) -> Denoise:
        return self.denoiser(net)

    # Ho et al. (arXiv 2006.11239), Eq. 14, for whatever is predicted: ‖ŷ − y‖², per pixel.
    def base_loss(self, net: nn.Module, x: Tensor, labels: Tensor, draw: Draw) -> Tensor:
        if draw.sigma is None or draw.epsilon is None:
            raise ValueError("training of a predictor needs a noise draw")
        level = draw.sigma.view(-1, 1, 1, 1)
        target = TARGET[self.scheduler.prediction](x, draw.epsilon, level)
        seen = self.levels.scale_of(level) * (x + level * draw.epsilon)
        found = self.denoiser(net).predict(seen, self.levels.time_of(draw.sigma), labels)
        return (found - target).square().mean()

    # DiT trains with AdamW and an average of the weights; warm-up and decay are ours.
    def recipe(self, net: nn.Module, settings: DiffusersBase) -> Recipe:
        def learning_rate(step: int) -> float:
            return linear_learning_rate(
                step, lr=settings.lr, warmup_steps=settings.warmup_steps, steps=settings.steps
            )

        optimizer = torch.optim.AdamW(
            net.parameters(), weight_decay=settings.weight_decay, fused=fused(self.device)
        )
        return Recipe(optimizer, learning_rate, settings.ema_std)

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
        if self.sampler is None:
            raise ValueError("sampler settings are needed to generate")
        if guidance and guide is None and not getattr(self.network, "null_label", True):
            raise UserError(f"guidance {guidance:g}: this network has no null label; use 0")
        labels = labels.to(self.device)
        strong = self.denoiser(self._still(net))
        weak = self.denoiser(self._still(guide)) if guide else None
        if not isinstance(self.sampler, Edm2Sampler):
            null = torch.full_like(labels, self.classes)
            predict = guided_prediction(strong, labels, null, guidance, weak, interval)
            steps = self.sampler.num_steps
            return scheduler_sample(self.scheduler, steps, predict, seeds, self.shape, self.device)
        condition = nn.functional.one_hot(labels, self.classes).float()
        fixed, guiding = self._of_one_hot(strong), self._of_one_hot(weak) if weak else None
        return self.heun(self.sampler, fixed, guiding, condition, seeds, guidance, interval)

    def _of_one_hot(self, denoiser: Denoiser) -> ConditionalDenoiser:
        """The same of labels as rows (N, classes), of which zeros are the null label."""

        def denoise(x: Tensor, sigma: Tensor, rows: Tensor | None) -> Tensor:
            if rows is None:
                raise ValueError("labels are needed")
            labels = torch.where(rows.any(1), rows.argmax(1), self.classes)
            return denoiser(x, sigma, labels)

        return denoise

    def _still(self, net: nn.Module) -> nn.Module:
        """The network without dropout."""
        return self.frozen(net) if net.training else net

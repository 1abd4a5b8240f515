"""The job that trains what turns images into what a model models, and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mclr.data.load import Manifest, minibatch, step_generator
from mclr.device import CPU, move
from mclr.files import save_tensors
from mclr.jobs.inputs import Data, run_training, state_folder
from mclr.models.edm2.config import Autoencoder, AutoencoderTraining
from mclr.models.edm2.latents import (
    build_autoencoder,
    encode_moments,
    kl_divergence,
    latent_shape,
    latent_statistics,
    posterior,
)
from mclr.models.pixels import RgbEncoder
from mclr.models.precision import autocast
from mclr.models.recipe import linear_learning_rate
from mclr.models.var.config import TokenizerTraining, VqvaeArchitecture, VqvaeConfig
from mclr.models.var.vqvae import Vqvae
from mclr.objectives.loss import Loss, term
from mclr.planning.specs import TokenizerSpec
from mclr.settings.origin import Released
from mclr.settings.section import canonical
from mclr.training.trainee import Trainee

WARMUP_STEPS = 50
"""Steps over which the learning rate of the autoencoder rises."""
STATISTICS_IMAGES = 10_000
"""Training images that the mean and deviation of the latents are taken over, at most."""


def train_tokenizer(
    spec: TokenizerSpec,
    data: Data,
    output: Path,
    state: Path,
    device: torch.device = CPU,
    version: str = "",
) -> None:
    """Train the VQ-VAE of an autoregressive model, or the autoencoder of a model of latents.

    version: of the result, see ``state_folder``.
    """
    images = data.train(state)[0]
    trainee, settings = _trainee(spec, images, data.manifest, device)
    private = state_folder(state, version, spec, data.folder / "train.parquet")
    with private.held():
        run_training(
            trainee,
            output.stem,
            (settings.steps,),
            settings.batch,
            settings.seed,
            private,
            output.with_name(f"{output.stem}-training"),
        )
        tensors = trainee.net.state_dict()
        if spec.autoencoder:
            some = images[:: -(-len(images) // STATISTICS_IMAGES)]
            raw = encode_moments(trainee.net.eval(), some, spec.precision, device)
            tensors |= latent_statistics(raw)
        save_tensors(output, tensors, {"spec": canonical(spec)}, noted=True)
        private.clear()


def _trainee(
    spec: TokenizerSpec, images: Tensor, manifest: Manifest, device: torch.device
) -> tuple[Trainee, TokenizerTraining | AutoencoderTraining]:
    """What is trained, and how."""
    if spec.autoencoder:
        made = autoencoder_trainee(spec.autoencoder, spec.precision, images, manifest, device)
        return made, spec.autoencoder.training
    if spec.tokenizer is None or isinstance(spec.tokenizer.training, Released):
        raise ValueError("neither a tokenizer nor an autoencoder to train")
    settings = spec.tokenizer.training
    return vqvae_trainee(spec.tokenizer.network, settings, images, manifest, device), settings


def vqvae_trainee(
    network: VqvaeArchitecture,
    settings: TokenizerTraining,
    images: Tensor,
    manifest: Manifest,
    device: torch.device,
) -> Trainee:
    """A multi-scale VQ-VAE to train on uint8 images (N, C, H, W)."""
    config = VqvaeConfig(**network.model_dump(), img_channels=manifest.channels)
    net = Vqvae.build(config, step_generator(settings.seed, 1)).to(device).train()

    def losses(step: int) -> Iterator[Loss]:
        x = _pixels(images, settings.batch, step, settings.seed, device)
        out = net(x)
        reconstruction = nn.functional.mse_loss(out.recon, x)
        terms = {
            "reconstruction": term(reconstruction),
            "codes_used": term((out.hits.sum(0) > 0).float().mean()),
        }
        yield Loss(reconstruction + out.vq_loss, terms)

    optimizer = torch.optim.Adam(net.parameters(), betas=(0.9, 0.99))
    return Trainee(net, optimizer, lambda step: settings.lr, losses)


def autoencoder_trainee(
    coder: Autoencoder,
    precision: str,
    images: Tensor,
    manifest: Manifest,
    device: torch.device,
) -> Trainee:
    """A KL autoencoder to train on uint8 images (N, C, H, W)."""
    network, settings = coder.network, coder.training
    shape = latent_shape(network, manifest)
    net = build_autoencoder(network, manifest.channels, step_generator(settings.seed, 1))
    net = net.to(device).train()

    # ‖x − decode(z)‖² + kl · KL(q(z|x) ‖ N(0, I)), z ~ q(z|x); the mean over the minibatch.
    def losses(step: int) -> Iterator[Loss]:
        x = _pixels(images, settings.batch, step, settings.seed, device)
        noise = torch.randn(len(x), *shape, generator=step_generator(settings.seed, step, 2))
        with autocast(precision, device):
            mean, log_variance = posterior(net, x)
            z = mean + move(noise, device) * (log_variance / 2).exp()
            reconstruction = cast(Any, net).decode(z).sample
        error = (reconstruction.float() - x).square().sum((1, 2, 3)).mean()
        divergence = kl_divergence(mean, log_variance).mean()
        terms = {"squared_error": term(error), "kl": term(divergence)}
        yield Loss(error + settings.kl * divergence, terms)

    return Trainee(
        net,
        torch.optim.Adam(net.parameters(), betas=(0.9, 0.99)),
        lambda step: linear_learning_rate(
            step, lr=settings.lr, warmup_steps=WARMUP_STEPS, steps=settings.steps
        ),
        losses,
    )


def _pixels(images: Tensor, batch: int, step: int, seed: int, device: torch.device) -> Tensor:
    """The minibatch of a step, (batch, C, H, W) in [−1, 1]."""
    rows = minibatch(len(images), batch, step, seed)
    return RgbEncoder().encode_latents(move(images[rows], device))

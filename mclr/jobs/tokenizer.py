"""The job that trains what turns images into what a model models, and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mclr.config import TokenizerTraining, canonical
from mclr.data.load import minibatch, step_generator
from mclr.files import save_tensors
from mclr.jobs.inputs import Data, run_training, state_folder
from mclr.models.var.config import VqvaeArchitecture, VqvaeConfig
from mclr.models.var.vqvae import Vqvae
from mclr.objectives.base import Loss
from mclr.training.trainee import Trainee


def train_tokenizer(spec: dict[str, Any], data: Data, output: Path, state: Path) -> None:
    """Train the multi-scale VQ-VAE of an autoregressive model."""
    settings = TokenizerTraining.model_validate(spec["tokenizer"]["training"])
    codes = VqvaeArchitecture.model_validate(spec["tokenizer"]["network"]).model_dump()
    net = Vqvae.build(
        VqvaeConfig(**codes, img_channels=data.manifest.channels), step_generator(settings.seed, 1)
    ).train()
    images = data.train()[0].float() / 127.5 - 1
    private = state_folder(state, __name__, spec, data.folder / "train.parquet")

    def losses(step: int) -> Iterator[Loss]:
        x = images[minibatch(len(images), settings.batch, step, settings.seed)]
        out = net(x)
        reconstruction = nn.functional.mse_loss(out.recon, x)
        terms = {
            "reconstruction": reconstruction.item(),
            "codes_used": (out.hits.sum(0) > 0).float().mean().item(),
        }
        yield Loss(reconstruction + out.vq_loss, terms)

    optimizer = torch.optim.Adam(net.parameters(), betas=(0.9, 0.99))
    trainee = Trainee(net, optimizer, lambda step: settings.lr, losses)
    with private.held():
        run_training(
            trainee,
            output.parent.name,
            (settings.steps,),
            settings.batch,
            settings.seed,
            private,
            output.parent,
        )
        save_tensors(output, net.state_dict(), {"spec": canonical(spec)})
        private.clear()

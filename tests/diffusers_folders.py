"""Tiny models of random weights in diffusers' layout, written by diffusers itself.

``python tests/diffusers_folders.py FOLDER`` writes one for ``tests/workflow/diffusers.yaml``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    UNet2DModel,
)
from torch import nn

from mclr.data.load import Manifest
from mclr.models.diffusers.checkpoint import pack_autoencoder, read_weights, weights_file
from mclr.models.diffusers.config import DiffusersModel
from mclr.models.diffusers.family import DiffusersFamily
from mclr.models.families import make_family
from mclr.models.spec import DiffusersSpec, ModelSpec
from mclr.settings.section import plain

DIT: dict[str, Any] = {
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "patch_size": 2,
    "in_channels": 4,
    "out_channels": 8,
    "sample_size": 4,
}
VAE: dict[str, Any] = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "norm_num_groups": 4,
    "latent_channels": 4,
    "scaling_factor": 0.7,
}
UNET: dict[str, Any] = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "sample_size": 8,
}


def make(cls: Any, seed: int, **settings: Any) -> Any:
    """A part with random weights, biases and embeddings, too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = cls(**settings)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return net.eval()


def dit_pipeline(classes: int = 10, channels: int = 1, **changes: Any) -> Any:
    """A DiT that predicts variances, too, on the latents of an autoencoder of 8×8 pixels."""
    dit = make(DiTTransformer2DModel, 1, num_embeds_ada_norm=classes, **(DIT | changes))
    vae = make(AutoencoderKL, 2, in_channels=channels, out_channels=channels, **VAE)
    scheduler = cast(Any, DDIMScheduler)(clip_sample=False)
    pipeline = cast(Any, DiTPipeline)(transformer=dit, vae=vae, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def unet_pipeline(classes: int = 10, channels: int = 1, scheduler: Any = None) -> Any:
    """A U-Net of 8×8 pixels with class embeddings, of which the last is the null label's."""
    sizes = {"in_channels": channels, "out_channels": channels, "num_class_embeds": classes + 1}
    unet = make(UNet2DModel, 3, **sizes, **UNET)
    return cast(Any, DDPMPipeline)(unet=unet, scheduler=scheduler or cast(Any, DDPMScheduler)())


def dit_folder(folder: Path, **changes: Any) -> Path:
    """The folder of ``dit_pipeline``."""
    dit_pipeline(**changes).save_pretrained(folder)
    return folder


def unet_folder(folder: Path, **changes: Any) -> Path:
    """The folder of ``unet_pipeline``."""
    unet_pipeline(**changes).save_pretrained(folder)
    return folder


def model_of(folder: Path, **changes: Any) -> DiffusersModel:
    """The model of a folder, as a tier has it."""
    content = {
        "family": "diffusers",
        "label": "tiny",
        "base": {"released": str(folder)},
        "noise": {"P_mean": 0.3, "P_std": 1.0},
        "sampler": {"kind": "scheduler", "num_steps": 6},
        "guidance": [0.5],
    }
    return DiffusersModel.model_validate(content | changes)


def images_of(classes: int = 10, channels: int = 1) -> Manifest:
    """Images of 8×8 pixels."""
    return Manifest(channels, 8, classes, tuple(map(str, range(classes))), {})


def loaded(
    folder: Path, manifest: Manifest | None = None, **changes: Any
) -> tuple[DiffusersFamily, nn.Module]:
    """The family of a folder, and its network."""
    manifest = manifest or images_of()
    model = model_of(folder, **changes)
    content = {"network": model.architecture(), "precision": model.precision}
    content |= {"noise": plain(model.noise), "sampler": plain(model.sampler)}
    spec = ModelSpec.model_validate(content)
    tokenizer = folder / "packed.safetensors" if model.has_coder else None
    if tokenizer:
        pack_autoencoder(folder, tokenizer)
    family = cast(DiffusersFamily, make_family(spec, manifest, tokenizer))
    network = cast(DiffusersSpec, spec.network)
    file = weights_file(folder, network.model.part)
    tensors = read_weights(network, family.drawn, file)
    net = family.build(torch.Generator().manual_seed(0))
    net.load_state_dict(tensors)
    return family, net.eval()


if __name__ == "__main__":
    dit_folder(Path(sys.argv[1]))

"""Whether the files of a model folder hold the networks that its configuration describes.

The configuration is somebody else's, and a few bytes of it can describe a network of any size: so
its tensors are counted without memory, and compared with what the files really have.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from mclr.errors import UserError
from mclr.inference.folder import CONFIG, TOKENIZER, WEIGHTS, ModelConfig
from mclr.models.edm2.config import AutoencoderArchitecture, Edm2Network
from mclr.models.edm2.encoders import VAE_REDUCTION
from mclr.models.edm2.latents import build_autoencoder, latent_shape
from mclr.models.edm2.precond import Precond
from mclr.models.spec import Edm2Spec, VarSpec
from mclr.models.trace import parameters
from mclr.models.var.config import VarConfig, VqvaeConfig
from mclr.models.var.network import Var
from mclr.models.var.vqvae import Vqvae

Make = Callable[[], nn.Module]
SD_CHANNELS = 4
"""Of Stable Diffusion's latents."""


def check_fits(folder: Path, config: ModelConfig) -> None:
    """UserError where a network has more numbers than the file of its weights.

    Of a family of somebody's own nothing is known; its class is the caller's.
    """
    for name, make in _networks(config).items():
        stored = _numbers(folder / name)
        try:
            with torch.device("meta"):
                described = parameters(make())
        except (RuntimeError, OverflowError) as error:  # beyond what torch can count
            first = str(error).splitlines()[0]
            raise UserError(f"{folder / CONFIG}: network: {first}; download it again") from None
        if described > stored:
            raise UserError(
                f"{folder / CONFIG}: network: describes {described:,} numbers, but {name} has "
                f"{stored:,}; export or download it again"
            )


def _numbers(path: Path) -> int:
    """Of all tensors, by the head of the file."""
    try:
        with safe_open(path, framework="pt") as stored:
            return sum(prod(stored.get_slice(name).get_shape()) for name in stored.keys())  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: checkpoint is truncated or not safetensors ({error}); download it again"
        ) from None


def _networks(config: ModelConfig) -> dict[str, Make]:
    """What builds the network of each file."""
    network, images = config.spec.network, config.manifest
    if isinstance(network, Edm2Spec):
        return _edm2(network, config)
    if isinstance(network, VarSpec):
        told = network.model_dump(exclude={"family", "tokenizer"})
        codes = VqvaeConfig(**network.tokenizer.model_dump(), img_channels=images.channels)
        shared = codes.model_dump(include={"patch_nums", "vocab_size", "z_channels"})
        var = VarConfig(**told, **shared, num_classes=images.num_classes)
        return {WEIGHTS: lambda: Var(var), TOKENIZER: lambda: Vqvae(codes)}
    return {}


def _edm2(network: Edm2Spec, config: ModelConfig) -> dict[str, Make]:
    images, inner, found = config.manifest, network.autoencoder, dict[str, Make]()
    shape: tuple[int, ...] = images.shape
    if isinstance(inner, AutoencoderArchitecture):
        shape = latent_shape(inner, images)
        generator = torch.Generator().manual_seed(0)
        found[TOKENIZER] = lambda: build_autoencoder(inner, images.channels, generator)
    elif inner:
        shape = (SD_CHANNELS, *[images.resolution // VAE_REDUCTION] * 2)
    told = network.model_dump(exclude={"family", "autoencoder", "unconditional"})
    denoiser = Edm2Network(
        **told,
        img_resolution=shape[1],
        img_channels=shape[0],
        label_dim=0 if network.unconditional else images.num_classes,
    )
    return found | {WEIGHTS: lambda: Precond(denoiser)}

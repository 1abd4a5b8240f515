"""Images to latents of Stable Diffusion's autoencoder, and back.

Latents of an autoencoder of the pipeline itself are in ``mclr.models.edm2.latents``. Constants are
those of EDM2 (Karras et al. 2024, arXiv 2312.02696, appendix B.1); its latents differ from other
users of the same autoencoder in having no factor 0.18215 and pixels in [0, 1].
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.extras import require
from mclr.files import load_tensors, save_tensors
from mclr.models.finite import note_finite
from mclr.models.pixels import check_pixels
from mclr.models.precision import decoding_in
from mclr.models.weights import load_weights

VAE_NAME = "stabilityai/sd-vae-ft-mse"
VAE_FILES = ("config.json", "diffusion_pytorch_model.safetensors")
VAE_CHANNELS = 4  # of its latents
VAE_REDUCTION = 8  # pixels per latent along one side
RAW_MEAN = (5.81, 3.25, 0.12, -2.15)  # of the latents of ImageNet, per channel
RAW_STD = (4.17, 4.62, 3.71, 3.28)
FINAL_MEAN, FINAL_STD = 0.0, 0.5  # what the denoiser expects: its sigma_data


class StabilityVaeEncoder:
    """Latents (N, 4, H/8, W/8) of Stable Diffusion's autoencoder, as in EDM2's ImageNet-512.

    source: a local copy of ``stabilityai/sd-vae-ft-mse`` in diffusers' layout, or the one file
    that ``pack_vae`` makes of it; it is read when an image is first encoded or decoded, so stored
    latents need no autoencoder. batch: images that go through the autoencoder at once. decoding:
    number type of the decoder, see ``mclr.settings.section.Decoding``.
    """

    def __init__(
        self,
        source: Path,
        device: torch.device | str = "cpu",
        batch: int = 8,
        decoding: str = "float32",
    ) -> None:
        self.source, self.device, self.batch = source, torch.device(device), batch
        self.decoding = decoding
        mean, std = (torch.tensor(values).view(4, 1, 1) for values in (RAW_MEAN, RAW_STD))
        self.scale = FINAL_STD / std
        self.bias = FINAL_MEAN - mean * self.scale

    def shape_of(self, manifest: Manifest) -> tuple[int, int, int]:
        """Shape (4, h, w) of the latents of one image; UserError if 8 does not divide its side."""
        if manifest.resolution % VAE_REDUCTION or manifest.channels != 3:
            raise UserError(
                f"images of {manifest.channels} channels and side {manifest.resolution}: the "
                f"autoencoder {VAE_NAME} expects RGB and a multiple of {VAE_REDUCTION}"
            )
        return 4, manifest.resolution // VAE_REDUCTION, manifest.resolution // VAE_REDUCTION

    @cached_property
    def vae(self) -> Any:
        """diffusers' ``AutoencoderKL``; UserError if its files are missing or do not fit."""
        vae = unpack_vae(self.source) if self.source.is_file() else read_vae(self.source)
        return vae.to(self.device).eval().requires_grad_(False)

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) to mean and deviation of each latent, (N, 8, H/8, W/8) float32.

        Raises UserError for another type or shape, or sides that are not multiples of 8.
        """
        check_pixels(pixels)
        if pixels.shape[1] != 3 or any(side % VAE_REDUCTION for side in pixels.shape[2:]):
            raise UserError(
                f"images of shape {tuple(pixels.shape[1:])}: the autoencoder expects (3, H, W) "
                f"with sides that are multiples of {VAE_REDUCTION}; crop or resize them"
            )
        raws = []
        for part in pixels.split(self.batch):
            distribution = self.vae.encode(part.to(self.device).float() / 255).latent_dist
            raws.append(torch.cat([distribution.mean, distribution.std], dim=1))
        return torch.cat(raws)

    def encode_latents(
        self, raw: Tensor, generator: Generator | None = None, *, noise: Tensor | None = None
    ) -> Tensor:
        """A sample (N, 4, h, w) of raw latents (N, 8, h, w); a new one for every draw of noise.

        noise: unit Gaussian (N, 4, h, w); without it, it is drawn from ``generator`` on the
        generator's device. Raises ValueError without both.
        """
        return draw_latents(raw, self.scale, self.bias, generator, noise)

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """Latents (N, 4, h, w) to images uint8 (N, 3, 8h, 8w): clamped, fractions cut off."""
        images = []
        for part in x.split(self.batch):
            z = (part.float() - self.bias.to(part.device)) / self.scale.to(part.device)
            with decoding_in(self.decoding, self.device):
                pixels = self.vae.decode(z.to(self.device)).sample.float()
            note_finite(pixels)
            images.append((pixels.clamp(0, 1) * 255).to(torch.uint8))
        return torch.cat(images)


def read_vae(folder: Path) -> Any:
    """diffusers' ``AutoencoderKL`` of a folder; UserError if its files are missing or unfit."""
    missing = [name for name in VAE_FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder}: no {' and no '.join(missing)} of the autoencoder {VAE_NAME}; "
            f"download {', '.join(VAE_FILES)} from https://huggingface.co/{VAE_NAME} into it"
        )
    require("diffusers")
    from diffusers import AutoencoderKL

    try:
        return AutoencoderKL.from_pretrained(  # type: ignore[no-untyped-call]
            folder,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,  # needs another package
        )
    except Exception as error:
        raise UserError(
            f"{folder}: not a readable autoencoder ({error}); download "
            f"{', '.join(VAE_FILES)} from https://huggingface.co/{VAE_NAME} again"
        ) from None


def pack_vae(folder: Path, output: Path) -> None:
    """One safetensors file of an autoencoder's folder: its weights, its configuration beside."""
    vae = read_vae(folder)
    about = {"config": json.dumps(dict(vae.config), default=str)}
    save_tensors(output, vae.state_dict(), about, noted=True)


def unpack_vae(file: Path) -> Any:
    """The autoencoder in a file of ``pack_vae``; UserError if it is none."""
    tensors, metadata = load_tensors(file)
    if "config" not in metadata:
        raise UserError(f"{file}: not an autoencoder of `pack_vae`; delete it and run again")
    require("diffusers")
    from diffusers import AutoencoderKL

    config = json.loads(metadata["config"])
    vae = AutoencoderKL.from_config(config)  # type: ignore[no-untyped-call]
    load_weights(vae, tensors, file)
    return vae


# z = mean + ε std, of the posterior of the autoencoder; x = z · scale + bias
def draw_latents(
    raw: Tensor, scale: Tensor, bias: Tensor, generator: Generator | None, noise: Tensor | None
) -> Tensor:
    """A sample x (N, c, h, w), float32, of raw latents (N, 2c, h, w): means and deviations.

    scale, bias: (c, 1, 1). noise: ε, unit Gaussian (N, c, h, w); without it, it is drawn from
    ``generator``. Raises ValueError without both.
    """
    mean, std = raw.float().chunk(2, dim=1)
    if noise is None:
        if generator is None:
            raise ValueError("a sample of latents needs a generator or its noise")
        noise = torch.randn(mean.shape, generator=generator, device=generator.device)
    z = mean + noise.to(mean) * std
    return z * scale.to(z) + bias.to(z)

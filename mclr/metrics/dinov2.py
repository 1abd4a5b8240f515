"""Features of FD_DINOv2 as EDM2 defines it: DINOv2 ViT-L/14, CLS token, images at 224 × 224.

EDM2 (Karras et al. 2024, arXiv 2312.02696) follows dgm-eval (Stein et al. 2023, arXiv 2306.04675).
torch-fidelity's own DINOv2 resizes otherwise, so its numbers are not FD_DINOv2 in this sense.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from mclr.errors import UserError
from mclr.metrics.pretrained import Published, mismatch, read_weights, rgb
from mclr.metrics.vit import VIT_L_14, Vit, VitConfig

DINOV2 = Published(
    "DINOv2 ViT-L/14",
    "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
)
RESOLUTION = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def resize_torch(images: Tensor, size: int) -> Tensor:
    """Bicubic with antialias in float32, neither rounded nor clipped: EDM2's default.

    images: uint8 (N, 3, H, W). Returns float32 (N, 3, size, size) in about 0–255.
    """
    return F.interpolate(images.float(), size=(size, size), mode="bicubic", antialias=True)


def resize_pil(images: Tensor, size: int) -> Tensor:
    """Pillow's bicubic, rounded to uint8, image by image: dgm-eval's, EDM2's slow reference.

    images: uint8 (N, 3, H, W). Returns float32 (N, 3, size, size) of whole numbers 0–255.
    """
    resized = images.new_empty(len(images), 3, size, size)
    for image, out in zip(images.cpu().permute(0, 2, 3, 1).numpy(), resized, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(image))
        scaled = np.array(picture.resize((size, size), Image.Resampling.BICUBIC))
        out.copy_(torch.from_numpy(scaled).permute(2, 0, 1))
    return resized.float()


RESIZE: dict[str, Callable[[Tensor, int], Tensor]] = {"torch": resize_torch, "pil": resize_pil}


class Dinov2(nn.Module):
    """A DINOv2 net as a feature net: it has features (N, D) and no logits.

    Args:
        resize: ``torch`` or ``pil``, see the functions of these names.
        resolution: side of the images the transformer sees.

    Raises:
        UserError: unknown resize.
    """

    def __init__(self, vit: Vit, resize: str, resolution: int = RESOLUTION) -> None:
        super().__init__()
        if resize not in RESIZE:
            raise UserError(f"resize: unknown name {resize!r}; choose from {', '.join(RESIZE)}")
        self.vit = vit
        self.resize = RESIZE[resize]
        self.resolution = resolution

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, D) and empty logits (N, 0) of images uint8 (N, 3 or 1, H, W)."""
        x = self.resize(rgb(images), self.resolution) / 255
        mean, std = (x.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        features: Tensor = self.vit((x - mean) / std)
        return features, features.new_empty(len(features), 0)


def load_dinov2(
    weights: Path,
    resize: str,
    *,
    sha256: str | None = None,
    config: VitConfig = VIT_L_14,
    resolution: int = RESOLUTION,
) -> Dinov2:
    """DINOv2 with the weights of a local file with the official names, float32, for inference.

    Args:
        weights: ``dinov2_vitl14_pretrain.pth``, or the same tensors as ``.safetensors``.
        sha256: what the file must hash to, if known.
        config, resolution: sizes; those of the published net unless it is another.

    Raises:
        UserError: missing, damaged or other file, or unknown resize.
    """
    state = read_weights(weights, DINOV2, sha256)
    try:
        return dinov2_of(state, resize, config, resolution)
    except RuntimeError as error:
        raise DINOV2.problem(weights, mismatch(error)) from None


def dinov2_of(
    state: dict[str, Tensor],
    resize: str,
    config: VitConfig = VIT_L_14,
    resolution: int = RESOLUTION,
) -> Dinov2:
    """DINOv2 with the given weights; RuntimeError if they do not fit, UserError as ``Dinov2``."""
    with torch.device("meta"):
        net = Dinov2(Vit(config), resize, resolution)
    net.vit.to_empty(device="cpu")
    net.vit.load_state_dict(state)
    return net.eval().requires_grad_(False)

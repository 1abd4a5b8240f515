"""Inception-v3 as FID and IS use it: torch-fidelity's port of the 2015 TensorFlow graph."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor, nn

from mclr.metrics.pretrained import Published, mismatch, read_weights, rgb

INCEPTION = Published(
    "Inception-v3 2015-12-05",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
)


class Inception(nn.Module):
    """torch-fidelity's Inception-v3 as a feature net; resizes to 299 × 299 as TensorFlow 1 did.

    ``forward`` returns the pool layer (N, 2048), used for FD, KID, precision and recall, and the
    logits without bias (N, 1008), used for the Inception Score.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        super().__init__()
        # The library unpickles whatever file it is given: it gets tensors that were checked.
        checked = io.BytesIO()
        torch.save(state, checked)
        checked.seek(0)
        with torch.random.fork_rng(devices=[]):
            self.net = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"], checked
            )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of images uint8 (N, 3 or 1, H, W)."""
        features, logits = self.net(rgb(images))
        return features, logits


def load_inception(weights: Path, *, sha256: str | None = None) -> Inception:
    """Inception with the weights of a local file, float32, for inference.

    Args:
        weights: torch-fidelity's ``weights-inception-2015-12-05-6726825d.pth``, or the same
            tensors as ``.safetensors``.
        sha256: what the file must hash to, if known.

    Raises:
        UserError: missing, damaged or other file.
    """
    try:
        return Inception(read_weights(weights, INCEPTION, sha256)).eval().requires_grad_(False)
    except RuntimeError as error:
        raise INCEPTION.problem(weights, mismatch(error)) from None

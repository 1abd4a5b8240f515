"""Files in the layouts of others, for the families that have one; each is imported when asked for.

Official files of EDM2 and VAR are read by ``mclr.weights``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from mclr.data.load import Manifest, load_manifest
from mclr.models.edm2.encoders import pack_vae
from mclr.models.family import Family
from mclr.models.spec import DiffusersSpec, Edm2Spec, Network, VarSpec
from mclr.models.var.config import VqvaeConfig


def read_folder(
    network: Network, family: Family, source: Path
) -> tuple[Path, dict[str, Tensor]] | None:
    """The file of weights of a folder, and its tensors; None: the family has no such folders.

    Raises:
        UserError: no weights in it, or those of another network.
    """
    if not isinstance(network, DiffusersSpec):
        return None
    from mclr.models.diffusers.checkpoint import read_weights, weights_file

    file = weights_file(source, network.model.part)
    return file, read_weights(network, cast(Any, family).drawn, file)


def official_tokenizer(network: Network, manifest: Path) -> VqvaeConfig | None:
    """The tokenizer of a network of tokens, for images of a manifest; None if it has none."""
    if not isinstance(network, VarSpec):
        return None
    channels = load_manifest(manifest).channels
    return VqvaeConfig(**network.tokenizer.model_dump(), img_channels=channels)


def pack_autoencoder_of(network: Network, source: Path, output: Path) -> None:
    """Write an autoencoder in diffusers' layout as the one file that the family reads.

    Raises:
        UserError: a file is missing or refused.
    """
    if isinstance(network, DiffusersSpec):
        from mclr.models.diffusers.checkpoint import pack_autoencoder

        pack_autoencoder(source, output)
    else:
        pack_vae(source, output)


def described(network: Network, images: Manifest) -> dict[str, Callable[[], nn.Module]]:
    """What builds the ``model`` and the ``tokenizer`` of a specification, from no file.

    Nothing of a family whose files say themselves what they hold, or that is somebody's own.
    """
    if isinstance(network, Edm2Spec):
        from mclr.models.edm2.checkpoint import described_edm2

        return described_edm2(network, images)
    if isinstance(network, VarSpec):
        from mclr.models.var.checkpoint import described_var

        return described_var(network, images)
    return {}

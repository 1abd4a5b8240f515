"""The families there are; each is imported when it is asked for."""

from __future__ import annotations

from pathlib import Path

import torch

from mclr.data.load import Manifest
from mclr.device import CPU
from mclr.errors import UserError
from mclr.extras import require
from mclr.models.family import Family
from mclr.models.spec import DiffusersSpec, ModelSpec


def make_family(
    spec: ModelSpec,
    manifest: Manifest,
    tokenizer: Path | None = None,
    device: torch.device = CPU,
) -> Family:
    """The family of a network, with the noise levels and sampler that the job is told.

    tokenizer: weights of the VQ-VAE of a VAR model, or of the autoencoder of a model of latents.
    Of a sampling job the specification also says what guides.

    Raises:
        UserError: no such family, a tokenizer or the extra ``diffusers`` is missing, or one's own
            class cannot what is asked.
    """
    content = spec.content()
    network, precision = content["network"], spec.precision
    family, decoding = network.pop("family"), spec.decoding or "float32"
    if family == "edm2":
        from mclr.models.edm2.family import Edm2Family

        noise, sampler = content.get("noise"), content.get("sampler")
        return Edm2Family(network, manifest, noise, sampler, precision, device, tokenizer, decoding)
    if family == "var":
        from mclr.models.var.family import VarFamily

        if tokenizer is None:
            raise UserError("a VAR model needs its tokenizer's weights: give --tokenizer")
        sampler = content.get("sampler")
        return VarFamily(network, manifest, tokenizer, sampler, precision, device, decoding)
    if isinstance(spec.network, DiffusersSpec):
        require("diffusers")
        from mclr.models.diffusers.family import DiffusersFamily

        told, sampler = spec.network, content.get("sampler")
        return DiffusersFamily(
            told, manifest, spec.noise, sampler, precision, device, tokenizer, decoding
        )
    if family == "own":
        from mclr.models.own.family import own_family

        return own_family(spec, manifest, device)
    raise UserError(f"model family {family!r} is unknown; choose from edm2, var, diffusers, own")

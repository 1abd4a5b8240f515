"""Model folders of the three kinds, tiny: EDM2 of pixels, EDM2 of latents, VAR."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tiny import Trained, edited

from mclr.files import read_json, save_tensors
from mclr.inference.folder import FORMAT, DialConfig, Images, ModelConfig, write_folder
from mclr.models.edm2.config import AutoencoderArchitecture
from mclr.models.edm2.latents import build_autoencoder, encode_moments, latent_statistics
from mclr.models.families import make_family
from mclr.planning.plan import Plan
from mclr.planning.specs import SampleSpec

KINDS = ("edm2", "latent", "var")
AUTOENCODER = {"channels": [4, 4], "latent_channels": 2, "norm_groups": 2}


@dataclass(frozen=True)
class Made:
    """A model folder, and what a sampling job is given for the same model."""

    folder: Path
    spec: SampleSpec
    weights: Path
    tokenizer: Path | None


def make(kind: str, trained: Trained, plan: Plan, place: Path) -> Made:
    """The folder of one kind; the job's specification is that of seed block 1."""
    name = "var" if kind == "var" else "edm2"
    points = plan.points(f"{name}-base")
    spec = plan.sample_spec(next(p for p in points if p.seed == 1 and p.guidance == 0))
    weights, tokenizer = trained.base(name), trained.tokenizer_of(name)
    if kind == "latent":
        spec = edited(spec, network={"autoencoder": AUTOENCODER})
        weights, tokenizer = _latent_weights(spec, trained, place)
    config = config_of(spec, trained.manifest)
    write_folder(place / kind, config, weights, tokenizer)
    return Made(place / kind, spec, weights, tokenizer)


def config_of(spec: SampleSpec, manifest: Path, dial: DialConfig | None = None) -> ModelConfig:
    content = read_json(manifest)
    images = Images(channels=1, resolution=8, class_names=content["class_names"])
    return ModelConfig(
        format=FORMAT,
        mclr="0",
        network=spec.content()["network"],
        precision=spec.precision,
        sampler=spec.sampler,
        images=images,
        dial=dial,
        null_label=True,
        batch=spec.batch,
        training={},
    )


def _latent_weights(spec: SampleSpec, trained: Trained, place: Path) -> tuple[Path, Path]:
    """Random weights of an autoencoder, and of a network of its latents that sees its labels."""
    from mclr.data.load import load_manifest

    manifest, generator = load_manifest(trained.manifest), torch.Generator().manual_seed(0)
    net = build_autoencoder(AutoencoderArchitecture(**AUTOENCODER), 1, generator).eval()
    pixels = torch.randint(256, (50, 1, 8, 8), generator=generator).to(torch.uint8)
    raw = encode_moments(net, pixels, "float32", torch.device("cpu"))
    tokenizer, weights = place / "autoencoder.safetensors", place / "latent.safetensors"
    save_tensors(tokenizer, net.state_dict() | latent_statistics(raw), {})
    denoiser = make_family(spec, manifest, tokenizer).build(generator)
    for name, parameter in denoiser.named_parameters():
        if name.endswith("gain"):
            torch.nn.init.ones_(parameter)
    save_tensors(weights, denoiser.state_dict(), {})
    return weights, tokenizer

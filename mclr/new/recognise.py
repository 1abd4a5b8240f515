"""Which network a file of weights holds; of safetensors files no tensor is read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from mclr.checkpoints.torchfile import read_pth
from mclr.checkpoints.unpickle import open_pickle
from mclr.data.load import load_manifest
from mclr.errors import UserError
from mclr.inference.folder import CONFIG, WEIGHTS, read_config
from mclr.models.edm2.checkpoint import read_edm2
from mclr.models.edm2.config import SD_VAE, Edm2Network
from mclr.models.var.checkpoint import VarKind, read_var
from mclr.models.var.config import PatchNums, VarConfig, VqvaeConfig
from mclr.weights.header import Header
from mclr.weights.importer import OLD_TORCH

SD_RELEASE = "sd-vae-ft-mse"
"""Stable Diffusion's autoencoder in ``data/versions.csv``, which EDM2 uses."""

Shapes = dict[str, list[int]]


@dataclass(frozen=True)
class Stored:
    """A network; for EDM2 what makes its latents, and P_mean and P_std of its training.

    label_dropout: of the training of the base; None: the file does not tell. assumed: values of the
    architecture that it does not tell, either.
    """

    config: Edm2Network | VarConfig | VqvaeConfig
    encoder: dict[str, Any] | None = None
    noise: dict[str, Any] = field(default_factory=dict)
    label_dropout: float | None = None
    assumed: dict[str, Any] = field(default_factory=dict)


def read_network(
    file: Path, option: str, kind: VarKind = "var", patch_nums: PatchNums | None = None
) -> Stored:
    """The network in an EDM2 pickle, a VAR .pth, or a safetensors file of this pipeline.

    option: what named the file, for errors. kind: what is wanted of a training checkpoint of VAR,
    which holds both. patch_nums: of a tokenizer, whose .pth does not tell them.

    Raises:
        UserError: no such file, a file that is refused, or one of something else.
    """
    if file.is_dir():
        raise UserError(
            f"{option}: {file} is a folder; give the file in it (model.safetensors), or a folder "
            "in diffusers' layout"
        )
    if not file.is_file():
        raise UserError(f"{option}: {file}: there is no such file; check the path")
    if file.suffix == ".safetensors":
        return _safetensors(file)
    with file.open("rb") as stream:
        start = stream.read(len(OLD_TORCH))
    if start.startswith(b"PK") or start == OLD_TORCH:
        told = {"patch_nums": patch_nums} if patch_nums else {}
        network = read_var(read_pth(file), file, kind, told)
        return Stored(network.config, assumed=network.assumed)
    with open_pickle(file) as pickle:
        found = read_edm2(pickle)
    # EDM2's own recipes drop no labels.
    return Stored(found.config, found.encoder, found.training, 0.0 if found.training else None)


def class_names_of(file: Path) -> tuple[str, ...]:
    """Names of the classes by label, where the files around one tell; else nothing.

    A model folder has them in its configuration, results in the prepared data of their tier.

    Raises:
        UserError: the file that would tell is damaged.
    """
    if file.name == WEIGHTS and (file.parent / CONFIG).is_file():
        return tuple(read_config(file.parent).images.class_names)
    for results in file.absolute().parents:
        if results.parent.name == "results":
            manifest = results.parents[1] / "data" / "prepared" / results.name / "manifest.json"
            return load_manifest(manifest).class_names if manifest.is_file() else ()
    return ()


def refuse(file: Path, why: str) -> NoReturn:
    """Raise the UserError for a file that a tier cannot start from."""
    raise UserError(
        f"{file}: {why}; expected an EDM2 pickle, a VAR .pth, or a safetensors file of "
        "`mclr import-weights`, of results/<tier>/best/ or of a model folder"
    )


def _safetensors(file: Path) -> Stored:
    """Imported weights, or a checkpoint of the pipeline."""
    metadata, shapes = _header(file)
    try:
        if "header" in metadata:
            return _imported(file, Header.model_validate_json(metadata["header"]))
        return _checkpoint(file, json.loads(metadata.get("spec", "{}")), shapes)
    except (ValidationError, KeyError, LookupError, StopIteration) as error:
        refuse(file, f"its description is damaged ({type(error).__name__})")


def _header(file: Path) -> tuple[dict[str, str], Shapes]:
    """Metadata of a safetensors file and the shapes of its tensors."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            content = json.loads(stream.read(min(length, file.stat().st_size)))
        metadata = content.pop("__metadata__", {})
        return metadata, {name: entry["shape"] for name, entry in content.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{file}: not a safetensors file; copy it again") from None


def _imported(file: Path, header: Header) -> Stored:
    if header.kind == "edm2":
        config = Edm2Network(**header.architecture)
        dropout = 0.0 if header.training else None
        return Stored(config, header.encoder, header.training, dropout)
    if header.kind == "var":
        return Stored(VarConfig(**header.architecture), assumed=header.assumed)
    if header.kind == "vqvae":
        return Stored(VqvaeConfig(**header.architecture), assumed=header.assumed)
    refuse(file, f"it holds {header.kind}, no network")


def _checkpoint(file: Path, spec: dict[str, Any], shapes: Shapes) -> Stored:
    """A network of the pipeline: its specification, and shapes that tell what the data decided."""
    network = dict(spec.get("network", {}))
    family = network.pop("family", None)
    if "tokenizer" in spec and not family:
        channels = shapes["encoder.conv_in.weight"][1]
        return Stored(VqvaeConfig(**spec["tokenizer"]["network"], img_channels=channels))
    read = {"edm2": _edm2, "var": _var}.get(family)
    if read is None:
        refuse(file, f"a model of family {family!r}" if family else "it does not say what it holds")
    return read(file, spec, network, shapes)


def _var(file: Path, spec: dict[str, Any], network: dict[str, Any], shapes: Shapes) -> Stored:
    codes = network.pop("tokenizer")
    common = {key: codes[key] for key in ("vocab_size", "z_channels", "patch_nums")}
    classes = shapes["class_emb.weight"][0] - 1
    return Stored(VarConfig(**network, **common, num_classes=classes))


def _edm2(file: Path, spec: dict[str, Any], network: dict[str, Any], shapes: Shapes) -> Stored:
    autoencoder = network.pop("autoencoder", None)
    if network.pop("unconditional", False):
        refuse(file, "its network sees no labels")
    if autoencoder not in (None, SD_VAE):
        refuse(
            file,
            "a model of the latents of an autoencoder that was trained in its own tier, which "
            "another tier cannot take over",
        )
    first = next(m for n in shapes if (m := re.fullmatch(r"unet\.enc\.(\d+)x\1_conv\.weight", n)))
    config = Edm2Network(
        **network,
        img_resolution=int(first[1]),
        img_channels=shapes[first[0]][1] - 1,  # the other one is constant
        label_dim=shapes["unet.emb_label.weight"][1],
    )
    encoder = {"class": "StabilityVAEEncoder", "vae_name": SD_RELEASE} if autoencoder else None
    dropout = spec.get("base", {}).get("label_dropout")
    return Stored(config, encoder, spec.get("noise", {}), dropout)

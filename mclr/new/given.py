"""A base model that the user has: what a tier has to say of it, and whether it fits the images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from mclr.errors import UserError
from mclr.models.diffusers.folder import (
    CONFIG,
    LABELS,
    VAE,
    find_folder,
    read_autoencoder,
    read_network,
    read_scheduler,
    width_of,
)
from mclr.models.edm2.config import Edm2Architecture, Edm2Network
from mclr.models.edm2.encoders import VAE_REDUCTION
from mclr.models.var.config import (
    PATCH_NUMS_256,
    PATCH_NUMS_512,
    VarArchitecture,
    VarConfig,
    VqvaeArchitecture,
    VqvaeConfig,
)
from mclr.new.recognise import SD_RELEASE, Stored, class_names_of, refuse
from mclr.new.recognise import read_network as read_stored
from mclr.new.survey import Survey

VAR_RELEASE = "var-vae"
"""VAR's tokenizer in ``data/versions.csv``."""

UNTRAINED = ("drop_path_rate", "dropout", "beta")
"""Values that matter in training alone."""

CODES = ("vocab_size", "z_channels", "patch_nums")
"""What a VAR transformer and its tokenizer have in common."""

SHOWN = 10
"""Class names that an error lists."""

WIDTHS = {"edm2": ("model_channels", 192), "var": ("embed_dim", 0)}
"""Where a network says its width, and what it is if it does not."""


@dataclass(frozen=True)
class Codes:
    """A tokenizer: the released one's name, or a file; section ``network`` of it."""

    released: str
    network: dict[str, Any]


@dataclass(frozen=True)
class GivenBase:
    """A base model in a file: section ``network``, and the images that it draws.

    is_latent: of the latents of Stable Diffusion, or of the folder's own autoencoder. noise: P_mean
    and P_std of its training, if known. null_label: whether its training dropped labels; None: not
    known. names: of its classes, by label; empty where nothing tells. label: what the tier calls
    it, if not by its family.
    """

    file: str
    family: Literal["edm2", "var", "diffusers"]
    network: dict[str, Any]
    resolution: int
    channels: int
    classes: int
    is_latent: bool = False
    noise: tuple[float, float] | None = None
    null_label: bool | None = None
    codes: Codes | None = None
    names: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    """What its files do not tell, and what was taken for it, in words."""
    label: str = ""
    channels_wide: int = 0
    """Of a network that its folder describes, and not ``network``."""

    @property
    def width(self) -> int:
        """Channels of the network, as far as ``network`` says."""
        if self.channels_wide:
            return self.channels_wide
        key, default = WIDTHS[self.family]
        return int(self.network.get(key, default))


def recognise(file: Path, tokenizer: Path | None = None) -> GivenBase:
    """The base model in an EDM2 pickle, a VAR .pth, or a safetensors file of this pipeline.

    Or in a folder in diffusers' layout, or the local copy of such a model of a hub, by its id.

    tokenizer: of a VAR transformer, if not the released one.

    Raises:
        UserError: no such file, a file that is refused, or a network that a tier cannot start from.
    """
    if folder := _folder(file):
        if tokenizer:
            raise UserError(f"--tokenizer: {file} is no VAR transformer; leave it out")
        return _diffusers(str(file), folder)
    stored = read_stored(file, "--base")
    if isinstance(stored.config, VarConfig):
        found = _var(file, stored, stored.config, tokenizer)
    elif tokenizer:
        raise UserError(f"--tokenizer: {file} is no VAR transformer; leave it out")
    elif isinstance(stored.config, VqvaeConfig):
        refuse(file, "it is a tokenizer, no base model")
    else:
        found = _edm2(file, stored, stored.config)
    names = class_names_of(file)
    return replace(found, names=names if len(names) == found.classes else ())


def check_fit(base: GivenBase, found: Survey) -> None:
    """UserError unless the base draws images such as these, of the same classes."""
    if base.classes != len(found.classes):
        what = f"draws {base.classes} classes" if base.classes else "sees no labels"
        raise UserError(
            f"--base: {base.file} {what}, the images have {len(found.classes)}; choose a base of "
            "these classes, in the order of their names, or leave --base out to train one"
        )
    _check_names(base, list(found.classes))
    if base.channels == 1 and not found.is_grey:
        raise UserError(
            f"--base: {base.file} draws grey images, but not all of yours are grey; convert them, "
            "or leave --base out to train a base model"
        )
    if base.resolution > found.sides[1]:
        raise UserError(
            f"--base: {base.file} draws {base.resolution}×{base.resolution} pixels, but half of "
            f"the images have a short side of {found.sides[1]} or less; take larger images or "
            "another base"
        )


def _check_names(base: GivenBase, names: list[str]) -> None:
    """UserError unless a label means the same class to the base; numbers say nothing of classes."""
    numbers = [str(label) for label in range(len(names))]
    if not base.names or numbers in (list(base.names), names):
        return
    pairs = zip(base.names, names, strict=True)
    other = next((label for label, (known, name) in enumerate(pairs) if known != name), None)
    if other is not None:
        known = ", ".join(base.names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
        raise UserError(
            f"--base: {base.file} knows class {other} as {base.names[other]!r}, but of the images "
            f"it is {names[other]!r}; name the sub-folders as the base does ({known}), or leave "
            "--base out to train one"
        )


def _folder(file: Path) -> Path | None:
    """The folder of a model in diffusers' layout, if this is one."""
    if not file.is_dir() and (file.exists() or len(file.parts) != 2 or file.suffix):
        return None
    try:
        found = find_folder(str(file))
    except UserError:
        return None
    parts = (found / part / CONFIG for part in ("transformer", "unet"))
    return found if any(part.is_file() for part in parts) else None


def _diffusers(name: str, folder: Path) -> GivenBase:
    """A class-conditional network of diffusers."""
    from mclr.models.diffusers.checkpoint import check_size

    network, drawn = read_network(folder)
    check_size(network, drawn, folder)
    read_scheduler(folder)
    is_latent, side, channels = (folder / VAE).is_dir(), drawn.side, drawn.channels
    if is_latent:
        coder = read_autoencoder(folder)
        side, channels = side * coder.factor, coder.channels
    return GivenBase(
        name,
        "diffusers",
        {},
        side,
        channels,
        drawn.classes,
        is_latent,
        null_label=True,
        label=LABELS[network.kind],
        channels_wide=width_of(network),
    )


def _edm2(file: Path, stored: Stored, config: Edm2Network) -> GivenBase:
    encoder, levels = stored.encoder or {}, (stored.noise.get("P_mean"), stored.noise.get("P_std"))
    is_latent = encoder.get("class") == "StabilityVAEEncoder"
    if is_latent and SD_RELEASE not in str(encoder.get("vae_name")):
        refuse(file, f"its latents are those of another autoencoder than {SD_RELEASE}")
    if not is_latent and config.img_channels not in (1, 3):
        refuse(file, f"it draws {config.img_channels} channels and names no autoencoder")
    dropout = stored.label_dropout
    return GivenBase(
        str(file),
        "edm2",
        _changed(config, Edm2Architecture),
        config.img_resolution * (VAE_REDUCTION if is_latent else 1),
        3 if is_latent else config.img_channels,
        config.label_dim,
        is_latent,
        None if levels[0] is None or levels[1] is None else (float(levels[0]), float(levels[1])),
        None if dropout is None else dropout > 0,
    )


def _var(file: Path, stored: Stored, config: VarConfig, tokenizer: Path | None) -> GivenBase:
    assumed = [_told(file, "network", stored.assumed)]
    codes: object
    if tokenizer:
        found = read_stored(tokenizer, "--tokenizer", "vqvae", config.patch_nums)
        assumed.append(_told(tokenizer, "tokenizer.network", found.assumed))
        codes = found.config
    else:
        codes = VqvaeConfig(patch_nums=config.patch_nums)
        if config.patch_nums not in (PATCH_NUMS_256, PATCH_NUMS_512) or _misfit(config, codes):
            raise UserError(
                f"--base: {file} is a VAR transformer of another tokenizer than the released one; "
                "give its file with --tokenizer"
            )
    if not isinstance(codes, VqvaeConfig):
        raise UserError(f"--tokenizer: {tokenizer} is no tokenizer of a VAR model; check the path")
    if key := _misfit(config, codes):
        raise UserError(
            f"--tokenizer: {tokenizer} has {key} {getattr(codes, key)}, but {file} "
            f"{getattr(config, key)}; give the tokenizer that it was trained with"
        )
    return GivenBase(
        str(file),
        "var",
        _changed(config, VarArchitecture),
        codes.patch_nums[-1] * codes.downsampling,
        codes.img_channels,
        config.num_classes,
        null_label=True,  # as in every VAR
        codes=Codes(str(tokenizer or VAR_RELEASE), _changed(codes, VqvaeArchitecture)),
        assumed=tuple(filter(None, assumed)),
    )


def _told(file: Path, section: str, assumed: dict[str, Any]) -> str:
    """What a file does not tell, in words; '' if it tells all."""
    values = ", ".join(f"{key} {value}" for key, value in assumed.items() if key not in UNTRAINED)
    return values and (
        f"{file}: it does not tell {values}, which is taken for granted; where it was trained "
        f"otherwise, say so in models.<model>.{section} of the configuration"
    )


def _misfit(config: VarConfig, codes: VqvaeConfig) -> str:
    """The first key in which transformer and tokenizer differ; '' if there is none."""
    return next((key for key in CODES if getattr(config, key) != getattr(codes, key)), "")


def _changed(config: BaseModel, architecture: type[BaseModel]) -> dict[str, Any]:
    """What a configuration has to say of a network: all values but the defaults."""
    plain = config.model_dump(mode="json", include=set(architecture.model_fields))
    fields = architecture.model_fields
    return {n: v for n, v in plain.items() if getattr(config, n) != fields[n].default}

"""A model's folder in diffusers' layout: where its parts are, and what their configurations say.

Somebody else wrote it, so that only known keys of known classes are read, of files of bounded size.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, TypeAdapter, ValidationError

from mclr.data.releases import released_row
from mclr.errors import UserError
from mclr.extras import require
from mclr.models.diffusers.architecture import (
    Architecture,
    DitArchitecture,
    Scheduler,
    UnetArchitecture,
)

WEIGHTS = "diffusion_pytorch_model.safetensors"
CONFIG, SCHEDULER_CONFIG, INDEX = "config.json", "scheduler_config.json", "model_index.json"
VAE, SCHEDULER = "vae", "scheduler"
MAX_CONFIG_BYTES = 1 << 20
HUB_ID = re.compile(r"([\w-][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")

CLASSES = {
    "DiTTransformer2DModel": "dit",
    "Transformer2DModel": "dit",  # what DiT was before diffusers 0.29
    "UNet2DModel": "unet",
}
LABELS = {"dit": "DiT", "unet": "U-Net"}
"""What a tier calls a network, if it is not told."""
OF_DATA = {
    *("sample_size", "in_channels", "out_channels"),
    *("num_embeds_ada_norm", "num_class_embeds"),
}
"""What the data decide."""
IDLE: dict[str, Any] = {
    "norm_type": "ada_norm_zero",
    "norm_num_groups": 32,
    "attention_type": "default",
    "num_train_timesteps": None,
}
"""Keys that a network does not use, with the value that must be theirs if it is not empty."""


@dataclass(frozen=True)
class Drawn:
    """What a network draws: ``channels`` of ``side`` × ``side``, of so many classes."""

    channels: int
    side: int
    classes: int


def find_folder(name: str) -> Path:
    """The folder itself, or what the local cache has of an id of the Hugging Face Hub.

    name: a path, or ``someone/their-model``, with ``@revision`` if not the main one. Nothing is
    downloaded. Raises UserError if there is neither.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if found := HUB_ID.fullmatch(name):
        require("huggingface_hub")
        try:
            from huggingface_hub import snapshot_download

            return Path(
                snapshot_download(found[1], revision=found[2] or None, local_files_only=True)
            )
        except Exception:  # not there, or not whole: any of the client's own classes
            pass
    raise UserError(
        f"released: {name}: no such folder, and no such model in the local cache of the Hugging "
        "Face Hub; give a folder in diffusers' layout, or fetch it with `hf download`"
    )


def weights_of(name: str, part: str) -> str:
    """The weights of a part of a released folder; a name of data/versions.csv stays one."""
    if released_row(f"{name}/weights") or released_row(name) or Path(name).suffix == ".safetensors":
        return name
    try:
        folder = find_folder(name)
    except UserError:
        folder = Path(name)  # the job that reads it says so
    inner = folder / part
    return str((inner if inner.is_dir() or not (folder / CONFIG).is_file() else folder) / WEIGHTS)


def read_network(folder: Path) -> tuple[DitArchitecture | UnetArchitecture, Drawn]:
    """The network of a model's folder, and what it draws.

    Raises:
        UserError: no such network, or one of a class or with a setting that is not known.
    """
    for part in (DitArchitecture.part, UnetArchitecture.part):
        if (folder / part / CONFIG).is_file():
            return parse_network(folder / part / CONFIG)
    raise UserError(
        f"{folder}: neither transformer/{CONFIG} nor unet/{CONFIG}; expected the folder of a "
        "class-conditional model that diffusers' `save_pretrained` wrote"
    )


def width_of(network: DitArchitecture | UnetArchitecture) -> int:
    """Channels of a token, or of the largest resolution."""
    if isinstance(network, DitArchitecture):
        return network.num_attention_heads * network.attention_head_dim
    return network.block_out_channels[0]


def parse_network(path: Path) -> tuple[DitArchitecture | UnetArchitecture, Drawn]:
    """The same, of the configuration of the network itself."""
    content = read_config(path)
    name = content.pop("_class_name", None)
    kind = CLASSES.get(name) if isinstance(name, str) else None
    if kind is None:
        _refuse(path, f"a network of class {name!r}; known are {', '.join(CLASSES)}")
    drawn, more = _drawn(path, kind, content)
    cls: type[BaseModel] = DitArchitecture if kind == "dit" else UnetArchitecture
    told = {"kind": kind, **more}
    for key, value in content.items():
        if key in cls.model_fields and key not in told:
            told[key] = value
        elif key not in OF_DATA and not key.startswith("_"):
            idle = value is None or value is False or value == IDLE.get(key)
            if not idle:
                _refuse(path, f"setting {key} = {value!r}, which is not known")
    try:
        found: DitArchitecture | UnetArchitecture = TypeAdapter(Architecture).validate_python(told)
    except ValidationError as error:
        _impossible(path, error)
    return found, drawn


def _drawn(path: Path, kind: str, content: dict[str, Any]) -> tuple[Drawn, dict[str, bool]]:
    """What the data decide, and what follows from it for the architecture."""

    def count(key: str, default: int | None = None) -> int:
        value = content.get(key, default)
        sides = value if isinstance(value, list) and value else [value]
        value = sides[0] if all(side == sides[0] for side in sides) else value
        if type(value) is not int or not 1 <= value <= 1 << 20:
            _refuse(path, f"{key} = {value!r}; expected a count, of a class-conditional network")
        return value

    usual = {"dit": 4, "unet": 3}[kind]
    channels = count("in_channels", usual)
    told = content.get("out_channels", channels if kind == "dit" else usual)
    out = channels if told is None else told
    if out not in (channels, 2 * channels):
        _refuse(path, f"{out!r} channels out, {channels} in; expected as many, or twice as many")
    side, more = count("sample_size", 32 if kind == "dit" else None), {}
    if kind == "dit":
        classes = count("num_embeds_ada_norm", 1000)
    else:
        if content.get("class_embed_type") is not None:
            _refuse(path, "class_embed_type: expected embeddings of classes (null)")
        # Nothing tells whether the last one is of a class; `network` of the configuration can.
        classes = count("num_class_embeds") - 1
        more["null_label"] = True
    return Drawn(channels, side, classes), {**more, "learned_variance": out == 2 * channels}


@dataclass(frozen=True)
class Coded:
    """Of an autoencoder: channels of its images, and pixels of a latent along a side."""

    channels: int
    factor: int


def read_autoencoder(folder: Path) -> Coded:
    """The ``AutoencoderKL`` of a model's folder; UserError if there is none."""
    path = folder / VAE / CONFIG
    content = read_config(path)
    channels, widths = content.get("in_channels", 3), content.get("block_out_channels")
    if channels not in (1, 3) or not isinstance(widths, list) or not 1 <= len(widths) <= 8:
        _refuse(path, "an autoencoder of images of other than 1 or 3 channels, or of no known size")
    check_scaling(path, content)
    return Coded(channels, 2 ** (len(widths) - 1))


def check_scaling(path: Path, content: Mapping[str, Any]) -> None:
    """UserError unless latents are scaled by one number alone, ``scaling_factor``."""
    scale = content.get("scaling_factor", 0.18215)
    if type(scale) not in (int, float) or not 0 < scale < math.inf:
        _refuse(path, f"scaling_factor = {scale!r}; expected a positive number")
    for key in ("shift_factor", "latents_mean", "latents_std"):
        if content.get(key):
            _refuse(path, f"{key} = {content[key]!r}: latents that are moved are not known")


def read_scheduler(folder: Path) -> Scheduler:
    """The scheduler of a model's folder; UserError if there is none, or an unknown one."""
    path = folder / SCHEDULER / SCHEDULER_CONFIG
    content = read_config(path)
    try:
        told = scheduler_settings(content)
        return Scheduler.model_validate(told | {"name": content.get("_class_name")})
    except ValidationError as error:
        _impossible(path, error)


def scheduler_settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration has to say: no −∞, which JSON has not, and which is a default."""
    own = {key: value for key, value in content.items() if not key.startswith("_")}
    return {key: value for key, value in own.items() if value != -math.inf}


def read_config(path: Path) -> dict[str, Any]:
    """A configuration of diffusers: a mapping in a JSON file of moderate size."""
    if not path.is_file():
        raise UserError(f"{path}: file is missing; copy the model's folder again, whole")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        _refuse(path, "larger than any configuration")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        _refuse(path, "not valid JSON")
    if not isinstance(content, dict):
        _refuse(path, "not a mapping of settings")
    return content


def _refuse(path: Path, what: str) -> NoReturn:
    raise UserError(f"{path}: {what}; choose another model")


def _impossible(path: Path, error: ValidationError) -> NoReturn:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    _refuse(path, f"{where}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": "))

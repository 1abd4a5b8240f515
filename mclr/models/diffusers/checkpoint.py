"""Weights of a folder in diffusers' layout, taken over and written; no code of it is run."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from mclr.checkpoints.fit import check_finite
from mclr.errors import UserError
from mclr.files import load_tensors, save_tensors, write_json
from mclr.models.diffusers.architecture import DitArchitecture, UnetArchitecture
from mclr.models.diffusers.folder import (
    CONFIG,
    INDEX,
    SCHEDULER,
    SCHEDULER_CONFIG,
    VAE,
    WEIGHTS,
    Drawn,
    check_scaling,
    parse_network,
    read_config,
    scheduler_settings,
)
from mclr.models.diffusers.network import Dit, Unet, diffusers_config, make_scheduler
from mclr.models.spec import DiffusersSpec

FREE = ("dropout", "null_label")
"""What a network may have otherwise than the file: neither has weights of its own."""
CLASS = {"dit": "DiTTransformer2DModel", "unet": "UNet2DModel"}
PIPELINE = {"dit": "DiTPipeline", "unet": "DDPMPipeline"}
MAX_LEVELS, MAX_LAYERS, MAX_WIDTH = 8, 16, 1 << 13
"""Of an autoencoder; Stable Diffusion's has 4 levels of 2 layers, up to 512 channels wide."""


def weights_file(source: Path, part: str) -> Path:
    """The weights of a part of a model's folder; ``source``: that folder, the part's, or the file.

    Raises:
        UserError: there are none that can be read without running code.
    """
    if source.is_file():
        return source
    folder = source / part if (source / part).is_dir() else source
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    others = sorted(path.name for path in folder.glob("*.bin"))
    raise UserError(
        f"{folder / WEIGHTS}: no such file"
        + (f" (only {others[0]}, a pickle, which is not read)" if others else "")
        + "; write the model with diffusers' `save_pretrained`, in one file "
        "(safe_serialization=True, max_shard_size='100GB')"
    )


def read_weights(network: DiffusersSpec, drawn: Drawn, file: Path) -> dict[str, Tensor]:
    """Tensors of a released network, of which the folder says that it is that of ``network``.

    Raises:
        UserError: another network, or weights that do not fit.
    """
    if not file.with_name(CONFIG).is_file():  # a checkpoint of the pipeline
        tensors = load_tensors(file)[0]
        check_finite(tensors, file)
        return tensors
    _require_same(network, drawn, file.with_name(CONFIG))
    return _read(_class(network.model), diffusers_config(network.model, drawn), file)


def pack_autoencoder(source: Path, output: Path) -> None:
    """One safetensors file of a folder's autoencoder: its weights, its configuration beside.

    Raises:
        UserError: no ``AutoencoderKL``, or one that cannot be read.
    """
    file = weights_file(source, VAE)
    content = read_config(file.with_name(CONFIG))
    if content.get("_class_name") != "AutoencoderKL":
        _refuse(file, f"an autoencoder of class {content.get('_class_name')!r}, not AutoencoderKL")
    known = inspect.signature(AutoencoderKL.__init__).parameters
    settings = {key: value for key, value in content.items() if key in known}
    widths = settings.get("block_out_channels")
    levels = widths if isinstance(widths, list) and len(widths) <= MAX_LEVELS else [0]
    counts = [*levels, settings.get("latent_channels", 4), settings.get("in_channels", 3)]
    layers = settings.get("layers_per_block", 1)
    if not _within(layers, MAX_LAYERS) or not all(_within(n, MAX_WIDTH) for n in counts):
        _refuse(file, "an autoencoder of impossible sizes")
    check_scaling(file.with_name(CONFIG), content)
    tensors = _read(cast(Any, AutoencoderKL), settings, file)
    save_tensors(output, tensors, {"config": json.dumps(settings, sort_keys=True)})


def _within(count: Any, most: int) -> bool:
    return type(count) is int and 1 <= count <= most


def check_size(network: DitArchitecture | UnetArchitecture, drawn: Drawn, folder: Path) -> None:
    """UserError if a folder's file of weights is too small for the network that it describes."""
    file = weights_file(folder, network.part)
    _check_size(_class(network), diffusers_config(network, drawn), file)


def _class(network: DitArchitecture | UnetArchitecture) -> Any:
    return Dit if isinstance(network, DitArchitecture) else Unet


def _check_size(cls: Any, settings: dict[str, Any], file: Path) -> None:
    """The network is made without memory for its weights."""
    try:
        with torch.device("meta"):
            size = sum(value.numel() for value in cls(**settings).state_dict().values())
    except Exception as error:  # settings are somebody else's
        _refuse(file, f"its configuration is impossible ({str(error).splitlines()[0]})")
    if size > file.stat().st_size:  # a number takes a byte or more
        _refuse(file, f"too small for the {size:,} numbers of its network")


def _read(cls: Any, settings: dict[str, Any], file: Path) -> dict[str, Tensor]:
    """Tensors, in float32 and by today's names, that fill a class of diffusers to the last."""
    _check_size(cls, settings, file)
    try:
        net, info = cls.from_pretrained(
            file.parent,
            **settings,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,  # needs another package
            output_loading_info=True,
        )
    except Exception as error:
        _refuse(file, f"it cannot be read ({str(error).splitlines()[0]})")
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found := sorted(map(str, info[what])):
            _refuse(file, f"weights do not fit ({what.split('_')[0]}: {found[0]})")
    tensors = {name: value.float() for name, value in net.state_dict().items()}
    check_finite(tensors, file)
    return tensors


def _require_same(network: DiffusersSpec, drawn: Drawn, path: Path) -> None:
    """UserError unless a folder's network is that of a specification and draws such images."""
    found, theirs = parse_network(path)
    ours, same = network.model.model_dump(), found.model_dump()
    different = [
        f"{key} {ours.get(key)!r} (in the file {value!r})"
        for key, value in same.items()
        if key not in FREE and ours.get(key) != value
    ]
    embeddings = drawn.classes + getattr(network.model, "null_label", 0)
    told = theirs.classes + getattr(found, "null_label", 0)
    sizes = (drawn.channels, theirs.channels), (drawn.side, theirs.side), (embeddings, told)
    for what, (mine, other) in zip(("channels", "side", "labels"), sizes, strict=True):
        different += [f"{what} {mine} (in the file {other})"] if mine != other else []
    if different:
        raise UserError(
            f"{path}: another network than models.<model> and its images: {', '.join(different)}; "
            "correct the configuration, or name another folder"
        )


def write_model(
    folder: Path,
    network: DiffusersSpec,
    drawn: Drawn,
    names: Sequence[str],
    weights: Path,
    autoencoder: Path | None,
) -> list[Path]:
    """Write a model as diffusers' ``from_pretrained`` loads it; gives the files written.

    weights: a checkpoint of the pipeline. autoencoder: a file of ``pack_autoencoder``.
    """
    kind, version = network.model.kind, {"_diffusers_version": diffusers.__version__}
    place = folder / network.model.part
    content = {"_class_name": CLASS[kind], **version}
    index: dict[str, Any] = {network.model.part: ["diffusers", CLASS[kind]]}
    index["scheduler"] = ["diffusers", network.scheduler.name]
    save_tensors(place / WEIGHTS, load_tensors(weights)[0], {"format": "pt"})
    write_json(place / CONFIG, content | diffusers_config(network.model, drawn))
    told = scheduler_settings(make_scheduler(network.scheduler).config)
    scheduler = {"_class_name": network.scheduler.name, **version}
    write_json(folder / SCHEDULER / SCHEDULER_CONFIG, scheduler | told)
    written = [place / WEIGHTS, place / CONFIG, folder / SCHEDULER / SCHEDULER_CONFIG]
    if autoencoder:
        tensors, metadata = load_tensors(autoencoder)
        save_tensors(folder / VAE / WEIGHTS, tensors, metadata | {"format": "pt"})
        own = {"_class_name": "AutoencoderKL", **version}
        write_json(folder / VAE / CONFIG, own | json.loads(metadata["config"]))
        index["vae"] = ["diffusers", "AutoencoderKL"]
        written += [folder / VAE / WEIGHTS, folder / VAE / CONFIG]
    if kind == "dit" and autoencoder:
        index["id2label"] = {str(i): name for i, name in enumerate(names)}
    # diffusers has no pipeline of a DiT of pixels, or of a U-Net of latents with labels.
    if (kind == "dit") == (autoencoder is not None):
        write_json(folder / INDEX, {"_class_name": PIPELINE[kind], **version, **index})
        written.append(folder / INDEX)
    return written


def _refuse(file: Path, what: str) -> Any:
    raise UserError(f"{file}: {what}; choose another model, or copy its folder again")

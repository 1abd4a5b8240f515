"""EDM2's network pickles: architecture, weights and constants, as plain data.

Structure as NVlabs/edm2 writes it (``training_loop.py``, ``reconstruct_phema.py``): a dictionary
with the network ``ema`` in float16, its ``encoder``, ``dataset_kwargs`` and ``loss_fn``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mclr.checkpoints.fit import check_bytes, check_number, count_parameters, misfit, validated
from mclr.checkpoints.places import StoredArray, StoredTensor
from mclr.checkpoints.unpickle import Container, Persistent, PickledFile
from mclr.data.load import Manifest
from mclr.models.edm2.config import AutoencoderArchitecture, Edm2Network
from mclr.models.edm2.encoders import VAE_CHANNELS, VAE_REDUCTION
from mclr.models.edm2.latents import build_autoencoder, latent_shape
from mclr.models.edm2.precond import Precond
from mclr.models.spec import Edm2Spec

CLASSES = ("Precond", "UNet", "MPFourier", "MPConv", "Block")
POSITIONAL = (  # arguments of the official constructor, in order
    *("img_resolution", "img_channels", "label_dim"),
    *("use_fp16", "sigma_data", "logvar_channels"),
)
ENCODERS: dict[str, tuple[str, ...]] = {  # and the attributes that decide the latents
    "StandardRGBEncoder": (),
    "StabilityVAEEncoder": ("vae_name", "scale", "bias"),
}
LOSS = ("P_mean", "P_std", "sigma_data")
MAX_CHANNELS = 64  # of latents; Stable Diffusion's have 4
MAX_DEPTH = 8  # of modules in modules; the official network has 5


@dataclass(frozen=True)
class Edm2File:
    """What an official network pickle holds."""

    config: Edm2Network
    tensors: dict[str, StoredTensor]  # official names
    parameters: int
    encoder: dict[str, Any] | None
    training: dict[str, Any]
    dropped: list[str]


def read_edm2(file: PickledFile) -> Edm2File:
    """The network under ``ema``, checked against the architecture the file states.

    Raises:
        UserError: no such network, an unknown class or argument, or weights of another shape.
    """
    top, source = file.top, file.source
    net = top.get("ema") if type(top) is dict else None
    if type(net) is not Persistent or net.class_name != "Precond":
        found = [str(key)[:40] for key in top][:8] if type(top) is dict else type(top).__name__
        misfit(source, f"no EDM2 network under the key 'ema' (found {found})")
    config = _architecture(net, source)
    modules = dict(_modules(net, source))
    tensors = {
        name: tensor
        for path, module in modules.items()
        for name, tensor in _tensors(path, module, source)
    }
    for path, module in modules.items():
        _check_attributes(path, module, config, source)
    check_number(config.num_blocks * len(config.channel_mult), len(tensors), source)
    stored = {tensor.storage.start: tensor.storage.length for tensor in tensors.values()}
    shown = sum(tensor.length for tensor in tensors.values())
    check_bytes(shown, sum(stored.values()), source)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return Edm2File(
        config,
        tensors,
        count_parameters(lambda: Precond(config), shapes, source),
        _encoder(file, top.get("encoder")),
        _loss(top.get("loss_fn")),
        _dropped(top, modules),
    )


def described_edm2(network: Edm2Spec, images: Manifest) -> dict[str, Callable[[], nn.Module]]:
    """What builds the networks of a specification, from no file; see ``mclr.models.foreign``."""
    inner, found = network.autoencoder, dict[str, Callable[[], nn.Module]]()
    shape: tuple[int, ...] = images.shape
    if isinstance(inner, AutoencoderArchitecture):
        shape = latent_shape(inner, images)
        generator = torch.Generator().manual_seed(0)
        found["tokenizer"] = lambda: build_autoencoder(inner, images.channels, generator)
    elif inner:
        shape = (VAE_CHANNELS, *[images.resolution // VAE_REDUCTION] * 2)
    told = network.model_dump(exclude={"family", "autoencoder", "unconditional"})
    denoiser = Edm2Network(
        **told,
        img_resolution=shape[1],
        img_channels=shape[0],
        label_dim=0 if network.unconditional else images.num_classes,
    )
    return found | {"model": lambda: Precond(denoiser)}


def _architecture(net: Persistent, source: object) -> Edm2Network:
    """The constructor's arguments; what the caller left out has the official default."""
    given, positional = net.state.get("_init_kwargs"), net.state.get("_init_args", ())
    if type(given) is not dict or type(positional) is not tuple:
        misfit(source, "the network does not say how it was constructed (_init_kwargs)")
    values = {**dict(zip(POSITIONAL, positional, strict=False)), **given}
    values.pop("use_fp16", None)  # how it computes on a GPU, not what it is
    unknown = sorted(str(name) for name in values.keys() - Edm2Network.model_fields.keys())
    if unknown:
        known = ", ".join(Edm2Network.model_fields)
        misfit(source, f"unknown argument {unknown[0]!r} of the network (known: {known})")
    return validated(Edm2Network, values, source)


def _modules(
    root: Persistent, source: object
) -> Iterator[tuple[tuple[str, ...], Persistent | Container]]:
    """All modules with their path, in the order of the file; each object once."""
    pending: list[tuple[tuple[str, ...], Any]] = [((), root)]
    seen: set[int] = set()
    while pending:
        path, module = pending.pop()
        if type(module) is Persistent and module.class_name not in CLASSES:
            misfit(source, f"unknown class {module.class_name!r} in the network")
        children = module.state.get("_modules") if _is_module(module) else None
        if type(children) is not dict or len(path) > MAX_DEPTH or id(module) in seen:
            misfit(source, f"{'.'.join(path) or 'ema'} is not a module of an EDM2 network")
        seen.add(id(module))
        yield path, module
        # An optional layer that is absent is None.
        present = [(str(name), child) for name, child in children.items() if child is not None]
        pending += [((*path, name), child) for name, child in reversed(present)]


def _is_module(value: Any) -> bool:
    return type(value) in (Persistent, Container) and type(value.state) is dict


def _tensors(
    path: tuple[str, ...], module: Persistent | Container, source: object
) -> Iterator[tuple[str, StoredTensor]]:
    """Parameters and buffers of one module, named as in its state dict."""
    state = module.state or {}
    skipped = state.get("_non_persistent_buffers_set", set())
    for table in ("_parameters", "_buffers"):
        entries = state.get(table, {})
        if type(entries) is not dict or type(skipped) is not set:
            misfit(source, f"{table} of {'.'.join(path) or 'ema'} is not a table of tensors")
        for name, value in entries.items():
            if value is None or name in skipped:
                continue
            if type(value) is not StoredTensor:
                misfit(source, f"{'.'.join((*path, str(name)))} is not a tensor")
            yield ".".join((*path, str(name))), value


def _check_attributes(
    path: tuple[str, ...],
    module: Persistent | Container,
    config: Edm2Network,
    source: object,
) -> None:
    """Attributes with the name of an architecture key must have its value."""
    for key, stated in config.model_dump().items():
        if not module.state or key not in module.state:
            continue
        found = module.state[key]
        if type(found) in (list, tuple):
            found = tuple(found)
        if type(found) not in (tuple, int, float, type(None)) or found != stated:
            misfit(
                source,
                f"{'.'.join((*path, key))} contradicts the network's own {key} {stated!r}",
            )


def _encoder(file: PickledFile, encoder: Any) -> dict[str, Any] | None:
    """Name and constants of what makes latents of images."""
    if encoder is None:
        return None
    if type(encoder) is not Persistent or encoder.class_name not in ENCODERS:
        name = encoder.class_name if type(encoder) is Persistent else type(encoder).__name__
        misfit(file.source, f"unknown encoder {name!r} (known: {', '.join(ENCODERS)})")
    constants: dict[str, Any] = {"class": encoder.class_name}
    for key in ENCODERS[encoder.class_name]:
        value = encoder.state.get(key)
        if type(value) is StoredArray and math.prod(value.shape) <= MAX_CHANNELS:
            value = file.array(value).tolist()
        numbers = type(value) is list and all(
            type(n) in (int, float) and math.isfinite(n) for n in value
        )
        if not numbers and type(value) is not str:
            misfit(file.source, f"{key} of its {encoder.class_name} is missing")
        constants[key] = value
    return constants


def _loss(loss: Any) -> dict[str, Any]:
    """Constants of the loss the network was trained with."""
    if type(loss) is not Persistent or loss.class_name != "EDM2Loss":
        return {}
    return {key: loss.state[key] for key in LOSS if type(loss.state.get(key)) in (int, float)}


def _dropped(
    top: Mapping[Any, Any], modules: Mapping[tuple[str, ...], Persistent | Container]
) -> list[str]:
    """What is in the file but not in the result, in words."""
    objects = [value for value in (*top.values(), *modules.values()) if type(value) is Persistent]
    digests = sorted({value.source_sha256 for value in objects})
    left = [f"class source text, sha256 {digest}, never executed" for digest in digests]
    for key, value in top.items():
        if key not in ("ema", "encoder"):
            left.append(f"{key} ({value.class_name})" if type(value) is Persistent else str(key))
    return left

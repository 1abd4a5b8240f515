"""From our weights back to files that the official tools read."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from mclr.checkpoints.places import StoredTensor
from mclr.checkpoints.unpickle import open_pickle
from mclr.checkpoints.vocabulary import reading
from mclr.errors import UserError
from mclr.files import atomic, load_tensors
from mclr.models.edm2.checkpoint import read_edm2
from mclr.models.edm2.config import Edm2Network
from mclr.models.var.checkpoint import MARKS, official_names, read_var
from mclr.weights.header import Kind, floating_types

# Keys that do not change what a network computes in evaluation.
TRAINING_ONLY = {"dropout"}


@dataclass(frozen=True)
class Exported:
    """What was written."""

    kind: Kind
    parameters: int
    dtype: str


def export_weights(weights: Path, out: Path, like: Path | None = None) -> Exported:
    """Write imported or fine-tuned weights (.safetensors) as the official code stores them.

    VAR: a ``.pth`` state dict with all official buffers. EDM2: a copy of the official pickle
    ``like`` whose network has these weights, in the number type of ``like``; everything else of
    it, class sources included, stays as it is, and nothing of it is executed here.

    Raises:
        UserError: weights of neither, no template for EDM2, or a template of another
            architecture; nothing is written then.
    """
    tensors, metadata = load_tensors(weights)
    if "unet.out_gain" in tensors:
        if like is None:
            raise UserError(
                f"{weights}: EDM2 weights go into a copy of an official network pickle of the "
                "same architecture; name one with --like"
            )
        return _export_edm2(weights, tensors, _architecture(metadata, weights), like, out)
    if like is not None:
        raise UserError(f"--like {like}: only EDM2 weights need a template; leave it out")
    return _export_var(weights, tensors, out)


def _architecture(metadata: dict[str, str], weights: Path) -> dict[str, Any]:
    """Architecture that the weights' own metadata state: imported weights or a run's checkpoint."""
    with reading(weights):
        if "header" in metadata:
            return dict(json.loads(metadata["header"])["architecture"])
        if "spec" in metadata:
            return dict(json.loads(metadata["spec"])["network"])
    return {}


def _export_var(weights: Path, tensors: dict[str, Tensor], out: Path) -> Exported:
    """A state dict; names and buffers are the official ones already, which is checked."""
    told: dict[str, Any] = {}  # of what does not show in the weights any value does
    hits = tensors.get("quantize.ema_vocab_hit_SV")
    if MARKS["vqvae"] in tensors and hits is not None:
        told = {"patch_nums": tuple(range(1, len(hits) + 1))}
    elif MARKS["var"] in tensors and "blocks.0.attn.scale_mul_1H11" not in tensors:
        told = {"num_heads": 1}
    found = read_var(tensors, weights, told=told)
    with atomic(out) as temporary:
        torch.save(official_names(found), temporary)
    return Exported(found.kind, found.parameters, floating_types(found.tensors.values()))


def _export_edm2(
    weights: Path, tensors: dict[str, Tensor], stated: dict[str, Any], like: Path, out: Path
) -> Exported:
    """Overwrite the values of ``ema`` in a copy of the template; no byte moves."""
    with open_pickle(like) as template:
        network = read_edm2(template)
    _check_architecture(weights, stated, network.config, like)
    for name in sorted(tensors.keys() ^ network.tensors.keys()):
        where = like if name in network.tensors else weights
        raise UserError(f"{weights}: other weights than those of {like}: {name} is only in {where}")
    wanted = {
        name: _as_stored(f"{weights}: {name}", tensors[name], stored)
        for name, stored in network.tensors.items()
    }
    with atomic(out) as temporary:
        shutil.copyfile(like, temporary)
        with temporary.open("r+b") as stream:
            for name, stored in network.tensors.items():
                _overwrite(stream, stored, wanted[name])
        _verify(temporary, wanted, like)
    return Exported("edm2", network.parameters, floating_types(wanted.values()))


def _check_architecture(
    weights: Path, stated: dict[str, Any], config: Edm2Network, like: Path
) -> None:
    """Equal shapes do not mean an equal function: compare every number the weights state."""
    expected = config.model_dump(mode="json")
    for key in sorted((stated.keys() & expected.keys()) - TRAINING_ONLY):
        if stated[key] != expected[key]:
            raise UserError(
                f"{weights}: {key} is {stated[key]}, but {expected[key]} in {like}; choose the "
                "template the weights were fine-tuned from"
            )


def _as_stored(where: str, tensor: Tensor, stored: StoredTensor) -> Tensor:
    """The tensor in the template's number type; UserError if it does not fit into it."""
    if tuple(tensor.shape) != stored.shape:
        raise UserError(
            f"{where} has shape {tuple(tensor.shape)}, but {stored.shape} in the template; choose "
            "the template the weights were fine-tuned from"
        )
    converted = tensor.to(getattr(torch, stored.storage.dtype))
    if not converted.isfinite().all():
        raise UserError(f"{where} is not finite in {stored.storage.dtype}; choose other weights")
    return converted


def _overwrite(stream: IO[bytes], stored: StoredTensor, value: Tensor) -> None:
    """Put the values where the file has the tensor."""
    stream.seek(stored.storage.start)
    raw = bytearray(stream.read(stored.storage.length))
    flat = torch.frombuffer(raw, dtype=value.dtype)
    flat.as_strided(stored.shape, stored.stride, stored.offset).copy_(value)
    stream.seek(stored.storage.start)
    stream.write(raw)


def _verify(written: Path, wanted: dict[str, Tensor], like: Path) -> None:
    """Read the result back: it fails only if tensors of the template overlap."""
    with open_pickle(written) as file:
        found = read_edm2(file).tensors
        if all(torch.equal(file.tensor(found[name]), value) for name, value in wanted.items()):
            return
    raise UserError(f"{like}: its tensors share memory; choose an unchanged official file")

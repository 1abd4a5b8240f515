"""Imported weights on disk: ``X.safetensors``, and its header also as ``X.json``.

The safetensors file stands alone: the same header is in its metadata.
"""

from __future__ import annotations

import importlib.metadata
import json
import operator
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from mclr.checkpoints.fit import (
    MASK,
    Shapes,
    build_empty,
    check_number,
    check_shapes,
    misfit,
    validated,
)
from mclr.errors import UserError
from mclr.files import load_tensors, save_tensors, sha256, write_json
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.precond import Precond
from mclr.models.var.config import VarConfig, VqvaeConfig
from mclr.models.var.network import Var
from mclr.models.var.vqvae import Vqvae

Kind = Literal["edm2", "var", "vqvae", "statistics"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Frozen):
    """The file the weights come from."""

    file: str = Field(description="name, without folder")
    bytes: int = Field(ge=0)
    sha256: str


class Header(_Frozen):
    """What is known about imported weights."""

    kind: Kind
    architecture: dict[str, Any] = Field(
        description="of the network (as in mclr.models); of statistics: features of each net"
    )
    source: Source
    stored_dtype: str = Field(description="floating type(s) in the source")
    parameters: int = Field(description="without buffers; of statistics: all values")
    encoder: dict[str, Any] | None = Field(
        default=None, description="what makes latents of images, and its constants (EDM2)"
    )
    training: dict[str, Any] = Field(default={}, description="constants of its loss (EDM2)")
    num_images: int | None = Field(default=None, description="behind the statistics")
    assumed: dict[str, Any] = Field(
        default={}, description="architecture that the source does not tell, with the value taken"
    )
    dropped: list[str] = Field(default=[], description="what the source has and this has not")
    undone: list[str] = Field(
        default=[],
        exclude_if=operator.not_,
        description="what was otherwise in the source: place, prefixes, names",
    )
    mclr: str = Field(default_factory=lambda: importlib.metadata.version("mclr"))


class Statistics(NamedTuple):
    """Mean (D,) and covariance (D, D) of one feature net on a data set, float64."""

    mu: Tensor
    sigma: Tensor


def header_path(weights: Path) -> Path:
    """The JSON file beside imported weights."""
    return weights.with_suffix(".json")


def describe_source(path: Path) -> Source:
    """Name, size and digest of a file."""
    return Source(file=path.name, bytes=path.stat().st_size, sha256=sha256(path))


def floating_types(tensors: Iterable[Tensor]) -> str:
    """Floating types among the tensors, in words."""
    names = {str(t.dtype).removeprefix("torch.") for t in tensors if t.is_floating_point()}
    return ", ".join(sorted(names))


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], header: Header) -> None:
    """Write the weights with their header, then the header beside them; each file whole.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    content = header.model_dump(mode="json")
    save_tensors(path, tensors, {"header": json.dumps(content, sort_keys=True)})
    write_json(header_path(path), content)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], Header]:
    """Tensors as stored, and the header; UserError if the file was not imported."""
    tensors, metadata = load_tensors(path)
    try:
        return tensors, Header.model_validate_json(metadata["header"])
    except (KeyError, ValidationError, RecursionError):
        raise UserError(
            f"{path}: has no header of imported weights; make it with `mclr import-weights`"
        ) from None


def load_checkpoint(path: Path) -> tuple[nn.Module, Header]:
    """The network of imported weights: float32, on the CPU, in eval mode; and the header.

    Raises:
        UserError: missing or damaged file, no header, or statistics instead of a network.
    """
    tensors, header = read_checkpoint(path)
    if header.kind == "statistics":
        raise UserError(f"{path}: holds statistics of a data set; expected weights of a network")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    net = _empty_network(path, header, shapes)
    check_shapes(net, shapes, path)
    floats = {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
    net.load_state_dict(floats, assign=True)
    return net.eval(), header


def load_statistics(path: Path) -> tuple[dict[str, Statistics], Header]:
    """Reference statistics by name of the feature net ("fid", "fd_dinov2"), and the header.

    Raises:
        UserError: missing or damaged file, no header, or a network instead of statistics.
    """
    tensors, header = read_checkpoint(path)
    if header.kind != "statistics":
        raise UserError(f"{path}: holds {header.kind} weights; expected statistics of a data set")
    names = sorted(name.removesuffix(".mu") for name in tensors if name.endswith(".mu"))
    if tensors.keys() != {f"{name}.{part}" for name in names for part in Statistics._fields}:
        raise UserError(f"{path}: a mean or a covariance is missing; import the statistics again")
    found = {name: Statistics(tensors[f"{name}.mu"], tensors[f"{name}.sigma"]) for name in names}
    return found, header


def _empty_network(path: Path, header: Header, shapes: Shapes) -> nn.Module:
    """The network that the header describes, without values, if it is not too large for them."""
    if header.kind == "edm2":
        edm2 = validated(Edm2Network, header.architecture, path)
        check_number(edm2.num_blocks * len(edm2.channel_mult), len(shapes), path)
        return build_empty(lambda: Precond(edm2), path)
    if header.kind == "var":
        var = validated(VarConfig, header.architecture, path)
        check_number(var.depth, len(shapes), path)
        if shapes.get(MASK) != (1, 1, var.length, var.length):
            misfit(path, f"{MASK} does not fit its architecture")
        return build_empty(lambda: Var(var), path)
    vqvae = validated(VqvaeConfig, header.architecture, path)
    check_number(len(vqvae.ch_mult) * vqvae.num_res_blocks, len(shapes), path)
    check_number(vqvae.share_quant_resi // 2, len(shapes), path)
    return build_empty(lambda: Vqvae(vqvae), path)

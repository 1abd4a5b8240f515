"""From an official file to imported weights."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mclr.checkpoints.fit import check_finite, misfit
from mclr.checkpoints.reference import Statistics, read_npz_statistics, read_pickled_statistics
from mclr.checkpoints.torchfile import read_pth
from mclr.checkpoints.unpickle import PickledFile, open_pickle
from mclr.checkpoints.vocabulary import reading, refuse
from mclr.errors import UserError
from mclr.files import load_tensors
from mclr.models.edm2.checkpoint import read_edm2
from mclr.models.var.checkpoint import read_var
from mclr.weights.header import (
    KINDS,
    Header,
    Kind,
    describe_source,
    floating_types,
    write_checkpoint,
)

# A torch file from before zip files is a pickle that begins with torch's magic number.
OLD_TORCH = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")


def import_weights(
    source: Path,
    out: Path,
    kind: Kind | None = None,
    expected_sha256: str | None = None,
    told: Mapping[str, Any] | None = None,
) -> Header:
    """Convert an official file to ``out`` (.safetensors) and ``out`` with .json.

    ``kind`` None: recognised from the content. ``expected_sha256`` is compared before the file is
    read. ``told``: values of a VAR network's architecture that its file does not tell
    (``mclr.models.var.checkpoint.OPTIONS``). Tensors keep their type, bit for bit; statistics
    become float64. No code of the file is executed.

    Raises:
        UserError: another digest, a file that is refused or damaged, a kind that it is not;
            nothing is written then.
    """
    if kind is not None and kind not in KINDS:
        raise UserError(f"kind {kind!r} is unknown; choose one of: {', '.join(KINDS)}")
    if out.suffix != ".safetensors":
        raise UserError(f"{out}: expected a name that ends with .safetensors")
    if not source.is_file():
        raise UserError(f"{source}: there is no such file; check the path")
    facts: dict[str, Any] = {"source": describe_source(source)}
    found = facts["source"].sha256
    if expected_sha256 is not None and expected_sha256.strip().lower() != found:
        raise UserError(
            f"{source}: sha256 is {found}, expected {expected_sha256}; it was not read. "
            "Get the file again, or check which digest its publisher gives"
        )
    with reading(source):
        tensors, header = _read(source, kind, told or {}, facts)
        json.dumps(header.model_dump(mode="json"), allow_nan=False)  # constants that are no numbers
    write_checkpoint(out, tensors, header)
    return header


def _read(
    source: Path, kind: Kind | None, told: Mapping[str, Any], facts: dict[str, Any]
) -> tuple[dict[str, Tensor], Header]:
    """Recognise the format from the first bytes and read the file."""
    with source.open("rb") as stream:
        start = stream.read(len(OLD_TORCH))
    if start.startswith(b"PK") or start == OLD_TORCH:
        if start != OLD_TORCH and _is_npz(source):
            _require(source, kind, "statistics")
            return _statistics(read_npz_statistics(source), facts)
        return _var(read_pth(source), source, kind, told, facts)
    if start[8:9] == b"{":
        return _var(_others_safetensors(source), source, kind, told, facts)
    if told:
        raise UserError(f"{source}: only of VAR weights more can be said ({', '.join(told)})")
    with open_pickle(source) as file:
        if type(file.top) is not dict:
            refuse(source, f"not a dictionary but a {type(file.top).__name__}")
        if kind == "statistics" or (kind is None and "ema" not in file.top):
            return _statistics(read_pickled_statistics(file), facts)
        _require(source, kind, "edm2")
        return _edm2(file, facts)


def _is_npz(source: Path) -> bool:
    try:
        with zipfile.ZipFile(source) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        refuse(source, "a damaged zip file")


def _others_safetensors(source: Path) -> dict[str, Tensor]:
    """Weights that somebody else stored as safetensors, with the official names."""
    tensors, metadata = load_tensors(source)
    if metadata.keys() & {"header", "spec"}:
        raise UserError(
            f"{source}: is a file of this pipeline already; use it as it is, or write an official "
            "file of it with `mclr export-weights`"
        )
    if any(name.endswith("unet.out_gain") for name in tensors):
        misfit(source, "EDM2 weights without the network's architecture, which its pickle states")
    return tensors


def _require(source: Path, kind: Kind | None, *possible: Kind) -> None:
    if kind is not None and kind not in possible:
        raise UserError(f"{source}: a file of kind {' or '.join(possible)}, not {kind}")


def _edm2(file: PickledFile, facts: dict[str, Any]) -> tuple[dict[str, Tensor], Header]:
    network = read_edm2(file)
    tensors = {name: file.tensor(stored) for name, stored in network.tensors.items()}
    check_finite(tensors, file.source)
    header = Header(
        kind="edm2",
        architecture=network.config.model_dump(mode="json"),
        stored_dtype=floating_types(tensors.values()),
        parameters=network.parameters,
        encoder=network.encoder,
        training=network.training,
        dropped=network.dropped,
        **facts,
    )
    return tensors, header


def _var(
    content: Any,
    source: Path,
    kind: Kind | None,
    told: Mapping[str, Any],
    facts: dict[str, Any],
) -> tuple[dict[str, Tensor], Header]:
    _require(source, kind, "var", "vqvae")
    wanted = kind if kind in ("var", "vqvae") else None
    found = read_var(content, source, wanted, told)
    header = Header(
        kind=found.kind,
        architecture=found.config.model_dump(mode="json"),
        stored_dtype=floating_types(found.tensors.values()),
        parameters=found.parameters,
        assumed=found.assumed,
        dropped=found.dropped,
        undone=found.said,
        **facts,
    )
    return _separate(found.tensors), header


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without shared memory, which safetensors does not have."""
    owned, seen = {}, set()
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        owned[name] = tensor.detach().clone() if place in seen else tensor.detach()
        seen.add(place)
    return owned


def _statistics(found: Statistics, facts: dict[str, Any]) -> tuple[dict[str, Tensor], Header]:
    header = Header(
        kind="statistics",
        architecture=found.dimensions,
        stored_dtype=found.dtype,
        parameters=sum(tensor.numel() for tensor in found.tensors.values()),
        num_images=found.num_images,
        dropped=found.dropped,
        **facts,
    )
    return found.tensors, header

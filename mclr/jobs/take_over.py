"""Jobs that take over what others trained: base models, tokenizers, autoencoders."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mclr.checkpoints.fit import check_finite
from mclr.data.load import load_manifest
from mclr.errors import UserError
from mclr.events import EventLog
from mclr.files import load_tensors, save_tensors, sha256, write_json, write_yaml
from mclr.models.families import make_family
from mclr.models.foreign import official_tokenizer, pack_autoencoder_of, read_folder
from mclr.models.var.vqvae import Vqvae
from mclr.models.weights import load_weights
from mclr.planning.specs import BaseSpec, EncodeSpec
from mclr.provenance import collect, own_code
from mclr.settings.section import canonical
from mclr.weights.header import Header, Kind, load_checkpoint, read_checkpoint
from mclr.weights.importer import import_weights

SAFETENSORS = ".safetensors"
STEP = "step-000000.safetensors"
FREE = ("dropout", "drop_path_rate")
"""What a network that is trained on may have otherwise than the file: both have no weights."""


def import_base(
    spec: BaseSpec,
    manifest_file: Path,
    source: Path,
    tokenizer: Path | None,
    run: Path,
    version: str = "",
) -> None:
    """Write released weights as the base of a run: float32, of the network of ``spec``.

    source: an official EDM2 pickle or VAR .pth, a safetensors file with the network's names, or a
    model's folder in diffusers' layout.
    version: of the result (``workflow/versions.yaml``), for its provenance.

    Raises:
        UserError: the file is missing, refused, or of another network.
    """
    started, manifest = time.time(), load_manifest(manifest_file)
    family = make_family(spec, manifest, tokenizer)
    header: Header | None = None
    found = read_folder(spec.network, family, source)
    net = family.build(torch.Generator().manual_seed(0))
    if found:
        source, tensors = found
    else:
        official = cast(Kind | None, family.official)
        tensors, header = read_released(source, official, family.untold)
    if header:
        _require_same(net, header, source)
    load_weights(net, tensors, source)
    read = sha256(source)
    metadata = {
        "spec": canonical(spec),
        "step": "0",
        "source": f"{source.name} sha256:{read}",
    }
    save_tensors(run / "checkpoints" / STEP, _floats(net), metadata, noted=True)
    write_yaml(run / "config.yaml", spec.content())
    facts = collect(
        own_code(spec.content()),
        inputs={str(source): read},
        data_sha256=manifest.hashes["train"],
        config_sha256=hashlib.sha256(canonical(spec).encode()).hexdigest(),
        code=version,
        seconds=round(time.time() - started, 1),
        source=header.model_dump(mode="json")
        if header and source.suffix != SAFETENSORS
        else {"file": source.name},
        **spec.identity.model_dump(),
    )
    write_json(run / "provenance.json", facts, noted=True)
    events = EventLog(run / "events.jsonl")
    events.rewind(0)
    events.write("end", step=0)


def import_tokenizer(spec: EncodeSpec, manifest_file: Path, source: Path, output: Path) -> None:
    """Write a released tokenizer (VAR), or an autoencoder in diffusers' layout, as one file.

    Raises:
        UserError: the file (or folder) is missing, refused, or of another network.
    """
    config = official_tokenizer(spec.network, manifest_file)
    if config is None:
        pack_autoencoder_of(spec.network, source, output)
        return
    net = Vqvae.build(config, torch.Generator().manual_seed(0))
    tensors, header = read_released(source, "vqvae", config.untold)
    if header:
        _require_same(net, header, source)
    load_weights(net, tensors, source)
    save_tensors(output, _floats(net), {"spec": canonical(spec)}, noted=True)


def read_released(
    source: Path, kind: Kind | None, told: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], Header | None]:
    """Tensors of a released file, and what its importer found; None for a file of the pipeline.

    kind: of a file that the official code wrote; None if there is no such code. told: of its
    architecture, for what such a file does not tell.
    """
    if not source.is_file():
        raise UserError(f"{source}: no such file; run `snakemake` to fetch it, or put it there")
    if source.suffix == SAFETENSORS:
        tensors, metadata = load_tensors(source)
        check_finite(tensors, source)
        return tensors, read_checkpoint(source)[1] if "header" in metadata else None
    if kind is None:
        raise UserError(f"{source}: weights of a family of one's own are a .safetensors file")
    with tempfile.TemporaryDirectory() as folder:
        imported = Path(folder, "imported.safetensors")
        import_weights(source, imported, kind, told=told)
        net, header = load_checkpoint(imported)
        return {name: tensor.clone() for name, tensor in net.state_dict().items()}, header


def _require_same(net: nn.Module, header: Header, source: Path) -> None:
    """UserError unless the file's network has the architecture that the configuration says.

    Dropout may differ: it has no weights, and fine-tuning chooses its own.
    """
    fields = type(net.config).model_fields  # type: ignore[union-attr]
    usual = {key: fields[key].default for key in fields}  # which a description may leave out
    ours = usual | net.config.model_dump(mode="json")  # type: ignore[union-attr,operator]
    theirs = usual | header.architecture
    different = [
        f"{key} {ours.get(key)!r} (in the file {theirs[key]!r})"
        for key in theirs
        if key not in FREE and ours.get(key) != theirs[key]
    ]
    if different:
        raise UserError(
            f"{source}: another network than models.<model>.network says: {', '.join(different)}; "
            "correct the configuration, or name another file"
        )


def _floats(net: nn.Module) -> dict[str, Tensor]:
    """Weights as training goes on from them: floating values in float32."""
    state = net.state_dict()
    return {n: t.float() if t.is_floating_point() else t for n, t in state.items()}

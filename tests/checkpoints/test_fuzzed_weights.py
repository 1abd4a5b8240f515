"""Thousands of mutated files: each is refused in one line, or its weights are those of the file."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pickle_writer import persistent, pickled
from safetensors.torch import save
from torch import Tensor

from mclr.checkpoints.fit import MASK
from mclr.errors import UserError
from mclr.files import load_tensors
from mclr.models.var.config import VarConfig
from mclr.models.var.network import Var
from mclr.weights.importer import import_weights

WORDS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"((((", b"\n")
TRIALS = 700  # of each format: about 20 seconds in all


def transformer() -> dict[str, Tensor]:
    config = VarConfig(
        depth=1, embed_dim=8, num_heads=1, num_classes=2, patch_nums=(1, 2), vocab_size=4,
        z_channels=2, mlp_ratio=1.0,
    )  # fmt: skip
    return dict(Var.build(config, torch.Generator().manual_seed(0)).state_dict())


def torch_file(zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(transformer(), stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def moments() -> dict[str, np.ndarray]:
    return {"mu": np.arange(3.0), "sigma": np.eye(3)}


def npz(write: Callable[..., None]) -> bytes:
    stream = io.BytesIO()
    write(stream, **moments())
    return stream.getvalue()


def network_pickle() -> bytes:
    sizes = {"img_resolution": 8, "img_channels": 1, "label_dim": 1, "channel_mult": [1]}
    state = {"_init_kwargs": sizes, "_modules": {}, "_parameters": {}, "_buffers": {}}
    return pickled({"ema": persistent("Precond", state), "encoder": None, "dataset_kwargs": {}})


FILES: dict[str, Callable[[], bytes]] = {
    "zip.pth": lambda: torch_file(True),
    "old.pth": lambda: torch_file(False),
    "plain.npz": lambda: npz(np.savez),
    "small.npz": lambda: npz(np.savez_compressed),
    "statistics.pkl": lambda: pickle.dumps({"fid": moments(), "num_images": 9}, 4),
    "network.pkl": network_pickle,
    "theirs.safetensors": lambda: save(transformer()),
}
CHECKED = ("zip.pth", "plain.npz", "small.npz")
"""Formats with checksums: what is accepted of them is as it was."""


def mutated(good: bytes, rng: random.Random) -> bytes:
    """Changed, cut, repeated or swapped bytes; most in the part that is no values."""
    content = bytearray(good)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        # Descriptions stand at the beginning of the file, or at its end.
        place = rng.randrange(max(1, len(content)))
        if rng.random() < 0.6:
            place = rng.choice((place % 1500, max(0, len(content) - 1 - place % 1500)))
            place = min(place, max(0, len(content) - 1))
        how = rng.randrange(7)
        if how == 0:
            content = content[:place]
        elif how == 1:
            content[place:place] = content[max(0, place - rng.randrange(40)) : place]
        elif how == 2:
            del content[place : place + rng.randrange(9)]
        elif how == 3:
            content[place : place + 4] = rng.randbytes(4)
        elif how == 4 and content:
            content[place : place + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"((((", b"\n")
            )
        elif content:
            content[place] = rng.choice(
                (content[place] ^ (1 << rng.randrange(8)), rng.randrange(256))
            )
    return bytes(content)


def imported(source: Path, out: Path) -> dict[str, Tensor] | str:
    """The tensors, or the error."""
    try:
        import_weights(source, out)
    except UserError as error:
        return str(error)
    return load_tensors(out)[0]


@pytest.mark.parametrize("name", FILES)
def test_mutated_files(tmp_path: Path, name: str) -> None:
    rng, good = random.Random(name), FILES[name]()
    source, out = tmp_path / name, tmp_path / "out" / "x.safetensors"
    source.write_bytes(good)
    want = imported(source, out)
    refusals = 0
    for _ in range(TRIALS):
        source.write_bytes(mutated(good, rng))
        out.unlink(missing_ok=True)
        found = imported(source, out)
        if isinstance(found, str):
            refusals += 1
            assert found.startswith(f"{source}: ") and "\n" not in found and found.isprintable()
            assert not out.exists()
            continue
        for key, tensor in found.items():
            if tensor.is_floating_point() and key != MASK:
                assert tensor.isfinite().all()
        if name in CHECKED:
            assert same(found, want)
    assert refusals > TRIALS // 4


def same(found: dict[str, Tensor], want: Any) -> bool:
    return found.keys() == want.keys() and all(torch.equal(found[k], want[k]) for k in want)


def test_renamed_and_repacked_records(tmp_path: Path) -> None:
    """Archives that are whole, with their records mixed up."""
    rng, good = random.Random(7), torch_file(True)
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    source, out = tmp_path / "x.pth", tmp_path / "out" / "x.safetensors"
    refusals = 0
    for _ in range(100):
        names = list(records)
        a, b = rng.sample(names, 2)
        changed = dict(records)
        how = rng.randrange(3)
        if how == 0:
            del changed[a]
        elif how == 1:
            changed[a] = records[b]
        else:
            changed[a] = mutated(records[a], rng)
        with zipfile.ZipFile(source, "w") as archive:
            for name, content in changed.items():
                archive.writestr(name, content)
        out.unlink(missing_ok=True)
        found = imported(source, out)
        refusals += isinstance(found, str)
        if isinstance(found, str):
            assert found.startswith(f"{source}: ") and found.isprintable()
    assert refusals > 30

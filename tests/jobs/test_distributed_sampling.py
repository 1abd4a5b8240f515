"""Sampling jobs of several processes: the files of one, to the byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tiny import Trained
from torch import multiprocessing

from mclr.files.checksums import noted, sha256
from mclr.jobs.gather import _parts
from mclr.jobs.sampling import sample, sample_negatives
from mclr.planning.plan import Plan
from mclr.settings.section import canonical

MODELS = ("edm2", "var")


def make(folder: Path, trained: Trained, specs: dict[str, Any]) -> None:
    """All files of both models: one shard of four batches, one shard of one, negatives."""
    torch.set_num_threads(1)
    for model in MODELS:
        weights, tokenizer = trained.base(model), trained.tokenizer_of(model)
        nets = {"cnn": trained.net / "net.safetensors"}
        for shards in (1, 4):
            name = folder / f"{model}-{shards}"
            sample(
                specs[model].with_(shards=shards), 0, trained.manifest, weights, tokenizer, nets,
                name.with_suffix(".parquet"), name.with_suffix(".png"),
            )  # fmt: skip
        spec = specs[f"{model}-negatives"]
        sample_negatives(
            spec, trained.manifest, weights, tokenizer, folder / f"{model}.safetensors"
        )


def process(rank: int, folder: Path, trained: Trained, specs: dict[str, Any]) -> None:
    meeting = f"file://{folder}.meet"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    try:
        make(folder, trained, specs)
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def specs(tiny_plan: Plan) -> dict[str, Any]:
    points = {model: tiny_plan.points(f"{model}-base")[0] for model in MODELS}
    negatives = {f"{model}-negatives": tiny_plan.negatives_spec(model) for model in MODELS}
    return {model: tiny_plan.sample_spec(point) for model, point in points.items()} | negatives


@pytest.fixture(scope="module")
def alone(
    tmp_path_factory: pytest.TempPathFactory, trained: Trained, specs: dict[str, Any]
) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    make(folder, trained, specs)
    return folder


def same_files(found: Path, expected: Path) -> bool:
    """Equal names and bytes, and nothing besides."""
    a, b = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in (found, expected))
    return a == b


def test_two_processes_write_the_bytes_of_one(
    alone: Path, trained: Trained, specs: dict[str, Any], tmp_path: Path
) -> None:
    """Also where there is one batch, and so nothing to do for one of them."""
    folder = tmp_path / "pair"
    folder.mkdir()
    stale = folder / ".edm2-1.parquet.part-7"  # of a killed job of more processes
    stale.touch()
    multiprocessing.spawn(process, (folder, trained, specs), nprocs=2)
    made = list(alone.iterdir())
    assert len([file for file in made if not file.name.startswith(".")]) == 10
    assert all(noted(file) == sha256(file) for file in made if file.suffix == ".parquet")
    assert same_files(folder, alone)


def test_the_command_under_torchrun(
    alone: Path, trained: Trained, specs: dict[str, Any], tmp_path: Path
) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    arguments = [
        *launcher, "--nproc-per-node=2", "-m", "--", "mclr", "--log", str(tmp_path / "log"),
        "sample", "--spec", canonical(specs["edm2"].with_(shards=1)),
        "--manifest", str(trained.manifest), "--weights", str(trained.edm2),
        "--features", f"cnn={trained.net}", "--output", str(tmp_path / "f.parquet"),
        "--grid", str(tmp_path / "g.png"),
    ]  # fmt: skip
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "f.parquet").read_bytes() == (alone / "edm2-1.parquet").read_bytes()
    assert (tmp_path / "g.png").read_bytes() == (alone / "edm2-1.png").read_bytes()


def test_one_process_makes_no_parts(tmp_path: Path) -> None:
    with _parts(tmp_path / "x.parquet") as parts:
        assert [part.name for part in parts] == [".x.parquet.part-0"]
        parts[0].touch()
    assert not list(tmp_path.iterdir())

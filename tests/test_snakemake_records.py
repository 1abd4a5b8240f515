"""Snakemake's records travel with the results: packed, unpacked, and told apart by tier."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from mclr.errors import UserError
from mclr.operations.records import METADATA, pack, packed, restore


@pytest.fixture(autouse=True)
def in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def record(output: str, content: object = "made") -> Path:
    """Snakemake's record of an output, stored as Snakemake does: long names in folders."""
    name = urlsafe_b64encode(output.encode()).decode()
    parts = [name[i : i + 254] for i in range(0, len(name), 254)]
    path = METADATA.joinpath(*("@" + part for part in parts[:-1]), parts[-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_records_come_back() -> None:
    long = record("results/mine/" + "deep/" * 60 + "shard-000.parquet")
    kept = [record("results/mine/table1.csv"), record("data/prepared/mine/train.parquet"), long]
    other = record("results/mine-too/table1.csv")
    pack("mine")
    first = packed("mine").read_bytes()
    for path in (*kept, other):
        path.unlink()
    Path(".snakemake/restored/mine").unlink()
    restore("mine")
    assert all(json.loads(path.read_text()) == "made" for path in kept)
    assert not other.exists()
    pack("mine")
    assert packed("mine").read_bytes() == first


def test_newer_records_are_kept_until_others_arrive() -> None:
    path = record("results/mine/table1.csv")
    pack("mine")
    arrived = packed("mine").read_bytes()
    record("results/mine/table1.csv", "made again")
    restore("mine")
    assert json.loads(path.read_text()) == "made again"
    pack("mine")
    packed("mine").write_bytes(arrived)  # as `dvc pull` does
    restore("mine")
    assert json.loads(path.read_text()) == "made"


def test_nothing_to_restore() -> None:
    restore("mine")
    assert not METADATA.exists()


def test_damaged_records_are_named() -> None:
    record("results/mine/table1.csv", "x" * 5000)
    pack("mine")
    packed("mine").write_bytes(packed("mine").read_bytes()[:60])
    with pytest.raises(UserError, match=r"records.tar.xz: cannot be unpacked .* `dvc pull`"):
        restore("mine")

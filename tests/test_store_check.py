"""`mclr check-store`: the working directory, and the way to heal what git has."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mclr.cli import cli
from mclr.files import sha256, write_json, write_text


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lone clone of a repository whose DVC remote is a folder in git, after `dvc pull`."""
    table, oid = tmp_path / "results" / "table.md", hashlib.md5(b"published").hexdigest()
    write_text(table, "published")
    for store in ("data/store", ".dvc/cache"):
        write_text(tmp_path / store / "files" / "md5" / oid[:2] / oid[2:], "published")
    config = "[core]\n    remote = embedded\n['remote \"embedded\"']\n    url = ../data/store\n"
    write_text(tmp_path / ".dvc" / "config", config)
    write_text(tmp_path / ".dvc" / ".gitignore", "/cache\n/tmp\n")
    write_text(
        tmp_path / "dvc.yaml",
        "stages:\n  all:\n    cmd: 'true'\n    outs: [{results/table.md: {persist: true}}]\n",
    )
    outs = f"[{{path: results/table.md, hash: md5, md5: {oid}, size: 9}}]"
    lock = f"schema: '2.0'\nstages:\n  all:\n    cmd: 'true'\n    outs: {outs}\n"
    write_text(tmp_path / "dvc.lock", lock)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (("init", "-q"), ("add", "data", ".dvc"), (*identity, "commit", "-qm", "x")):
        subprocess.run(("git", *command), cwd=tmp_path, env=kept, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_store(*options: str) -> tuple[int, list[str]]:
    result = CliRunner().invoke(cli, ["check-store", *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output.splitlines()


def test_whatever_has_a_record_is_read(checkout: Path) -> None:
    made, split = checkout / "results" / "made.json", checkout / "data/prepared/x/train.parquet"
    write_json(made, {"a": 1}, noted=True)
    write_text(split, "rows")
    about: dict[str, Any] = {"shape": [1, 2, 2], "num_classes": 1, "class_names": ["a"]}
    about |= {"source": {}, "splits": {"train": {"sha256": sha256(split)}}}
    write_json(split.with_name("manifest.json"), about)
    write_json(checkout / "results" / "unknown.json", {})
    assert check_store() == (0, ["cache: 1 objects, 0 damaged", "workspace: 3 files, 0 damaged"])
    table = checkout / "results" / "table.md"
    for path in (made, split, table):
        damage(path)
    status, (_, count, *faults) = check_store("--heal")
    assert (status, count) == (1, "workspace: 3 files, 3 damaged")
    heals = [
        "  data/prepared/x/train.parquet: damaged: .*Delete data/prepared/x and run `snakemake`",
        "  results/made.json: damaged, .*Delete it and run `snakemake` again",
        "  results/table.md: not the published file; `dvc checkout --force results/table.md` br",
    ]
    assert len(faults) == len(heals)
    assert all(re.match(heal, fault) for fault, heal in zip(faults, heals, strict=True)), faults
    assert table.read_bytes() != b"published"  # somebody may have made it: theirs to decide
    subprocess.run(("dvc", "checkout", "--force", "-q", "results/table.md"), check=True)
    assert table.read_bytes() == b"published"


def test_what_was_made_here_is_no_fault(checkout: Path) -> None:
    write_text(checkout / "results" / "table.md", "made here", noted=True)
    assert check_store()[0] == 0


def test_tables_have_no_note_and_may_have_been_made_here(checkout: Path) -> None:
    table = checkout / "results" / "table.md"
    write_text(table, "made here, or damaged")
    status, (_, count, fault) = check_store()
    assert (status, count) == (1, "workspace: 1 files, 1 damaged")
    assert "results/table.md: not the published file; `dvc checkout --force results/tab" in fault
    (checkout / "results" / "tier").mkdir()
    for name in ("dvc.lock", "dvc.yaml"):
        text = (checkout / name).read_text().replace("results/table", "results/tier/table")
        (checkout / name).write_text(text)
    table.rename(checkout / "results" / "tier" / "table.md")
    write_json(checkout / "results" / "tier" / "made.json", {}, noted=True)
    told = "workspace: 2 files, 0 damaged, 1 others not as published: `dvc status` names them"
    assert check_store() == (0, ["cache: 1 objects, 0 damaged", told])


def test_git_heals_the_store_of_a_lone_clone(checkout: Path) -> None:
    (stored,) = checkout.glob("data/store/files/md5/*/*")
    damage(stored)
    status, said = check_store("--remote", "embedded")
    assert status == 1
    assert said[-1] == "remote embedded is in git: `git checkout data/store` heals it"
    (cached,) = checkout.glob(".dvc/cache/files/md5/*/*")
    for path in (cached, checkout / "results" / "table.md"):
        path.unlink()
    status, said = check_store("--remote", "embedded", "--heal")
    assert status == 1
    assert said[-1].endswith("not in this cache; `git checkout data/store` heals it")
    subprocess.run(("git", "checkout", "-q", "data/store"), check=True)
    assert stored.read_bytes() == b"published"
    assert check_store("--remote", "embedded")[0] == 0

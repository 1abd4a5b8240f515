"""Provenance says where a result comes from, and with which packages it was made."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

from mclr import provenance
from mclr.provenance import (
    collect,
    git_commit,
    git_dirty,
    hardware,
    other_packages,
    packages,
)


def test_collect() -> None:
    found = collect(data_sha256="abc", seed=3)
    assert found.keys() == {
        "git_commit", "git_dirty", "hardware", "python", "packages", "data_sha256", "seed",
    }  # fmt: skip
    assert found["python"] == platform.python_version() and found["seed"] == 3
    assert found["packages"].keys() >= {"torch", "snakemake", "dvc", "mlflow", "torch-fidelity"}


def test_commit_and_dirt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(
            ("git", *identity, *arguments), cwd=tmp_path, check=True, capture_output=True
        )

    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert (git_commit(), git_dirty()) == ("", False)
    git("init")
    (tmp_path / "mclr").mkdir()
    (tmp_path / "mclr" / "a.py").write_text("x = 1\n")
    git("add", ".")
    git("commit", "-m", "first")
    assert len(git_commit()) == 40 and not git_dirty()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "new.json").write_text("{}")
    assert not git_dirty()
    (tmp_path / "mclr" / "a.py").write_text("x = 2\n")
    assert git_dirty()


def test_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mclr.provenance.shutil.which", lambda name: None)
    assert (git_commit(), git_dirty()) == ("", False)


def test_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    assert " cores" in hardware()
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert hardware().endswith(f"{os.cpu_count()} cores") or "cores, " in hardware()


def test_packages_that_are_not_the_lock_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert other_packages({"torch": "1"}) == ""  # no lock file, nothing to compare with
    lock = 'numpy==2.4.6\ntorch==2.14.1 ; sys_platform == "linux"\n'
    (tmp_path / "requirements.lock").write_text(lock)
    assert other_packages({"torch": "2.14.1+cpu", "numpy": "2.4.6", "other": "1"}) == ""
    assert other_packages({"torch": "2.13.0", "numpy": "2.0.0"}) == (
        "numpy 2.0.0 (requirements.lock: 2.4.6), torch 2.13.0 (requirements.lock: 2.14.1)"
    )


def test_every_recorded_package_is_in_the_lock_file() -> None:
    lock = (provenance.ROOT / "requirements.lock").read_text().splitlines()
    assert set(packages()) <= {line.split("==")[0] for line in lock}

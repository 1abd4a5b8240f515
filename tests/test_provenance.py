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
    own_code,
    packages,
)


def test_collect() -> None:
    found = collect(data_sha256="abc", seed=3)
    assert found.keys() == {
        "git_commit", "git_dirty", "hardware", "python", "packages", "data_sha256", "seed",
    }  # fmt: skip
    assert found["python"] == platform.python_version() and found["seed"] == 3
    assert found["packages"].keys() >= {"torch", "snakemake", "dvc", "mlflow", "torch-fidelity"}


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(
        ("git", *identity, *arguments),
        cwd=folder, env=kept, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


def commit_all(folder: Path) -> str:
    """A repository of what is in a folder; its commit."""
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


def unpack(folder: Path) -> Path:
    """An archive's worth of the product."""
    (folder / "mclr").mkdir(parents=True)
    (folder / "mclr" / "a.py").write_text("x = 1\n")
    return folder


@pytest.fixture
def product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What provenance takes for the checkout: unpacked, and no repository yet."""
    folder = unpack(tmp_path / "outer" / "product")
    monkeypatch.setattr(provenance, "ROOT", folder)
    return folder


def test_without_a_repository_nothing_is_said(product: Path) -> None:
    assert (git_commit(), git_dirty()) == ("unknown", None)
    git(product, "init")  # of which there is no commit yet
    assert (git_commit(), git_dirty()) == ("unknown", None)


def test_clean_and_dirty(product: Path) -> None:
    commit = commit_all(product)
    assert (git_commit(), git_dirty()) == (commit, False)
    (product / "results").mkdir()
    (product / "results" / "new.json").write_text("{}")
    assert git_dirty() is False
    (product / "mclr" / "a.py").write_text("x = 2\n")
    assert (git_commit(), git_dirty()) == (commit, True)


def test_own_code_counts(product: Path, tmp_path: Path) -> None:
    """A family's or an objective's file, wherever it is: it is in the commit as it is, or dirt."""
    own = product / "my" / "ipo.py"
    own.parent.mkdir()
    own.write_text("x = 1\n")
    (product / ".gitignore").write_text("ignored.py\n")
    ignored, outside = product / "ignored.py", tmp_path / "elsewhere.py"
    for file in (ignored, outside):
        file.write_text("x = 1\n")
    commit_all(product)
    assert [git_dirty([file]) for file in (own, ignored, outside)] == [False, True, True]
    own.write_text("x = 2\n")
    assert (git_dirty(), git_dirty([own])) == (False, True)
    (product / "my" / "new.py").write_text("x = 1\n")
    assert git_dirty([product / "my" / "new.py"]) is True
    git(product, "checkout", "my")
    assert git_dirty([own]) is False and collect([own])["git_dirty"] is False
    assert collect([outside])["git_dirty"] is True


def test_own_code_of_a_specification() -> None:
    spec = {
        "network": {"family": "own", "implementation": "my/flow.py:Flow", "options": {}},
        "run": {"objective": {"implementation": "my/ipo.py:Ipo"}, "checkpoints": [1, 2]},
    }
    assert list(own_code(spec)) == [Path("my/flow.py"), Path("my/ipo.py")]


def test_a_new_module_is_dirt_whatever_the_user_has_git_show(product: Path) -> None:
    commit_all(product)
    git(product, "config", "status.showUntrackedFiles", "no")
    (product / "mclr" / "b.py").write_text("x = 1\n")
    assert git_dirty() is True


@pytest.mark.parametrize("tracked", [True, False])
def test_a_repository_around_the_checkout_is_not_its_own(product: Path, tracked: bool) -> None:
    if not tracked:
        (product.parent / ".gitignore").write_text("product\n")
    (product.parent / "theirs.txt").write_text("theirs\n")
    outer = commit_all(product.parent)
    assert (git_commit(), git_dirty()) == ("unknown", None)
    own = commit_all(product)
    assert own != outer and (git_commit(), git_dirty()) == (own, False)


def test_variables_that_name_another_repository_are_passed_over(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = unpack(tmp_path / "other")
    (other / "mclr" / "a.py").write_text("x = 3\n")
    commit_all(other)
    for name, value in (
        ("GIT_DIR", other / ".git"),
        ("GIT_WORK_TREE", product),  # which git would then call the top
        ("GIT_INDEX_FILE", other / ".git" / "index"),
    ):
        monkeypatch.setenv(name, str(value))
    assert (git_commit(), git_dirty()) == ("unknown", None)
    own = commit_all(product)
    assert (git_commit(), git_dirty()) == (own, False)


def test_a_worktree_and_a_linked_path_are_the_checkout(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = commit_all(product)
    git(product, "worktree", "add", str(tmp_path / "second"))
    (tmp_path / "link").symlink_to(tmp_path / "second")
    for folder in (tmp_path / "second", tmp_path / "link"):
        monkeypatch.setattr(provenance, "ROOT", folder)
        assert (git_commit(), git_dirty()) == (commit, False)


def test_without_git(product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_all(product)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (git_commit(), git_dirty()) == ("unknown", None)


def test_a_damaged_repository_is_not_taken_for_a_clean_one(product: Path) -> None:
    commit = commit_all(product)
    (product / ".git" / "index").write_bytes(b"no index")
    assert (git_commit(), git_dirty()) == (commit, None)


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

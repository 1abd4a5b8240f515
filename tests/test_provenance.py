"""Code digests follow code, not words; provenance says where a result comes from."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mclr import provenance
from mclr.provenance import code_digest, collect, git_commit, git_dirty, hardware


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small package ``mclr`` of three modules: a imports b, b imports sub.c in a function."""
    folder = tmp_path / "mclr"
    (folder / "sub").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "sub" / "__init__.py").write_text("")
    (folder / "a.py").write_text('"""A."""\nimport json\nfrom mclr.b import f\nx = f(1)\n')
    (folder / "b.py").write_text("def f(x):\n    from mclr.sub import c\n    return c.y + x\n")
    (folder / "sub" / "c.py").write_text("y = 1\n")
    (folder / "other.py").write_text("z = 1\n")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    _forget()
    yield folder
    _forget()


def _forget() -> None:
    provenance._tree.cache_clear()
    provenance._imports.cache_clear()


def digest(*modules: str) -> str:
    _forget()
    return code_digest(*modules)


def test_words_do_not_count(project: Path) -> None:
    before = digest("mclr.a")
    (project / "a.py").write_text(
        '"""B,\n\nlonger."""\n\nimport json  # why\nfrom mclr.b import f\n\nx = f(1)\n'
    )
    (project / "b.py").write_text(
        'def f(x):\n    """Sum."""\n    # Words.\n    from mclr.sub import c\n    return c.y + x\n'
    )
    assert digest("mclr.a") == before


@pytest.mark.parametrize("module", ["a", "b", "sub/c"])
def test_code_counts_through_imports(project: Path, module: str) -> None:
    before, other = digest("mclr.a"), digest("mclr.other")
    file = project / f"{module}.py"
    file.write_text(file.read_text() + "w = 2\n")
    assert digest("mclr.a") != before
    assert digest("mclr.other") == other


def test_other_modules_do_not_count(project: Path) -> None:
    before = digest("mclr.a")
    (project / "other.py").write_text("z = 2\n")
    assert digest("mclr.a") == before
    assert digest("mclr.a", "mclr.other") != before


def test_strings_that_are_values_count(project: Path) -> None:
    before = digest("mclr.sub.c")
    (project / "sub" / "c.py").write_text("y = 1\nv = 'text'\n")
    changed = digest("mclr.sub.c")
    (project / "sub" / "c.py").write_text("y = 1\nv = 'other'\n")
    assert len({before, changed, digest("mclr.sub.c")}) == 3


def test_unknown_module(project: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"mclr\.absent is not a module"):
        digest("mclr.absent")


def test_digest_of_the_training_job_covers_networks_and_objectives() -> None:
    """The modules a training job runs are found, lazy imports included."""
    _forget()
    code_digest("mclr.jobs.training")
    seen, pending = set[str](), ["mclr.jobs.training"]
    while pending:
        module = pending.pop()
        if module not in seen:
            seen.add(module)
            pending += provenance._imports(module)
    assert {
        "mclr.models.edm2.network",
        "mclr.models.var.transformer",
        "mclr.objectives.mclr",
        "mclr.objectives.contrast",
        "mclr.likelihood",
        "mclr.training.schedules",
        "mclr.data.load",
    } <= seen
    assert not any(module.startswith("mclr.report") for module in seen)


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

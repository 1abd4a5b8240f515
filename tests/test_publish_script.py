"""`make publish` begins only where all that it publishes is here, and whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))
import publish
from publish import Published, check_notes, main, missing, require

from mclr.errors import UserError
from mclr.files import write_json, write_text

TIER = Published("digits", "dvc.yaml", ())


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC repository whose tier has a table and the theory lab's folder, and neither is here."""
    write_text(tmp_path / ".dvc" / "config", "[core]\n    no_scm = true\n")
    outs = "[results/digits/table.md, results/theory]"
    stages = f"stages:\n  all:\n    cmd: 'true'\n    outs: {outs}\n"
    write_text(tmp_path / "dvc.yaml", stages)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    return tmp_path


def test_what_is_missing_is_named_with_the_command_that_brings_it(checkout: Path) -> None:
    assert missing("dvc.yaml") == ["results/digits/table.md", "results/theory"]
    write_text(checkout / "results" / "digits" / "table.md", "")
    with pytest.raises(SystemExit) as stop:
        require([TIER])
    told = str(stop.value)
    assert told.startswith("publish: digits: 1 files or folders are not here (results/theory). ")
    assert "`dvc pull dvc.yaml` brings" in told and "\n" not in told
    write_text(checkout / "results" / "theory" / "page.html", "")
    require([TIER])


def test_nothing_is_here(checkout: Path) -> None:
    with pytest.raises(SystemExit, match="publish: no tier has results here: run `dvc pull`"):
        main()


def test_damaged_results_are_not_published(checkout: Path) -> None:
    path = checkout / "results" / "digits" / "evaluations" / "a.json"
    write_json(path, {"a": 1}, noted=True)
    check_notes([TIER])
    path.write_text('{"a": 2}')
    with pytest.raises(UserError, match=r"results/digits/evaluations/a\.json: damaged"):
        check_notes([TIER])


def test_a_command_that_fails_is_one_line(tmp_path: Path) -> None:
    """Where DVC cannot be used, such as outside of a repository."""
    root = Path(__file__).resolve().parents[1]
    (tmp_path / "workflow").mkdir()
    for name in ("mclr", "config"):
        (tmp_path / name).symlink_to(root / name)
    write_text(tmp_path / "workflow" / "publish.py", (root / "workflow/publish.py").read_text())
    write_text(tmp_path / "results" / "digits" / "metrics.parquet", "")
    done = subprocess.run(
        (sys.executable, "workflow/publish.py"), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("publish: ")

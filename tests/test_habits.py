"""What keeps a checkout in order: the hooks before a commit, the quick checks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOOKED = (
    ".pre-commit-config.yaml",
    "pyproject.toml",
    "Snakefile",
    "workflow/rules",
    "mclr",
    "config",
)


class Checkout:
    """A repository of what the hooks look at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "PYTHONPATH"))}
        self.environment = kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PRE_COMMIT_HOME": str(folder.parent / "pre-commit"),
        }
        for name in HOOKED:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(ROOT / name, folder / name)
        self.run("git", "init")
        self.run("git", "add", ".")

    def run(self, *command: str) -> tuple[int, str]:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    def hooks(self) -> tuple[int, dict[str, str], str]:
        """The exit status, what came of each hook, and all that was said."""
        status, said = self.run("pre-commit", "run", "--all-files")
        found = re.findall(r"^(.+?)\.{3,}.*?(Passed|Failed|Skipped)$", said, re.MULTILINE)
        return status, dict(found), said


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_hooks_pass_and_each_finds_its_fault(checkout: Checkout) -> None:
    names = [
        "ruff check",
        "ruff format",
        "snakefmt",
        "config/schema.json is what `mclr schema` prints",
    ]
    status, hooks, said = checkout.hooks()
    assert status == 0 and hooks == dict.fromkeys(names, "Passed"), said
    faults = {
        "mclr/unused.py": '"""A module."""\n\nimport os\n',
        "mclr/spaces.py": '"""A module."""\n\nx  =  1\n',
        "workflow/rules/spaces.smk": "x  =  1\n",
        "config/schema.json": "{}\n",
    }
    for name, text in faults.items():
        (checkout.folder / name).write_text(text)
    checkout.run("git", "add", ".")
    status, hooks, said = checkout.hooks()
    assert status != 0 and hooks == dict.fromkeys(names, "Failed"), said
    assert "mclr/unused.py" in said and "mclr schema > config/schema.json" in said
    assert (checkout.folder / "mclr" / "spaces.py").read_text().endswith("\nx = 1\n")


def test_hooks_fetch_nothing() -> None:
    """Hooks of other repositories would be cloned, and bring tools of their own versions."""
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (.*)", text) == ["local"]
    assert set(re.findall(r"language: (.*)", text)) == {"system"}


def test_what_the_quick_tests_leave_out_is_there() -> None:
    """A file that is renamed would come back among them, unnoticed."""
    makefile = (ROOT / "Makefile").read_text()
    (listed,) = re.findall(r"^SLOW := ((?:.*\\\n)*.*)$", makefile, re.MULTILINE)
    names = listed.replace("\\", " ").split()
    assert {"workflow", "cluster"} < set(names)
    assert [name for name in names if not (ROOT / "tests" / name).exists()] == []

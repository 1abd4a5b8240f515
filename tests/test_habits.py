"""What keeps a checkout in order: hooks before a commit, quick checks, the shape of the code."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))
from rooms import ROOT, arrows, circles, drawing, modules

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


# ------------------------------------------------------------------ the shape of the code

MOST_LINES_OF_FUNCTION, MOST_LINES_OF_MODULE = 60, 350


def too_long(root: Path) -> set[str]:
    """Modules with too many lines, and functions, as ``module:function``."""
    found = set()
    for path, tree in modules(root):
        place = path.relative_to(root).as_posix()
        if len(path.read_text().splitlines()) > MOST_LINES_OF_MODULE:
            found.add(place)
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if (node.end_lineno or 0) - node.lineno + 1 > MOST_LINES_OF_FUNCTION:
                found.add(f"{place}:{node.name}")
    return found


def test_functions_and_modules_are_short() -> None:
    assert too_long(ROOT) == set()


def test_what_is_too_long_is_found(tmp_path: Path) -> None:
    (tmp_path / "mclr").mkdir()
    for name, lines in (("fits", 59), ("long", 60)):
        method = "class A:\n    def f(self):\n" + "        x = 1\n" * lines
        (tmp_path / "mclr" / f"{name}.py").write_text(method)
    (tmp_path / "mclr" / "full.py").write_text("x = 1\n" * 350)
    (tmp_path / "mclr" / "over.py").write_text("x = 1\n" * 351)
    assert too_long(tmp_path) == {"mclr/long.py:f", "mclr/over.py"}


def test_no_circles_between_rooms() -> None:
    """`python workflow/rooms.py` draws them, and names the lines that close a circle."""
    known = arrows()
    assert circles(known.keys()) == [], drawing(known)


def test_circles_are_found_wherever_the_import_is(tmp_path: Path) -> None:
    texts = {
        "ground.py": "x = 1\n",
        "low/a.py": "from mclr import ground\nfrom mclr.low import b\n",
        "low/b.py": "def f():\n    from mclr.high.c import g\n",
        "high/c.py": "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from mclr.middle.inside.d import h\n",
        "middle/inside/d.py": "import mclr.low.a as a\n",
        "top/e.py": "import mclr.low.a\n",
    }
    for name, text in texts.items():
        (tmp_path / "mclr" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mclr" / name).write_text(text)
    known = arrows(tmp_path)
    assert known.keys() == {
        *(("low", "ground"), ("low", "high"), ("high", "middle"), ("middle", "low")),
        ("top", "low"),
    }
    assert circles(known.keys()) == [["high", "low", "middle"]]
    assert "  low → high\n    mclr/low/b.py:2 mclr.high.c" in drawing(known)
    assert circles(known.keys() - {("middle", "low")}) == []

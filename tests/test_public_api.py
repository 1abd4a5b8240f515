"""The names that programs of users import: listed, there, described, and typed."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

import mclr

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGE = (ROOT / "docs" / "reference" / "index.md").read_text().split("## Public API")[1]
API = {
    module: re.findall(r"`(\w+)`", names)
    for module, names in re.findall(r"^\| \[`([\w.]+)`\].*?\| (.*) \|$", PAGE, re.MULTILINE)
}


def described(module: str, name: str) -> bool:
    """Whether a name has a docstring; that of a type alias is the string below it."""
    found = getattr(import_module(module), name)
    if inspect.isclass(found) or inspect.isfunction(found):
        return bool(found.__doc__) and not found.__doc__.startswith(f"{name}(")  # dataclass's own
    for path in (ROOT / "mclr").rglob("*.py"):
        body = ast.parse(path.read_text()).body
        for one, following in pairwise(body):
            if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == name:
                return isinstance(following, ast.Expr)
    return False


def test_the_page_lists_what_the_packages_export() -> None:
    assert API.keys() >= {"mclr.objectives", "mclr.models", "mclr.metrics", "mclr.inference"}
    for module, names in API.items():
        assert names == import_module(module).__all__


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in API.items() for n in names])
def test_every_public_name_is_there_and_described(module: str, name: str) -> None:
    assert described(module, name)


@pytest.mark.parametrize("module", ["mclr", *API])
def test_other_names_are_missing_as_elsewhere(module: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        _ = import_module(module).nothing


def test_the_version_is_that_of_the_project() -> None:
    assert mclr.__version__ == PROJECT["project"]["version"]


def test_type_hints_are_installed_with_the_package() -> None:
    assert (ROOT / "mclr" / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["mclr"]


def test_mypy_knows_the_public_names(tmp_path: Path) -> None:
    """Of names that are loaded when asked for, too; a name that is not there is an error."""
    lines = [f"from {module} import {', '.join(names)}" for module, names in API.items()]
    program = tmp_path / "program.py"
    program.write_text(
        "\n".join([*lines, "frechet_distance(1)", "from mclr.metrics import nothing"])
    )
    done = subprocess.run(
        (sys.executable, "-m", "mypy", "--strict", str(program)),
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    found = re.findall(r"program\.py:\d+: error: .*\[([\w-]+)\]", done.stdout)
    assert sorted(found) == ["arg-type", "attr-defined", "call-arg"], done.stdout

"""One lock file pins every dependency, for pip and for conda alike."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from mclr.provenance import PACKAGES

ROOT = Path(__file__).resolve().parent.parent


def lock() -> dict[str, Requirement]:
    """The pins of requirements.lock by package name."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return pinned([line for line in lines if line.strip() and not line.startswith(("#", "-"))])


def pinned(lines: list[str]) -> dict[str, Requirement]:
    """Requirements by package name; each must be an exact pin, and name its package once."""
    pins: dict[str, Requirement] = {}
    for line in lines:
        requirement = Requirement(line.split(" #")[0].rstrip("\\ "))
        name = str(canonicalize_name(requirement.name))
        assert [s.operator for s in requirement.specifier] == ["=="], f"{line!r} is no exact pin"
        assert name not in pins, f"{name} is pinned twice"
        pins[name] = requirement
    return pins


def version(requirement: Requirement) -> str:
    return next(iter(requirement.specifier)).version


def project() -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return content


def environment() -> tuple[list[str], list[str]]:
    """Conda and pip entries of environment.yml."""
    conda, pip = [], []
    for entry in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]:
        if isinstance(entry, dict):
            pip += entry["pip"]
        else:
            conda.append(entry)
    return conda, pip


def test_every_dependency_is_pinned() -> None:
    pins, content = lock(), project()
    groups = [content["dependencies"], *content["optional-dependencies"].values()]
    for text in (text for group in groups for text in group):
        requirement = Requirement(text)
        name = str(canonicalize_name(requirement.name))
        assert name in pins, f"{name} of pyproject.toml is not in requirements.lock"
        assert requirement.specifier.contains(version(pins[name]), prereleases=True), text


def test_packages_of_the_provenance_are_pinned() -> None:
    assert {str(canonicalize_name(name)) for name in PACKAGES} <= lock().keys()


def test_conda_installs_the_lock() -> None:
    """Either the lock file itself, or the same pins with the same markers."""
    pins, (conda, pip) = lock(), environment()
    assert any(entry.split("=")[0] == "pip" for entry in conda)
    if "-r requirements.lock" not in pip:
        assert pinned([entry for entry in pip if not entry.startswith("-")]) == pins
    twice = {canonicalize_name(entry.split("=")[0]) for entry in conda} & pins.keys()
    assert not twice, f"{twice}: installed by conda and by pip"


def test_python_is_the_one_of_the_project() -> None:
    conda, _ = environment()
    python = next(entry for entry in conda if entry.startswith("python="))
    assert Version(re.split("=+", python)[1]) in SpecifierSet(project()["requires-python"])

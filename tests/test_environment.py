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


def lock() -> dict[str, str]:
    """Version of each package of requirements.lock."""
    pins = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        line = line.split("#")[0].strip()
        if not line or line.startswith("-"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;\\]+)(\s*[;\\].*)?", line)
        assert match, f"requirements.lock: {line!r} is not an exact pin"
        pins[str(canonicalize_name(match[1]))] = match[2]
    return pins


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
        assert requirement.specifier.contains(pins[name], prereleases=True), text


def test_packages_of_the_provenance_are_pinned() -> None:
    assert {str(canonicalize_name(name)) for name in PACKAGES} <= lock().keys()


def test_conda_installs_the_lock() -> None:
    """Either the lock itself, or pins that are equal to its own."""
    pins, (conda, pip) = lock(), environment()
    assert any(entry.split("=")[0] == "pip" for entry in conda)
    if "-r requirements.lock" not in pip:
        explicit = {
            str(canonicalize_name(name)): version
            for name, _, version in (entry.partition("==") for entry in pip if "==" in entry)
        }
        assert explicit == pins
    for entry in conda:
        name, *version = re.split("=+", entry)
        if name in pins and version:
            assert Version(pins[name]) in SpecifierSet(f"=={version[0]}.*")


def test_python_is_the_one_of_the_project() -> None:
    conda, _ = environment()
    python = next(entry for entry in conda if entry.startswith("python="))
    version = re.split("=+", python)[1]
    assert Version(version) in SpecifierSet(project()["requires-python"])


def test_lock_names_each_package_once() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    names = [canonicalize_name(line.split("==")[0]) for line in lines if "==" in line]
    assert len(names) == len(set(names)) == len(lock())

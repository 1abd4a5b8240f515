"""One lock file pins every dependency, for pip and for conda alike."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from mclr.provenance import PACKAGES, other_packages

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))
import licences

ROOT = Path(__file__).resolve().parent.parent


def lock() -> dict[str, Requirement]:
    """The pins of requirements.lock by package name."""
    return pinned(entries())


def entries() -> list[str]:
    """One line of requirements.lock for each package, with its hashes."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", "")
    return [line for line in text.splitlines() if not line.startswith("#")]


def pinned(lines: list[str]) -> dict[str, Requirement]:
    """Requirements by package name; each must be an exact pin, and name its package once."""
    pins: dict[str, Requirement] = {}
    for line in lines:
        requirement = Requirement(line.split(" --hash=")[0])
        name = str(canonicalize_name(requirement.name))
        assert [s.operator for s in requirement.specifier] == ["=="], f"{line!r} is no exact pin"
        assert name not in pins, f"{name} is pinned twice"
        pins[name] = requirement
    return pins


def hashes(lines: list[str]) -> dict[str, list[str]]:
    """The values of --hash by package name."""
    return {
        str(canonicalize_name(line.split("==")[0])): re.findall(r" --hash=(\S+)", line)
        for line in lines
    }


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


def test_every_pin_has_hashes() -> None:
    """Else pip refuses all of the file."""
    for name, found in hashes(entries()).items():
        assert found and len(set(found)) == len(found), name
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", value) for value in found), name


def test_provenance_reads_every_pin() -> None:
    named = other_packages({name: "0" for name in lock()})
    assert named.split(", ") == [
        f"{name} 0 (requirements.lock: {version(pin)})" for name, pin in sorted(lock().items())
    ]


def test_licences_of_packages_are_listed() -> None:
    """Every pin with its version; of those installed here as pinned, what they state."""
    page = (ROOT / "docs" / "packages.md").read_text()
    listed = {
        row[0]: row[1:] for row in re.findall(r"^\| (\S+) \| (\d\S*) \| (.+) \|$", page, re.M)
    }
    found = licences.pins((ROOT / "requirements.lock").read_text())
    again = "run `python workflow/licences.py`"
    assert {name: row[0] for name, row in listed.items()} == dict(found), again
    for name, pin in found:
        stated = licences.licence(name, pin)
        if stated != licences.OTHER_SYSTEM:
            assert listed[name][1] == licences.shown(stated), f"{name}: {again}"


def test_make_installs_first_what_builds_packages() -> None:
    """Its lines of the lock file, as the Makefile takes them."""
    steps = subprocess.run(
        ("make", "--dry-run", "--always-make", "env"), cwd=ROOT, capture_output=True, text=True
    ).stdout
    command = next(line for line in steps.splitlines() if line.startswith("sed"))
    taken = subprocess.run(
        command.split(">")[0], shell=True, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert [" ".join(taken.replace("\\\n", "").split())] == [
        " ".join(entry.split()) for entry in entries() if entry.startswith("setuptools==")
    ]


def test_conda_installs_the_lock() -> None:
    """The same pins with the same markers and hashes."""
    pins, (conda, pip) = lock(), environment()
    assert any(entry.split("=")[0] == "pip" for entry in conda)
    assert pinned(pip) == pins
    assert hashes(pip) == hashes(entries())
    twice = {canonicalize_name(entry.split("=")[0]) for entry in conda} & pins.keys()
    assert not twice, f"{twice}: installed by conda and by pip"


def test_python_is_the_one_of_the_project() -> None:
    conda, _ = environment()
    python = next(entry for entry in conda if entry.startswith("python="))
    assert Version(re.split("=+", python)[1]) in SpecifierSet(project()["requires-python"])


PYTHONS = ("3.11", "3.12", "3.13")


def test_every_python_of_the_project_is_named_once() -> None:
    """In its range, its classifiers, and what the Makefile looks for, in this order."""
    content = project()
    versions = SpecifierSet(content["requires-python"])
    assert [f"3.{minor}" for minor in range(9, 17) if f"3.{minor}" in versions] == [*PYTHONS]
    named = [line.rpartition(" ")[2] for line in content["classifiers"] if ":: 3." in line]
    assert named == [*PYTHONS]
    searched = re.search(r"\$\(foreach v,([\d. ]+),", (ROOT / "Makefile").read_text())
    assert searched and searched[1].split() == [*PYTHONS]


def test_the_lock_is_the_same_for_every_python() -> None:
    """On Linux no pin is for some of them alone."""
    for name, pin in lock().items():
        applies = {
            not pin.marker
            or pin.marker.evaluate({"python_version": v, "python_full_version": f"{v}.1"})
            for v in PYTHONS
        }
        assert len(applies) == 1, f"{name}: {pin.marker}"


def stub(folder: Path, version: str) -> None:
    """A Python of a version that asks its true one whatever is asked, and installs nothing."""
    folder.mkdir(exist_ok=True)
    path, number = folder / f"python{version}", tuple(map(int, version.split(".")))
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.version_info = ({number[0]}, {number[1]}, 0)\n"
        "if sys.argv[1] == '-c': exec(sys.argv[2])\nelse: sys.exit(' '.join(sys.argv[1:]))\n"
    )
    path.chmod(0o755)


def make_env(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make env` in a folder with nothing but its files, and stubs before all other Pythons."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    for tool in ("make", "sh", "sed", "touch"):
        found = shutil.which(tool)
        assert found
        if not (tools / tool).exists():
            (tools / tool).symlink_to(found)
    # A make that runs these tests hands its own variables down: `make quick VENV=.venv-second`.
    given = ("MAKE", "MFLAGS", "PYTHON", "VENV", "CPU", "CORES")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(given)}
    path = os.pathsep.join([str(folder / "pythons"), str(tools)])
    return subprocess.run(
        ("make", "env", *arguments),
        cwd=folder, env=kept | {"PATH": path}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("there", "taken"),
    [(("3.13",), "3.13"), (("3.12", "3.13"), "3.12"), (("3.10", "3.11", "3.13"), "3.11")],
)
def test_make_takes_the_first_python_that_there_is(
    there: tuple[str, ...], taken: str, tmp_path: Path
) -> None:
    for version in there:
        stub(tmp_path / "pythons", version)
    said = make_env(tmp_path)
    assert f"pythons/python{taken} -m venv .venv\n" in said.stdout, said
    elsewhere = make_env(tmp_path, "VENV=other")
    assert f"pythons/python{taken} -m venv other\n" in elsewhere.stdout


def test_make_passes_by_a_python_that_does_not_start(tmp_path: Path) -> None:
    """As the commands of version managers do not where another version is chosen."""
    for version in ("3.11", "3.12"):
        stub(tmp_path / "pythons", version)
    shim = tmp_path / "pythons" / "python3.11"
    shim.write_text("#!/bin/sh\necho 'python3.11: command not found' >&2\nexit 127\n")
    assert "pythons/python3.12 -m venv .venv\n" in make_env(tmp_path).stdout


@pytest.mark.parametrize("version", ["3.10", "3.14"])
def test_make_refuses_other_pythons(version: str, tmp_path: Path) -> None:
    stub(tmp_path / "pythons", version)
    said = make_env(tmp_path, f"PYTHON=python{version}")
    assert said.returncode and "Python 3.11, 3.12 or 3.13 is needed" in said.stdout
    assert "-m venv" not in said.stdout


def test_without_cuda_all_else_is_the_lock() -> None:
    """The lines of the lock file that `make env CPU=1` keeps, and what it takes from elsewhere."""
    steps = subprocess.run(
        ("make", "--dry-run", "--always-make", "env", "CPU=1"),
        cwd=ROOT, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    other = next(line for line in steps if "whl/cpu" in line)
    named = subprocess.run(
        ("sh", "-c", f"echo $({other.partition('$(')[2]}"),
        cwd=ROOT, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert named == [f"{name}=={version(lock()[name])}" for name in ("torch", "torchvision")]
    rest = next(line for line in steps if line.startswith("sed") and "torch" in line)
    kept = subprocess.run(
        rest.split(" > ")[0], shell=True, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.replace("\\\n", "")
    left = pinned([line for line in kept.splitlines() if not line.startswith("#")])
    gone = lock().keys() - left.keys()
    assert {"torch", "torchvision", "triton"} <= gone
    assert all(name.startswith(("nvidia-", "cuda-", "tri", "torch")) for name in gone)
    assert not [name for name in left if name.startswith(("nvidia", "cuda"))]
    assert "torch-fidelity" in left

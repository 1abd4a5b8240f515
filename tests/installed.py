"""The package as ``pip install`` gives it: its wheel, in an environment with what that asks for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("mclr", "pyproject.toml", "README.md", "LICENSE", "data/versions.csv")
"""What a wheel is made of."""


def build(folder: Path) -> Path:
    """The wheel of this checkout, built from a copy without asking any index."""
    copy = folder / "source"
    for name in SOURCES:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, copy / name)
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder / "wheels"), str(copy))
    (wheel,) = (folder / "wheels").glob("mclr-*.whl")
    return wheel


def pip(*arguments: str) -> None:
    """Run a command of pip that uses no index and installs no dependency."""
    command, *rest = arguments
    options = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    subprocess.run((sys.executable, "-m", "pip", command, *options, *rest), check=True)


class Environment:
    """A new virtual environment with the wheel, the packages that it needs, and no others.

    The packages are links to those of this environment: all that the wheel's metadata asks for,
    with what these ask for in turn, and with some of its extras.
    """

    def __init__(self, wheel: Path, folder: Path, *extras: str) -> None:
        self.folder = folder
        base = folder / "venv"
        subprocess.run((sys.executable, "-m", "venv", "--without-pip", str(base)), check=True)
        (self.site,) = base.glob("lib/python*/site-packages")
        pip("install", "--target", str(self.site), str(wheel))
        (metadata,) = self.site.glob("mclr-*.dist-info")
        self.packages = set(needed(Distribution.at(metadata), extras))
        for name in self.packages:
            self._link(distribution(name))
        self.python = base / "bin" / "python"

    def _link(self, package: Distribution) -> None:
        tops = {file.parts[0] for file in package.files or [] if file.parts[0] != ".."}
        for top in tops - {"__pycache__"}:
            if not (self.site / top).exists():
                (self.site / top).symlink_to(Path(str(package.locate_file(top))).resolve())

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit status and output of Python with these arguments, in the empty folder ``work``."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MCLR", "GIT"))}
        done = subprocess.run(
            (str(self.python), *arguments), cwd=work, env=kept, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr


def needed(package: Distribution, extras: tuple[str, ...] = ()) -> Iterator[str]:
    """Names of the packages that one asks for on this machine, and those that they ask for."""
    seen: set[tuple[str, str]] = set()
    queue = [(package, extra) for extra in ("", *extras)]
    while queue:
        asking, extra = queue.pop()
        for text in asking.requires or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker and not marker.evaluate({"extra": extra}):
                continue
            name = str(canonicalize_name(requirement.name))
            for wanted in {"", *requirement.extras}:
                if (name, wanted) not in seen:
                    seen.add((name, wanted))
                    yield name
                    queue.append((_installed(name), wanted))


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise AssertionError(f"{name} is asked for, and not installed here") from error

"""Programs of the system that some tests need: root gets Debian's package, others skip the test."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

SYSTEM = ("/usr/sbin", "/sbin")


def installed(program: str, package: str) -> str:
    """Path of a program, wherever Debian's packages have their programs."""
    if not (found := _find(program)) and os.geteuid() == 0 and shutil.which("apt-get"):
        # Tests run in several processes; a new machine has no lists of packages.
        with (Path(tempfile.gettempdir()) / "mclr-apt.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _find(program):
                _apt("update")
                _apt("install", "-y", "--no-install-recommends", package)
        found = _find(program)
    if found is None:
        pytest.skip(f"{program} is not installed and could not be: apt-get install {package}")
    return found


def _find(program: str) -> str | None:
    servers = map(str, Path("/usr/lib/postgresql").glob("*/bin"))
    return shutil.which(program, path=os.pathsep.join([os.environ["PATH"], *SYSTEM, *servers]))


def _apt(*arguments: str) -> None:
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ("apt-get", "-o", "DPkg::Lock::Timeout=600", *arguments)
    subprocess.run(command, capture_output=True, env=quiet)

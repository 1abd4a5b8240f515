"""Where a result comes from: commit, machine and package versions.

These facts vary between machines and moments, so they are kept beside results and in tracking
tags, never inside files that are compared by content.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = "requirements.lock"
CODE = ("mclr", "workflow", "config", "Snakefile")
UNKNOWN = "unknown"
"""The commit of code that is in no repository of its own."""
PACKAGES = (
    *("torch", "torchvision", "torch-fidelity", "diffusers", "numpy", "scipy", "scikit-learn"),
    *("pillow", "pandas", "pyarrow", "snakemake", "dvc", "mlflow"),
)


def _git(*arguments: str) -> str | None:
    """What git says of the checkout, or None if it fails or is missing.

    Variables such as GIT_DIR are left out, which may name another repository.
    """
    if shutil.which("git") is None:
        return None
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    result = subprocess.run(("git", *arguments), capture_output=True, cwd=ROOT, env=kept)
    return os.fsdecode(result.stdout).strip("\n") if result.returncode == 0 else None


def git_commit() -> str:
    """The commit of the code; ``UNKNOWN`` if the checkout is not the top of a repository.

    It may be an unpacked archive inside a repository of something else.
    """
    top = _git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != ROOT.resolve():
        return UNKNOWN
    return _git("rev-parse", "HEAD") or UNKNOWN


def git_dirty(own: Iterable[Path] = ()) -> bool | None:
    """Whether code or configuration differ from the commit; None where that is unknown.

    own: code of the user's own that took part. What of it the commit does not have as it is, is a
    difference. Results do not count.
    """
    if git_commit() == UNKNOWN:
        return None
    changed = _git("status", "--porcelain", "--untracked-files=normal", "--", *CODE)
    if changed is None:
        return None
    return bool(changed) or not all(_is_committed(path) for path in own)


def _is_committed(file: Path) -> bool:
    """Whether a file is, as it is, in the commit."""
    place = str(file.resolve())
    known = _git("ls-files", "--error-unmatch", "--", place)
    return known is not None and _git("status", "--porcelain", "--", place) == ""


def own_code(content: Any) -> Iterator[Path]:
    """The files of code that a job's specification names: a family's, an objective's."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if key == "implementation" and isinstance(value, str):
                yield Path(value.rpartition(":")[0])
            else:
                yield from own_code(value)


def hardware() -> str:
    """Processor (and accelerator) of this machine, in words."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.machine()
    # Only Linux tells how many cores this process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = f"{cpu}, {cores} cores"
    if shutil.which("nvidia-smi"):
        query = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
        found = subprocess.run(query, capture_output=True, text=True).stdout.strip()
        words += f", {found.replace(chr(10), ', ')}" if found else ""
    return words


def packages() -> dict[str, str]:
    """The installed version of each package that matters; one that is absent is left out."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def other_packages(found: Mapping[str, str] | None = None) -> str:
    """Packages that are not those of the lock file, in words; empty where all are.

    Results may differ with them. found: versions by name, the installed ones if absent.
    """
    path = ROOT / LOCK
    if not path.is_file():
        return ""
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    locked = dict(pins)
    versions = packages() if found is None else found
    return ", ".join(
        f"{name} {version} ({LOCK}: {locked[name]})"
        for name, version in sorted(versions.items())
        if name in locked and version.split("+")[0] != locked[name]
    )


def collect(own: Iterable[Path] = (), /, **facts: Any) -> dict[str, Any]:
    """Provenance of one result; ``facts`` (data hash, config hash …) are added as they are.

    own: files of code besides this package that took part, see ``git_dirty``.
    """
    return {
        "git_commit": git_commit(),
        "git_dirty": git_dirty(own),
        "hardware": hardware(),
        "python": platform.python_version(),
        "packages": packages(),
        **facts,
    }

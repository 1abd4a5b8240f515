"""Whether a site can run the workflow: one line per check, with what to do where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from mclr.errors import UserError
from mclr.extras import command_for
from mclr.operations.doctor_slurm import (
    SiteError,
    check_account,
    check_class,
    check_slurm,
    run_probe,
)
from mclr.operations.site import load_site, site_path
from mclr.tracking.store import is_database, masked, resolve_uri

CLASSES = ("train", "sample", "evaluate")
NETWORK_FILESYSTEMS = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.ceph", "smb3", "9p")


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; ``advice`` is empty where all is well."""

    name: str
    what: str
    advice: str = ""

    @property
    def ok(self) -> bool:
        return not self.advice

    def __str__(self) -> str:
        lines = [f"{'ok' if self.ok else 'problem':8} {self.name}: {self.what}"]
        return "\n".join(lines + ([] if self.ok else [f"{'':8} to do: {self.advice}"]))


def examine(folder: Path, *, jobs: bool, wait: int) -> Iterator[Finding]:
    """All findings for the checkout in ``folder``, one after the other.

    With ``jobs``, a job of each class that Slurm can run is started, and given ``wait`` seconds.
    """
    try:
        site, named = load_site(), site_path()
        yield Finding(
            "site", str(named) if named else "no config/site.yaml; all values are defaults"
        )
    except UserError as error:
        yield Finding("site", str(error), "correct the file, see config/site.example.yaml")
        return
    controller = _check("Slurm", check_slurm)
    yield controller
    if controller.ok:
        asked = {name: site.job(name) for name in CLASSES}
        yield _check("accounting", partial(check_account, list(asked.values())))
        for name, job in asked.items():
            yield (fits := _check(f"{name} jobs", partial(check_class, job)))
            if fits.ok and jobs:
                yield _check(f"{name} job", partial(run_probe, job, folder, wait))
    yield _check("MLflow store", partial(_mlflow, folder))
    yield _check("DVC remote", partial(_dvc, folder))


def _check(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, check())
    except SiteError as problem:
        return Finding(name, problem.what, problem.advice)


def _mlflow(folder: Path) -> str:
    uri = resolve_uri(None)
    if uri.startswith("sqlite:///"):
        path = folder / uri.removeprefix("sqlite:///")
        kind = filesystem_of(path.parent)
        if kind in NETWORK_FILESYSTEMS:
            raise SiteError(
                f"{path} is SQLite on {kind}, where its locks fail",
                "start an MLflow server, or name a local disk: "
                "MLFLOW_TRACKING_URI=sqlite:////local/disk/mlflow.db",
            )
        if not os.access(path.parent, os.W_OK):
            raise SiteError(f"{path.parent} cannot be written", "set MLFLOW_TRACKING_URI")
        return f"{path}, on {kind}"
    if is_database(uri):
        return f"{masked(uri)}, opened when results are published"
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5):
            return f"{masked(uri)} answers"
    except (OSError, ValueError) as error:
        raise SiteError(
            f"{masked(uri)} does not answer: {error}",
            "start the server or correct MLFLOW_TRACKING_URI; runs train without it",
        ) from None


def filesystem_of(folder: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Type of the filesystem that holds ``folder``, such as ``ext4`` or ``nfs4``."""
    place, best, kind = folder.resolve(), -1, "unknown"
    lines = mounts.read_text().splitlines() if mounts.exists() else []
    for _, point, found, *_ in (line.split() for line in lines):
        if place.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), found
    return kind


DVC_PROBE = """
import sys
from dvc.repo import Repo
remote = Repo().cloud.get_remote()
remote.fs.exists(remote.path) or sys.exit(f"{remote.path}: no such place")
print(remote.fs.unstrip_protocol(remote.path))
"""


def _dvc(folder: Path) -> str:
    if find_spec("dvc") is None:
        raise SiteError("dvc is not installed", f"run {command_for('dvc')}")
    command = [sys.executable, "-c", DVC_PROBE]
    advice = "see `dvc remote list`; credentials belong in .dvc/config.local"
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise SiteError("no answer in 60 s", advice) from None
    if done.returncode:
        raise SiteError((done.stderr.strip().splitlines() or ["unknown error"])[-1], advice)
    return done.stdout.strip()

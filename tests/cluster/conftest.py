"""A real Slurm of two virtual nodes on this machine, and checkouts to run on it.

Drills are longer than a suite may be: MCLR_DRILLS=1 pytest tests/cluster -m drill
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("MCLR_CLUSTER_STATE", "/tmp/mclr-cluster"))

sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests" / "workflow")]

from slurm_checkout import CLUSTER, SlurmCheckout, slurm_checkout  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "drill: minutes long; runs only with MCLR_DRILLS=1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("drill") and not os.environ.get("MCLR_DRILLS"):
            item.add_marker(pytest.mark.skip(reason="a drill: set MCLR_DRILLS=1"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """Slurm is up; the folder of its state. One test session at a time uses it."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("Slurm can be installed and started only by root on Debian")
    with Path("/tmp/mclr-cluster.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        was_up = (STATE / "run" / "slurmctld.pid").exists()
        started = subprocess.run([CLUSTER / "start"], capture_output=True, text=True)
        if started.returncode:
            pytest.skip(f"no Slurm here: {(started.stderr.strip().splitlines() or ['?'])[-1]}")
        yield STATE
        if not was_up:
            subprocess.run([CLUSTER / "stop", "--purge"], check=True, capture_output=True)


@pytest.fixture
def on_slurm(cluster: Path, tmp_path: Path) -> Callable[..., SlurmCheckout]:
    """Make a checkout whose base model trains for a while; called with the number of steps."""
    checkouts: list[SlurmCheckout] = []

    def make(steps: int, warning: int = 0, **train: int) -> SlurmCheckout:
        folder = tmp_path / f"checkout{len(checkouts)}"
        checkouts.append(slurm_checkout(folder, steps, warning, train))
        return checkouts[-1]

    yield make  # type: ignore[misc]
    for checkout in checkouts:
        checkout.end()

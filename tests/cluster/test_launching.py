"""How training is started, and what a run does about jobs and locks of one that was killed."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from mclr.errors import UserError
from mclr.operations.checkout import single_run
from mclr.operations.slurm import cancel_left_overs, jobs_of

ROOT = Path(__file__).resolve().parents[2]


def fake(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH, for commands that only say what they were asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    for name in ("python", "srun"):
        fake(folder, name, f'echo {name} "$@"')
    return folder


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ("1 1", "python -m mclr base --spec {}"),
        (
            "1 2",
            "python -m torch.distributed.run --standalone --nproc-per-node=2"
            " -m -- mclr base --spec {}",
        ),
        (
            "2 4",
            "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=1"
            " workflow/torchrun-node 4 base --spec {}",
        ),
    ],
)
def test_launch(sizes: str, expected: str) -> None:
    command = ["workflow/launch", *sizes.split(), "base", "--spec", "{}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


@pytest.mark.usefixtures("commands")
def test_torchrun_on_a_node() -> None:
    slurm = {
        "SLURM_NNODES": "2",
        "SLURM_NODEID": "1",
        "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7",
        "SLURM_JOB_ID": "123456",
    }
    done = subprocess.run(
        ["workflow/torchrun-node", "4", "base"],
        cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | slurm,
    )  # fmt: skip
    assert done.stdout.split() == [
        *("python", "-m", "torch.distributed.run", "--nnodes=2", "--node-rank=1"),
        *("--nproc-per-node=4", "--master-addr=10.0.0.7", "--master-port=23456"),
        *("-m", "--", "mclr", "base"),
    ]


def test_jobs_of_this_folder_alone(commands: Path, tmp_path: Path) -> None:
    rows = (f"11|mclr_a|{tmp_path}", f"9|mclr_a|{tmp_path}", "12|mclr_a|/x", f"13|my|{tmp_path}")
    fake(commands, "squeue", f"printf '%s\\n' {' '.join(repr(row) for row in rows)}")
    assert jobs_of(tmp_path) == ["9", "11"]


def test_left_overs_are_cancelled_and_awaited(commands: Path, tmp_path: Path) -> None:
    queue, cancelled = tmp_path / "queue", tmp_path / "cancelled"
    queue.write_text(f"7|mclr_a|{tmp_path}\n")
    # The job takes one more look to end.
    fake(commands, "squeue", f"cat {queue}; [ ! -e {cancelled} ] || : > {queue}")
    fake(commands, "scancel", f'echo "$@" > {cancelled}')
    assert cancel_left_overs(tmp_path) == ["7"]
    assert cancelled.read_text() == "7\n"
    assert cancel_left_overs(tmp_path) == ()


def test_a_job_that_does_not_end_stops_the_run(commands: Path, tmp_path: Path) -> None:
    fake(commands, "squeue", f"echo '7|mclr_a|{tmp_path}'")
    fake(commands, "scancel", "true")
    with pytest.raises(UserError, match=r"jobs 7 do not end; .* may still work in"):
        cancel_left_overs(tmp_path, seconds=0)


def test_no_answer_stops_the_run_and_no_slurm_does_not(commands: Path, tmp_path: Path) -> None:
    assert cancel_left_overs(tmp_path) == ()
    fake(commands, "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(UserError, match=r"squeue: Unable to contact slurm controller; jobs of an"):
        cancel_left_overs(tmp_path)


@pytest.mark.parametrize(("machine", "left"), [(socket.gethostname(), 0), ("other", 1)])
def test_locks_of_a_killed_snakemake(machine: str, left: int, tmp_path: Path) -> None:
    """Stale if its machine was this one, for our own lock shows that it is gone."""
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "0.output.lock").touch()
    (tmp_path / "mclr.lock").write_text(f"1234 {machine}")
    single_run(tmp_path).close()
    assert len(list((tmp_path / "locks").iterdir())) == left

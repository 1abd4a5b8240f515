"""What the workflow asks of Slurm itself, beyond what Snakemake's plugin does."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from mclr.errors import UserError
from mclr.events import LOG

PREFIX = "mclr_"
"""How the names of our jobs begin; ``slurm-jobname-prefix`` of the profile."""

POLL_SECONDS = 1.0


def ask(*command: str, seconds: float = 60) -> str:
    """Output of a Slurm command.

    Raises:
        UserError: the command is missing, fails, or does not answer in time.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except FileNotFoundError:
        raise UserError(
            f"{command[0]}: no such command; Slurm is not installed on this machine, or not in PATH"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]}: no answer from Slurm in {seconds:.0f} s") from None
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise UserError(f"{command[0]}: {reason[-1]}")
    return done.stdout


def jobs_of(folder: Path) -> list[str]:
    """Ids of our Slurm jobs, waiting or running, that were submitted from ``folder``."""
    listed = ask("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%A|%j|%Z")
    rows = [line.split("|", 2) for line in listed.splitlines()]
    here = folder.resolve()
    ours = {job for job, name, where in rows if name.startswith(PREFIX) and _same(where, here)}
    return sorted(ours, key=int)


def _same(where: str, folder: Path) -> bool:
    return Path(where).resolve() == folder


def cancel_left_overs(folder: Path, seconds: float = 900) -> Sequence[str]:
    """Cancel jobs that a killed Snakemake left in Slurm, and wait until they are gone.

    Without this a second run would start the same job beside the first. Training saves its state
    when it is cancelled, so at most the step under way is lost.

    Raises:
        UserError: Slurm does not answer, or a job does not end within ``seconds``.
    """
    if shutil.which("squeue") is None:
        return ()
    try:
        jobs = jobs_of(folder)
        if not jobs:
            return ()
        LOG.warning(
            "cancelling Slurm jobs of an earlier run in this directory: %s", ", ".join(jobs)
        )
        ask("scancel", *jobs)
        deadline = time.monotonic() + seconds
        while left := jobs_of(folder):
            if time.monotonic() > deadline:
                raise UserError(f"jobs {', '.join(left)} do not end")
            time.sleep(POLL_SECONDS)
        return jobs
    except UserError as error:
        raise UserError(
            f"{error}; jobs of an earlier run may still work in {folder}: wait until "
            "`squeue --me` shows none, then run the same command again"
        ) from None

"""What the Snakefile needs beyond Snakemake: one run at a time in a directory."""

from __future__ import annotations

import fcntl
import os
from io import TextIOWrapper
from pathlib import Path

from mclr.errors import UserError


def single_run(folder: Path) -> TextIOWrapper:
    """Hold the lock of a working directory for as long as the returned file stays open.

    Snakemake's own locks protect files, not the directory, and are dropped when an instance with
    other targets finishes. The operating system releases this one when the process ends, however
    it ends.

    Raises:
        UserError: another run holds the lock; it is named by its process id.
    """
    folder.mkdir(exist_ok=True)
    lock = (folder / "mclr.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise UserError(
            f"another snakemake (process {lock.read().strip() or 'unknown'}) is working in "
            f"{folder.resolve().parent}; wait for it to finish, or stop it with Ctrl-C"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock

"""What the Snakefile needs beyond Snakemake: the right code, and one run at a time."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Iterable
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from mclr.errors import UserError


def use_checkout(basedir: str) -> None:
    """Make jobs run the code of this checkout with the Python that runs Snakemake.

    Works whether or not the environment is activated, and in several checkouts at once.
    """
    paths = [basedir, os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def without_colours(handlers: Iterable[Any]) -> None:
    """Have Snakemake's log handlers colour nothing where NO_COLOR is set (https://no-color.org)."""
    for handler in handlers if os.environ.get("NO_COLOR") else ():
        handler.nocolor = True


def single_run(folder: Path) -> TextIOWrapper:
    """Hold the lock of a working directory for as long as the returned file stays open.

    Snakemake's own locks protect files, not the directory, and are dropped when an instance with
    other targets finishes. The operating system releases this one when the process ends, however
    it ends. What a killed instance on this machine left of Snakemake's locks is therefore stale,
    and removed; those of another machine stay, because not every filesystem locks across machines.

    Raises:
        UserError: another run holds the lock; it is named by its process id.
    """
    folder.mkdir(exist_ok=True)
    lock = (folder / "mclr.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"another snakemake (process {(_holder(lock) or ['unknown'])[0]}) is working in "
            f"{folder.resolve().parent}; wait for it to finish, or stop it with Ctrl-C"
        ) from None
    if _holder(lock)[1:] == [socket.gethostname()]:
        for stale in (folder / "locks").glob("*.lock"):
            stale.unlink()
    lock.truncate(0)
    lock.write(f"{os.getpid()} {socket.gethostname()}")
    lock.flush()
    return lock


def _holder(lock: TextIOWrapper) -> list[str]:
    """Process id and machine of the last holder; nothing if there was none."""
    lock.seek(0)
    return lock.read().split()

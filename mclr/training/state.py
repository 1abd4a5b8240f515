"""The private folder of a training run: resumable state and checkpoints, until the run is complete.

They are not declared outputs, because Snakemake deletes the declared outputs of a job that failed.
State is keyed by a digest of everything that decides the result; the state of another
configuration, code or input is never resumed. Several processes share the folder, so it lies on a
shared disk.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mclr.errors import UserError
from mclr.events import LOG
from mclr.files import load_tensors, remove_unfinished, save_tensors
from mclr.training import processes
from mclr.training.trainee import Trainee

HOLD_SECONDS = 600.0
"""Seconds to wait for another job that trains the same run."""


def checkpoint_name(step: int, averaged: bool = False) -> str:
    """File of the weights of a step, or of their average beside them."""
    return f"step-{step:06d}{'-average' if averaged else ''}.safetensors"


class StateFolder:
    """The private folder of one run: ``state.safetensors`` and checkpoints, all of one key.

    inputs: sha256 of each file that the run reads, which are part of its key.
    """

    def __init__(self, folder: Path, key: str, inputs: Mapping[str, str] | None = None) -> None:
        self.folder, self.key, self.inputs = folder, key, dict(inputs or {})
        self.state = folder / "state.safetensors"

    def checkpoint(self, step: int, averaged: bool = False) -> Path:
        return self.folder / checkpoint_name(step, averaged)

    def save(self, trainee: Trainee, step: int) -> None:
        save_tensors(self.state, trainee.state(), {"key": self.key, "step": str(step)})

    @contextmanager
    def held(self, seconds: float = HOLD_SECONDS) -> Iterator[None]:
        """Be the only job that trains here, or wait until the other one has ended.

        A job whose node was lost to Slurm may still run when its successor starts elsewhere. The
        lock is the operating system's: it ends with the process, however that ends.

        Raises:
            UserError: the other job still runs after ``seconds``.
        """
        if not processes.is_first():
            yield
            return
        path = self.folder.with_name(f"{self.folder.name}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as lock:
            deadline = time.monotonic() + seconds
            while not _locked(lock):
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{path}: another job still trains here; wait for it to end or stop it, "
                        "then run the same command again"
                    )
                time.sleep(0.2)
            yield

    def discard_others(self) -> None:
        """Remove what a run of another key, or a killed one in the middle of a write, left here."""
        remove_unfinished(self.folder)
        if self.state.exists() and load_tensors(self.state)[1].get("key") == self.key:
            return
        if self.state.exists():
            LOG.info("state of another configuration, code or input is not resumed: %s", self.state)
        # Checkpoints of a run that never saved its state may be of another key.
        self.clear()

    def resume(self, trainee: Trainee) -> int:
        """Restore the state of this key, if there is one; returns the steps already done."""
        if not self.state.exists():
            return 0
        tensors, metadata = load_tensors(self.state)
        trainee.restore(tensors)
        return int(metadata["step"])

    def clear(self) -> None:
        """Remove the files of this run, and the folder if it held nothing else."""
        for file in [self.state, *self.folder.glob("step-*.safetensors")]:
            file.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def last_checkpoint(self) -> Path | None:
        return max(self.folder.glob("step-*.safetensors"), default=None)


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

"""The training loop: steps, checkpoints, resumable state, signals, and a stop at NaN.

State and checkpoints live in a private folder until training is complete, because Snakemake
deletes the declared outputs of a job that failed. State is keyed by a digest of everything that
decides the result; the state of another configuration, code or input is never resumed. Of several
processes the first writes all files; every process reads the state, so it lies on a shared disk.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

from mclr.data.load import step_generator
from mclr.errors import UserError
from mclr.events import LOG, EventLog, Progress
from mclr.files import load_tensors, save_tensors
from mclr.objectives.base import Loss
from mclr.training import processes
from mclr.training.gradient import accumulate, sum_over_processes
from mclr.training.schedules import update_ema

STATE_SECONDS = 60.0
"""Seconds between two writes of the resumable state."""


class Interrupted(SystemExit):
    """Training was asked to stop; its state is saved and the same command resumes."""


@dataclass
class Trainee:
    """What is trained: a network, its optimiser, and optionally an average of its weights.

    ``losses`` gives the parts of a step's loss; they are back-propagated one after the other.
    """

    net: nn.Module
    optimizer: torch.optim.Optimizer
    learning_rate: Callable[[int], float]
    losses: Callable[[int], Iterable[Loss]]
    after_step: Callable[[nn.Module], None] = lambda net: None
    ema: nn.Module | None = None
    ema_std: float = 0.0

    @property
    def result(self) -> nn.Module:
        """The network whose weights are the outcome: the average, where there is one."""
        return self.ema if self.ema is not None else self.net

    def state(self) -> dict[str, Tensor]:
        """Everything that changes during training, as named tensors."""
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in values.items()}
        return {name: tensor.clone() for name, tensor in tensors.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of ``state``."""
        parts: dict[str, dict[str, Tensor]] = {"net": {}, "ema": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = tensor
        self.net.load_state_dict(parts["net"])
        if self.ema is not None:
            self.ema.load_state_dict(parts["ema"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


class StateFolder:
    """The private folder of one run: ``state.safetensors`` and checkpoints, all of one key."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self.state = folder / "state.safetensors"

    def checkpoint(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}.safetensors"

    def save(self, trainee: Trainee, step: int) -> None:
        save_tensors(self.state, trainee.state(), {"key": self.key, "step": str(step)})

    def discard_others(self) -> None:
        """Remove what a run of another key left here."""
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


class _Signals:
    """While active, SIGINT and SIGTERM are remembered instead of killing the process."""

    def __init__(self) -> None:
        self.received = 0

    def __enter__(self) -> _Signals:
        self.previous = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number


def train(
    trainee: Trainee,
    *,
    name: str,
    checkpoints: tuple[int, ...],
    batch: int,
    seed: int,
    state: StateFolder,
    events: EventLog,
    log_every: int = 10,
) -> None:
    """Train up to the last checkpoint; leaves one file per checkpoint in the state folder.

    In a process group all processes call this together, each with its share of every minibatch.

    Raises:
        UserError: the loss or a gradient is not finite; the last checkpoint before is kept.
        Interrupted: SIGINT or SIGTERM, in any process; the state is saved first.
    """
    writer = Writer(name, checkpoints, batch, state, events) if processes.is_first() else None
    if writer:
        state.discard_others()
    processes.wait_for_all()
    done = state.resume(trainee)
    if writer:
        writer.start(done)
    with _Signals() as signals:
        for step in range(done, checkpoints[-1]):
            terms = _step(trainee, step, seed, name, state)
            stop = int(processes.maximum(signals.received))
            if writer:
                writer.after(trainee, step + 1, terms, log_every, stopping=stop > 0)
            if stop:
                LOG.info("%s: stopped at step %d, state saved; run again to resume", name, step + 1)
                raise Interrupted(128 + stop)
    processes.wait_for_all()


class Writer:
    """Events, progress, checkpoints and state of one run, written by its first process."""

    def __init__(
        self,
        name: str,
        checkpoints: tuple[int, ...],
        batch: int,
        state: StateFolder,
        events: EventLog,
    ) -> None:
        self.name, self.checkpoints, self.batch = name, checkpoints, batch
        self.state, self.events = state, events

    def start(self, done: int) -> None:
        steps = self.checkpoints[-1]
        self.events.rewind(done)
        self.events.write("resume" if done else "start", step=done, steps=steps)
        self.progress = Progress(self.name, steps, self.batch, done=done)
        self.saved = time.monotonic()

    def after(
        self,
        trainee: Trainee,
        step: int,
        terms: dict[str, float],
        log_every: int,
        *,
        stopping: bool,
    ) -> None:
        """Write what is due after ``step`` steps."""
        nimg = step * self.batch
        if step % log_every == 0 or step in self.checkpoints:
            self.events.write("train", step=step, nimg=nimg, **terms)
        self.progress.update(step, f"loss {terms['loss']:.4g}")
        if step in self.checkpoints:
            weights = trainee.result.state_dict()
            save_tensors(self.state.checkpoint(step), weights, {"step": str(step)})
            self.events.write("checkpoint", step=step, nimg=nimg)
        due = time.monotonic() - self.saved > STATE_SECONDS
        if stopping or due or step == self.checkpoints[-1]:
            self.state.save(trainee, step)
            self.saved = time.monotonic()


def _step(
    trainee: Trainee, step: int, seed: int, name: str, state: StateFolder
) -> dict[str, float]:
    """One optimiser step; returns the terms to record."""
    # For dropout, which draws from torch's own generator.
    torch.manual_seed(step_generator(seed, step, 7, *processes.own_key()).initial_seed())
    lr = trainee.learning_rate(step)
    for group in trainee.optimizer.param_groups:
        group["lr"] = lr
    trainee.optimizer.zero_grad(set_to_none=True)
    totals = sum_over_processes(trainee.net, accumulate(trainee.losses(step)))
    norm = nn.utils.get_total_norm([p.grad for p in trainee.net.parameters() if p.grad is not None])
    value, grad_norm = totals["loss"], norm.item()
    if not (math.isfinite(value) and math.isfinite(grad_norm)):
        last = state.last_checkpoint()
        kept = f"the last good checkpoint is {last}" if last else "there was no checkpoint before"
        raise UserError(
            f"{name}: loss {value} with gradient norm {grad_norm} at step {step + 1}; training "
            f"stopped, {kept}. Lower lr, or end `checkpoints` before this step"
        )
    trainee.optimizer.step()
    if trainee.ema is not None:
        update_ema(trainee.ema, trainee.net, step + 1, trainee.ema_std)
    trainee.after_step(trainee.net)
    return {**totals, "grad_norm": grad_norm, "lr": lr}

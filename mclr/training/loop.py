"""The training loop: steps, checkpoints, resumable state, signals, and a stop at NaN.

Of several processes the first writes all files; every process reads the state.
"""

from __future__ import annotations

import math
import signal
import time
from threading import current_thread, main_thread
from types import FrameType

import torch
from torch import Tensor, nn

from mclr.data.load import step_generator
from mclr.errors import UserError
from mclr.events import LOG, EventLog, Progress
from mclr.files import save_tensors
from mclr.training import processes
from mclr.training.gradient import accumulate, sum_over_processes
from mclr.training.memory import is_out_of_memory, out_of_memory
from mclr.training.schedules import update_ema
from mclr.training.state import StateFolder
from mclr.training.trainee import Trainee

STATE_SECONDS = 60.0
"""Seconds between two writes of the resumable state."""


class Interrupted(SystemExit):
    """Training was asked to stop; its state is saved and the same command resumes."""


class _Signals:
    """While active, SIGINT and SIGTERM are remembered instead of killing the process."""

    def __init__(self) -> None:
        self.received = 0

    def __enter__(self) -> _Signals:
        # Python lets the main thread alone do so; in another one signals are not this loop's.
        caught = (signal.SIGINT, signal.SIGTERM) if current_thread() is main_thread() else ()
        self.previous = {s: signal.signal(s, self._note) for s in caught}
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
            for net, averaged in trainee.results:
                weights = {k: v.cpu() for k, v in net.state_dict().items()}
                about = {"step": str(step)} | ({"weights": "average"} if averaged else {})
                save_tensors(self.state.checkpoint(step, averaged), weights, about)
            self.events.write("checkpoint", step=step, nimg=nimg)
        due = time.monotonic() - self.saved > STATE_SECONDS
        if stopping or due or step == self.checkpoints[-1]:
            self.events.sync()
            self.state.save(trainee, step)
            self.saved = time.monotonic()


def _step(
    trainee: Trainee, step: int, seed: int, name: str, state: StateFolder
) -> dict[str, float]:
    """One optimiser step; returns the terms to record."""
    # For dropout, which draws from torch's own generator.
    torch.manual_seed(step_generator(seed, step, 7, *processes.own_key()).initial_seed())
    lr = trainee.set_rates(step)
    trainee.optimizer.zero_grad(set_to_none=True)
    try:
        totals = sum_over_processes(trainee.net, accumulate(trainee.losses(step)))
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(name, step + 1, trainee.pass_size) from error
        raise
    # Of the whole minibatch's gradient: micro-batches and processes have been added up.
    norm = nn.utils.get_total_norm([p.grad for p in trainee.net.parameters() if p.grad is not None])
    terms = _read(totals | {"grad_norm": norm.double()})
    value, grad_norm = terms["loss"], terms["grad_norm"]
    if not (math.isfinite(value) and math.isfinite(grad_norm)):
        last = state.last_checkpoint()
        kept = f"the last good checkpoint is {last}" if last else "there was no checkpoint before"
        raise UserError(
            f"{name}: loss {value} with gradient norm {grad_norm} at step {step + 1}; training "
            f"stopped, {kept}. Lower lr, or end `checkpoints` before this step"
        )
    if trainee.clip is not None:
        nn.utils.clip_grads_with_norm_(trainee.net.parameters(), trainee.clip, norm)
    trainee.optimizer.step()
    if trainee.ema is not None:
        update_ema(trainee.ema, trainee.net, step + 1, trainee.ema_std, trainee.half_life)
    trainee.after_step(trainee.net)
    return {**terms, "lr": lr}


def _read(terms: dict[str, Tensor]) -> dict[str, float]:
    """Scalars of one device as numbers: the one time in a step that the CPU waits for a GPU."""
    return dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))

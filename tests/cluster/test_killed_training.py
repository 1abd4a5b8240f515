"""Training killed at random moments, and resumed each time: the weights do not notice."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
import torch
from tiny import Trained, edited

from mclr.events import read_events
from mclr.files import load_tensors
from mclr.planning.plan import Plan

RUN = "edm2-mclr-seed0"
# Starts a job in milliseconds: its parent has imported everything.
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["mclr.jobs.training", "mclr.data.prepare"])


def train(folder: Path, trained: Trained, plan: Plan, steps: int) -> None:
    """The fine-tuning job; it writes its state after every step, and is mostly writing."""
    from mclr.jobs.inputs import Data
    from mclr.jobs.training import finetune
    from mclr.training import loop

    torch.set_num_threads(1)
    loop.STATE_SECONDS = 0.0
    spec = edited(plan.finetune_spec(RUN), run={"checkpoints": [*range(3, steps, 3), steps]})
    base, run, state = trained.edm2, folder / "run", folder / "state"
    finetune(spec, Data(trained.prepared), base, None, None, run, state)


def job(*arguments: object) -> multiprocessing.process.BaseProcess:
    started = FORKSERVER.Process(target=train, args=arguments)
    started.start()
    return started


def weights(folder: Path) -> dict[str, torch.Tensor]:
    paths = sorted((folder / "run" / "checkpoints").glob("step-*"))
    tensors = {path.name: load_tensors(path)[0] for path in paths}
    return {f"{name}.{key}": t for name, part in tensors.items() for key, t in part.items()}


def seconds_of_steps(folder: Path) -> float:
    """How long a whole run was about its steps."""
    times = [event["time"] for event in read_events(folder / "run" / "events.jsonl")]
    return max(times) - min(times)


def kill_at_random(
    folder: Path, arguments: tuple[object, ...], kills: int, longest: float, rng: random.Random
) -> tuple[int, int]:
    """Kill the job ``kills`` times, each ``longest`` seconds into its steps or earlier; finish it.

    Returns how many kills hit a write, and how many a resumed job.
    """
    writes = resumed = 0
    for _ in range(kills):
        process = job(folder, *arguments)
        begun = time.time()
        events = folder / "run" / "events.jsonl"
        while process.is_alive() and not (events.exists() and events.stat().st_mtime > begun):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, longest))
        assert process.is_alive(), "the job ended before it could be killed"
        process.kill()
        process.join()
        writes += any((folder / "state").glob(".*.tmp"))
        resumed += any(event["event"] == "resume" for event in read_events(events))
    last = job(folder, *arguments)
    last.join()
    assert last.exitcode == 0
    return writes, resumed


@pytest.mark.parametrize(
    ("kills", "steps"), [(4, 60), pytest.param(40, 300, marks=pytest.mark.drill)]
)
def test_weights_are_those_of_an_undisturbed_run(
    kills: int, steps: int, trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = job(whole, trained, tiny_plan, steps)
    undisturbed.join()
    assert undisturbed.exitcode == 0
    seed = int(os.environ.get("MCLR_DRILLS", "1"))
    longest = seconds_of_steps(whole) / (3 * kills)  # so that it cannot finish before the last
    writes, resumed = kill_at_random(
        killed, (trained, tiny_plan, steps), kills, longest, random.Random(seed)
    )
    print(f"\n{kills} kills: {writes} in the middle of a write, {resumed} of a resumed job")
    ours, theirs = weights(killed), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not (killed / "state").exists()
    assert resumed

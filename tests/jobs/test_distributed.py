"""Training jobs started by torchrun: several processes, one result."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Trained, edited

from mclr.events import read_events
from mclr.files import load_tensors, read_json
from mclr.planning.plan import Plan
from mclr.settings.section import canonical

RUN = "edm2-mclr-seed0"
OPTIMIZER: dict[str, Any] = {"clip": 0.02, "ema": {"std": 0.1, "evaluate": "both"}}


def command(folder: Path, trained: Trained, plan: Plan, size: int, steps: int) -> list[str]:
    spec = edited(plan.finetune_spec(RUN), run={"checkpoints": [2, steps], "optimizer": OPTIMIZER})
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={size}",
        "-m",
        "--",
    ]
    return [
        sys.executable, *(launcher if size > 1 else ["-m"]),
        "mclr", "--log", str(folder / "log"), "finetune", "--spec", canonical(spec),
        "--data", str(trained.prepared), "--base", str(trained.edm2),
        "--run", str(folder / "run"), "--state", str(folder / "state"), "--micro-batch", "3",
    ]  # fmt: skip


def finished(folder: Path, trained: Trained, plan: Plan, size: int, steps: int = 4) -> Path:
    folder.mkdir(exist_ok=True)
    arguments = command(folder, trained, plan, size, steps)
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def weights(run: Path, step: int, ending: str = "") -> torch.Tensor:
    tensors, _ = load_tensors(run / "checkpoints" / f"step-{step:06d}{ending}.safetensors")
    return torch.cat([value.flatten() for value in tensors.values()])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, trained: Trained, tiny_plan: Plan) -> Path:
    return finished(tmp_path_factory.mktemp("pair"), trained, tiny_plan, 2)


def test_two_processes_train_as_one(
    pair: Path, trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    alone = finished(tmp_path, trained, tiny_plan, 1)
    for step, ending in itertools.product((2, 4), ("", "-average")):
        together, single = weights(pair, step, ending), weights(alone, step, ending)
        # Rounding decides the sign of Adam's step where a gradient is nearly 0.
        assert (together - single).abs().median() < 1e-6
        assert (together - single).abs().max() <= 2 * 0.001 * step
    ours, theirs = (
        [e for e in read_events(run / "events.jsonl") if e["event"] == "train"]
        for run in (pair, alone)
    )
    assert [e["step"] for e in ours] == [2, 4]
    assert max(e["grad_norm"] for e in ours) > OPTIMIZER["clip"]  # clipping takes part
    for a, b in zip(ours, theirs, strict=True):
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3, abs=1e-4)
        assert a["log_likelihood"] == pytest.approx(b["log_likelihood"], rel=1e-4)


def test_one_process_writes(pair: Path) -> None:
    names = [event["event"] for event in read_events(pair / "events.jsonl")]
    assert names == ["start", "train", "checkpoint", "train", "checkpoint", "end"]
    assert read_json(pair / "provenance.json")["config_sha256"]
    assert not (pair.parent / "state").exists()


def test_asked_to_stop_they_stop_together_and_resume_to_the_same_bits(
    trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    steps = 100
    whole = finished(tmp_path / "whole", trained, tiny_plan, 2, steps)
    folder = tmp_path / "stopped"
    folder.mkdir()
    arguments = command(folder, trained, tiny_plan, 2, steps)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    job = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, env=environment)
    events = folder / "run" / "events.jsonl"
    deadline = time.monotonic() + 120
    while not any(e["event"] == "train" for e in read_events(events)):
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)  # torchrun passes it on
    assert job.wait(timeout=120) != 0
    assert int(load_tensors(folder / "state" / "state.safetensors")[1]["step"]) < steps
    resumed = finished(folder, trained, tiny_plan, 2, steps)
    assert "resume" in [e["event"] for e in read_events(events)]
    for ending in ("", "-average"):
        assert torch.equal(weights(resumed, steps, ending), weights(whole, steps, ending))

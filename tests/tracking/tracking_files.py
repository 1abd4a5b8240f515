"""A small tier and its result files, written as the jobs would write them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mclr.config.reading import parse_tier
from mclr.config.tier import Tier
from mclr.events import read_events
from mclr.planning.plan import Plan
from mclr.settings.section import canonical

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

Runs = Callable[..., "list[Run]"]
BATCH = 8
START = 1_700_000_000.0


def small_tier() -> Tier:
    """A base model and one fine-tuning experiment with two seeds and two checkpoints."""
    content = {
        "tier": "small",
        "seeds": [0, 1],
        "data": {"source": "digits", "n_reference": 100, "split_seed": 0},
        "features": {"cnn": dict(channels=4, dimensions=8, steps=1, batch=8, lr=0.1, seed=0)},
        "models": {
            "edm": {
                "family": "edm2",
                "label": "EDM2",
                "network": {"model_channels": 16, "channel_mult": [1]},
                "base": dict(
                    seed=7, steps=30, batch=BATCH, lr=0.01, lr_decay_steps=10,
                    rampup_images=0, label_dropout=0.1, ema_std=0.1,
                ),
                "noise": {"P_mean": -0.8, "P_std": 1.6},
                "sampler": dict(num_steps=4, sigma_min=0.002, sigma_max=80, rho=7),
                "guidance": [2.0],
            }
        },
        "runs": {
            "edm-mclr": {
                "model": "edm",
                "objective": {"name": "mclr"},
                "lr": 0.001,
                "batch": BATCH,
                "checkpoints": [10, 20],
            }
        },
        "evaluation": dict(
            n_samples=10, batch=5, shards=1, labels="balanced", neighbourhood=3, isc_features="cnn",
            isc_splits=1, grid_rows=1,
        ),
        "report": {"features": "cnn"},
    }  # fmt: skip
    return parse_tier(content, "small")


def append(folder: Path, event: str, step: int, **fields: Any) -> None:
    """One more event of a run, a second after the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "events.jsonl"
    time = START + len(read_events(file))
    line = {"time": time, "event": event, "step": step, "nimg": step * BATCH, **fields}
    with file.open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def train(folder: Path, first: int, last: int) -> None:
    """Training events every five steps, a checkpoint every ten."""
    for step in range(first, last + 1, 5):
        append(folder, "train", step, loss=1 / step, margin=step / 100)
        if step % 10 == 0:
            append(folder, "checkpoint", step)


def finish(folder: Path, step: int, **about: Any) -> None:
    """The end event, and provenance; ``about``: what the run was made with."""
    append(folder, "end", step)
    facts = {
        "git_commit": "abc123",
        "git_dirty": False,
        "hardware": "a processor",
        "python": "3.11",
        "packages": {"torch": "2.14.1"},
        "data_sha256": "d" * 64,
        "config_sha256": "c" * 64,
        "code": "k" * 16,
        "seconds": 12.5,
        **about,
    }
    (folder / "provenance.json").write_text(json.dumps(facts))


def write_runs(tier: Tier, results: Path) -> None:
    """Every planned run, trained to its end."""
    plan = Plan(tier)
    for run in plan.runs.values():
        folder = results / "runs" / run.run_id
        append(folder, "start", 0)
        (folder / "config.yaml").write_text(f"run: {run.run_id}\n")
        train(folder, 5, run.checkpoints[-1])
        spec = plan.base_spec(run.model) if run.is_base else plan.finetune_spec(run.run_id)
        digest = hashlib.sha256(canonical(spec).encode()).hexdigest()
        identity = spec.identity.model_dump()
        finish(folder, run.checkpoints[-1], config_sha256=digest, **identity)


def write_evaluations(tier: Tier, results: Path, shift: float = 0.0) -> None:
    """A row per planned point; ``shift`` is added to every FD."""
    plan = Plan(tier)
    for experiment in plan.experiments:
        rows = [
            {
                **row,
                "n_samples": 10,
                "fd_cnn": 50 - row["step"] - row["guidance"] + row["seed"] + shift,
                "precision_cnn": 0.5 + row["step"] / 100,
                "recall_cnn": 0.9 - row["step"] / 100,
                "is_mean": 2 + row["step"] / 10,
                "is_std": 0.1,
                "note": None,
            }
            for row in plan.evaluate_spec(experiment).content()["points"]
        ]
        file = results / "evaluations" / f"{experiment}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"protocol": {"id": "p1"}, "rows": rows}))


def write_report(results: Path, colour: str = "red") -> None:
    """Figures, Table 1 and the effective configuration."""
    figures = results / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    (figures / "fd-is.png").write_bytes(colour.encode())
    (figures / "precision-recall.png").write_text(f"<p>{colour}</p>")
    (figures / "fd-is.pdf").write_bytes(b"not published")
    (results / "table1.md").write_text("| Method |\n")
    (results / "config.yaml").write_text("tier: small\n")


def write_all(tier: Tier, results: Path) -> None:
    """A finished tier: 3 runs, 4 points of the base model, 4 of the fine-tuned one, a report."""
    write_runs(tier, results)
    write_evaluations(tier, results)
    write_report(results)


def experiment(client: MlflowClient, name: str = "mclr-small-edm") -> Experiment:
    """An experiment of the small tier, which has been published."""
    found = client.get_experiment_by_name(name)
    assert found is not None
    return found

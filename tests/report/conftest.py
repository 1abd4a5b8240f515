"""A small tier with two models, and hand-made metrics for every point of its plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from grid_levels import CLASSES, GRID_ROWS, SIDE, level
from PIL import Image

from mclr.config import Tier
from mclr.plan import Plan
from mclr.read_config import parse_tier

SEEDS = [0, 1]


def _run(model: str, steps: list[int], sweep: dict[str, Any], **objective: Any) -> dict[str, Any]:
    common = {"lr": 1e-4, "batch": 64, "checkpoints": steps, "sweep": sweep}
    return {"model": model, "objective": objective, **common}


@pytest.fixture(scope="session")
def tier() -> Tier:
    steps = [50, 100, 200]
    training = {"seed": 0, "steps": 400, "batch": 64, "lr": 1e-3}
    edm2 = {
        "family": "edm2",
        "label": "EDM2",
        "network": {"model_channels": 16},
        "base": {
            **training,
            "lr_decay_steps": 100,
            "rampup_images": 1000,
            "label_dropout": 0.1,
            "ema_std": 0.1,
        },
        "noise": {"P_mean": -0.8, "P_std": 1.6},
        "sampler": {"num_steps": 16, "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0},
        "guidance": [0.5, 1.0, 2.0],
    }
    var = {
        "family": "var",
        "label": "VAR",
        "tokenizer": {"network": {"patch_nums": [1, 2, 4]}, "training": training},
        "network": {"depth": 2},
        "base": {**training, "warmup_steps": 10, "weight_decay": 0.05, "label_dropout": 0.1},
        "sampler": {"top_k": 0, "top_p": 0.0},
        "guidance": [1.0, 3.0],
    }
    content = {
        "tier": "digits",
        "seeds": SEEDS,
        "data": {"source": "digits", "n_reference": 500, "split_seed": 0},
        "features": {
            "digits-net": {
                "channels": 8,
                "dimensions": 16,
                "steps": 10,
                "batch": 64,
                "lr": 1e-3,
                "seed": 0,
            }
        },
        "models": {"edm2": edm2, "var": var},
        "runs": {
            "edm2-mclr": _run("edm2", steps, {"lr": [1e-5, 1e-4]}, name="mclr"),
            "edm2-mclr-dsm": _run("edm2", steps, {}, name="mclr", dsm=1.0),
            "edm2-ccdpo": _run("edm2", steps, {"objective.beta": [0.1, 1.0]}, name="ccdpo", beta=1),
            "edm2-cca": _run("edm2", steps, {}, name="cca", beta=0.5, **{"lambda": 1.0}),
            "edm2-ddo": _run("edm2", steps, {}, name="ddo", alpha=4.0, beta=0.05, n_negatives=10),
            "var-mclr": _run("var", steps, {}, name="mclr"),
        },
        "evaluation": {
            "n_samples": 1000,
            "batch": 100,
            "shards": 1,
            "labels": "balanced",
            "neighbourhood": 3,
            "isc_features": "digits-net",
            "isc_splits": 10,
            "grid_rows": GRID_ROWS,
        },
        "report": {"features": "digits-net"},
    }
    return parse_tier(content, "test")


# (FD, precision, recall, IS) of every method where it is best; the base is worst but in recall.
BEST = {
    "base": (20.0, 0.70, 0.61, 6.0),
    "cfg": (8.0, 0.80, 0.56, 8.0),
    "ddo": (15.0, 0.69, 0.64, 6.2),
    "cca": (13.0, 0.76, 0.55, 6.8),
    "ccdpo": (12.0, 0.78, 0.53, 7.2),
    "mclr": (9.0, 0.80, 0.50, 7.6),
    "mclr+dsm": (9.1, 0.79, 0.51, 7.5),
}


def _values(method: str, away: float, seed: int) -> tuple[float, ...]:
    """Metrics ``away`` from the best point of a method; seeds differ by ±0.1 in FD and IS."""
    fd, precision, recall, inception = BEST[method]
    shift = 0.1 if seed else -0.1
    return (
        fd + abs(away) * 3 + shift,
        precision + 0.02 * away,
        recall - 0.03 * away,
        inception + 0.2 * away + shift,
    )


def _away(row: dict[str, Any], settings: dict[str, Any]) -> float:
    """How far a point lies from its method's best: best are γ = 1, step 100, the last variant."""
    if row["method"] == "base":
        return 0.0
    if row["method"] == "cfg":
        return float(np.log2(row["guidance"]))
    worse_mclr = row["method"] == "mclr" and settings["lr"] == 1e-5
    worse_ccdpo = row["method"] == "ccdpo" and settings["beta"] == 0.1
    return float(np.log2(row["step"] / 100) + 3.0 * (worse_mclr or worse_ccdpo))


@pytest.fixture(scope="session")
def _metrics(tier: Tier) -> pd.DataFrame:
    plan, rows = Plan(tier), []
    for experiment in plan.experiments:
        for row in plan.evaluate_spec(experiment)["points"]:
            settings = row.pop("hyperparameters")
            row.pop("path")
            values = _values(row["method"], _away(row, settings), row["seed"])
            names = ("fd_digits-net", "precision_digits-net", "recall_digits-net", "is_mean")
            text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
            rows.append(
                {
                    "tier": tier.tier,
                    **row,
                    "hyperparameters": text,
                    "n_samples": 1000,
                    "protocol": "p-0123abcd",
                    "git_commit": "c0ffee",
                    **dict(zip(names, values, strict=True)),
                    "is_std": 0.05,
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture
def metrics(_metrics: pd.DataFrame) -> pd.DataFrame:
    """One row per point; a fresh copy, so that a test may change it."""
    return _metrics.copy()


@pytest.fixture(scope="session")
def stored_grids(tier: Tier, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A PNG per point: each image is a grey level known from (point, noise, class)."""
    folder, grids = tmp_path_factory.mktemp("grids"), {}
    plan = Plan(tier)
    points = [point for name in plan.experiments for point in plan.points(name)]
    for number, point in enumerate(points):
        levels = [[level(number, n, c) for c in range(CLASSES)] for n in range(GRID_ROWS)]
        pixels = np.kron(np.array(levels, dtype=np.uint8), np.ones((SIDE, SIDE), dtype=np.uint8))
        path = folder / f"point-{number}" / "shard-000.png"
        path.parent.mkdir()
        Image.fromarray(pixels).save(path)
        grids[point.path] = path
    return grids

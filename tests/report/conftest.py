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

from mclr.config.reading import parse_tier
from mclr.config.tier import Tier
from mclr.planning.plan import Plan

SEEDS = [0, 1]


def _run(model: str, steps: list[int], sweep: dict[str, Any], **objective: Any) -> dict[str, Any]:
    common = {"lr": 1e-4, "batch": 64, "checkpoints": steps, "sweep": sweep}
    return {"model": model, "objective": objective, **common}


def _content() -> dict[str, Any]:
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
    return {
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
            "edm2-mclr-dsm": _run("edm2", steps, {}, name="mclr", dsm=1.0) | {"final": False},
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


@pytest.fixture(scope="session")
def tier() -> Tier:
    return parse_tier(_content(), "test")


@pytest.fixture(scope="session")
def rich_tier() -> Tier:
    """Two feature nets, final seeds, and a study of every kind on the EDM2 model."""
    content = _content()
    content["features"]["other-net"] = content["features"]["digits-net"]
    content["final"] = {"seeds": [2, 3, 4]}
    content["runs"]["edm2-cca"]["sweep"] = {"objective.lambda": [1.0, 10.0]}
    noise = {"noise": {"P_mean": 0.5, "P_std": 1.0}, "final": False}
    content["runs"]["edm2-mclr-noise"] = content["runs"]["edm2-mclr"] | {"sweep": {}} | noise
    content["studies"] = {
        "edm2-mclr": {"guidance": [0.5, 1.0], "dial": [0.5, 1.5], "autoguidance": [1.0]},
        "edm2-base": {"interval": {"guidance": [1.0, 2.0], "low": 0.2, "high": 2.0}},
    }
    return parse_tier(content, "test")


@pytest.fixture(scope="session")
def anchored_tier() -> Tier:
    """Final seeds, for MCLR with a likelihood term too; for EDM2 beside the ablation of that."""
    content = _content()
    content["final"] = {"seeds": [2, 3, 4]}
    content["runs"]["edm2-anchored"] = content["runs"]["edm2-mclr-dsm"] | {"final": True}
    content["runs"]["edm2-mclr-dsm"] |= {"objective": {"name": "mclr", "dsm": 4.0}}
    content["runs"]["var-anchored"] = _run("var", [50, 100, 200], {}, name="mclr", dsm=2.0)
    return parse_tier(content, "test")


@pytest.fixture
def anchored_metrics(anchored_tier: Tier) -> pd.DataFrame:
    """The rows of ``anchored_tier``."""
    return _rows_of(anchored_tier)


# (FD, precision, recall, IS) of every method where it is best; the base is worst but in recall.
BEST = {
    "base": (20.0, 0.70, 0.61, 6.0),
    "cfg": (8.0, 0.80, 0.56, 8.0),
    "ddo": (15.0, 0.69, 0.64, 6.2),
    "cca": (13.0, 0.76, 0.55, 6.8),
    "ccdpo": (12.0, 0.78, 0.53, 7.2),
    "mclr": (9.0, 0.80, 0.50, 7.6),
    "mclr+dsm": (9.1, 0.79, 0.51, 7.5),
    "mclr+cfg": (8.5, 0.83, 0.45, 8.4),
    "mclr+autoguidance": (8.8, 0.81, 0.48, 8.0),
    "cfg-interval": (7.5, 0.80, 0.58, 7.9),
    "mclr-dial": (10.0, 0.78, 0.53, 7.2),
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
    if row["guidance"]:
        return float(np.log2(row["guidance"]))
    if row["method"] == "mclr-dial":
        return float(row["dial"] - 1)
    worse_mclr = row["method"] == "mclr" and (settings["lr"] == 1e-5 or "P_mean" in settings)
    worse_ccdpo = row["method"] == "ccdpo" and settings["beta"] == 0.1
    worse_cca = row["method"] == "cca" and settings["lambda"] == 10.0
    return float(np.log2(row["step"] / 100) + 3.0 * (worse_mclr or worse_ccdpo or worse_cca))


SELECTED: dict[str, dict[str, Any]] = {
    "mclr": {"lr": 1e-4},
    "ccdpo": {"beta": 1.0},
    "cca": {"lambda": 1.0},
}
"""Where the swept hyperparameters are best."""


def _rows_of(tier: Tier) -> pd.DataFrame:
    """A row per point of a tier's plan; what selection decides is step 100 and γ = 1."""
    plan, rows = Plan(tier), []
    for evaluation in plan.evaluations:
        for point in plan.evaluate_spec(evaluation).points:
            row = point.model_dump()
            settings = row.pop("hyperparameters")
            if row["step"] is None:
                row["step"] = 100
                settings = settings | SELECTED.get(row["method"].split("+")[0].split("-")[0], {})
            row["guidance"] = 1.0 if row["guidance"] is None else row["guidance"]
            del row["path"]
            values = _values(row["method"], _away(row, settings), row["seed"])
            text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
            shared = {"tier": tier.tier, **row, "hyperparameters": text, "n_samples": 1000}
            shared |= {"protocol": "p-0123abcd", "git_commit": "c0ffee"}
            rows.append(shared | _columns(tier, values))
    return pd.DataFrame(rows)


def _columns(tier: Tier, values: tuple[float, ...]) -> dict[str, float]:
    """Metric columns; the second feature net sees twice the FD, and accuracy follows IS."""
    fd, precision, recall, inception = values
    found = {"is_mean": inception, "is_std": 0.05}
    for factor, net in enumerate(tier.features, 1):
        found |= {f"fd_{net}": factor * fd, f"precision_{net}": precision}
        found |= {f"recall_{net}": recall, f"accuracy_{net}": inception / 10}
    return found


@pytest.fixture(scope="session")
def _metrics(tier: Tier) -> pd.DataFrame:
    # An older table, as the digits tier published it.
    return _rows_of(tier).drop(columns=["stage", "dial"])


@pytest.fixture(scope="session")
def _rich_metrics(rich_tier: Tier) -> pd.DataFrame:
    rows = _rows_of(rich_tier)
    real = rows[(rows["method"] == "base") & (rows["stage"] == "grid")].assign(
        method="real", nfe=0, is_mean=9.0
    )
    for name in rich_tier.features:
        real[f"fd_{name}"], real[f"accuracy_{name}"] = 0.5, 0.95
        real[f"precision_{name}"] = real[f"recall_{name}"] = 0.9
    fewer = real.assign(n_samples=500, protocol="p-500")
    return pd.concat([rows, real, fewer], ignore_index=True)


@pytest.fixture
def rich_metrics(_rich_metrics: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``rich_tier``, with real images of two numbers."""
    return _rich_metrics.copy()


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

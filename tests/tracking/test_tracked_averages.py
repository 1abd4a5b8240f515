"""A run whose raw weights and average are both measured has a series of each in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracking_files import small_tier, train

from mclr.objectives.gft import Gft
from mclr.planning.plan import Plan
from mclr.planning.points import is_average
from mclr.settings.optimizer import Optimizer
from mclr.settings.section import canonical
from mclr.tracking.records import _RunReader


def test_series_of_both(tmp_path: Path) -> None:
    tier = small_tier()
    how = Optimizer.model_validate({"clip": 1, "ema": {"std": 0.1, "evaluate": "both"}})
    run = tier.runs["edm-mclr"].model_copy(update={"optimizer": how})
    plan = Plan(tier.model_copy(update={"runs": {"edm-mclr": run}}))
    train(tmp_path / "runs" / "edm-mclr-seed0", 5, 20)
    rows: list[dict[str, Any]] = []
    for point in plan.evaluate_spec("edm-mclr").points:
        better = is_average(canonical(point.hyperparameters))
        values = {"fd_cnn": 5.0 - better * (point.step or 0) / 10, "is_mean": 2.0}
        values |= {"precision_cnn": 0.5, "recall_cnn": 0.5}
        rows += [point.model_dump() | values] if point.seed == 0 else []
    assert len(rows) == 4
    reader = _RunReader(plan, plan.runs["edm-mclr-seed0"], tmp_path, rows, "p", {})
    record = reader.record()
    found = {name: [v.value for v in record.metrics if v.name == name] for name in
             ("fd", "average_fd", "best_fd", "best_is")}  # fmt: skip
    assert found == {"fd": [5, 5], "average_fd": [4, 3], "best_fd": [3], "best_is": [2]}
    assert record.params["optimizer.clip"] == "1.0"
    children = [child.params["optimizer.ema.evaluate"] for child in record.children]
    assert children == ["raw", "average"] * 2
    names = [child.name for child in record.children[:2]]
    assert names == ["edm-mclr-seed0 step 10", "edm-mclr-seed0 step 10 average"]


def test_series_of_a_dial(tmp_path: Path) -> None:
    """At each step where FD is lowest; every value is a point of its own, by name too."""
    tier = small_tier()
    update = {"objective": Gft(name="gft", beta="input"), "dial": [0.5, 1.0]}
    run = tier.runs["edm-mclr"].model_copy(update=update)
    plan = Plan(tier.model_copy(update={"runs": {"edm-mclr": run}}))
    train(tmp_path / "runs" / "edm-mclr-seed0", 5, 20)
    rows: list[dict[str, Any]] = []
    for point in plan.evaluate_spec("edm-mclr").points:
        half = point.hyperparameters["dial"] == 0.5
        better = half == (point.step == 20)  # at the first step without guidance
        values = {"fd_cnn": 3.0 if better else 5.0, "is_mean": 4.0 if half else 2.0}
        values |= {"precision_cnn": 0.5, "recall_cnn": 0.5}
        rows += [point.model_dump() | values] if point.seed == 0 else []
    record = _RunReader(plan, plan.runs["edm-mclr-seed0"], tmp_path, rows, "p", {}).record()
    found = {name: [v.value for v in record.metrics if v.name == name] for name in ("fd", "is")}
    assert found == {"fd": [3, 3], "is": [2, 4]}
    names = [child.name for child in record.children]
    steps = "edm-mclr-seed0 step 10", "edm-mclr-seed0 step 20"
    assert names == [f"{step} β {value}" for step in steps for value in ("0.5", "1")]

"""A best checkpoint that is an average of weights is exported as what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mclr.config.reading import parse_tier
from mclr.files import save_tensors, write_json
from mclr.inference.card import _settings
from mclr.inference.source import find_source
from mclr.planning.plan import Plan
from mclr.planning.points import is_average
from mclr.settings.section import canonical


@pytest.mark.parametrize("averaged", [False, True])
def test_source_of_either_kind(
    averaged: bool, tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row of the metrics, its images and its card are those of the weights in the file."""
    monkeypatch.chdir(tmp_path)
    tiny["runs"]["edm2-mclr"]["optimizer"] = {"ema": {"std": 0.1, "evaluate": "both"}}
    plan = Plan(parse_tier(tiny, "tiny"))
    spec = plan.finetune_spec("edm2-mclr-seed1")
    about = {"spec": canonical(spec), "step": "4"} | ({"weights": "average"} if averaged else {})
    save_tensors(Path(plan.files.best("edm2-mclr")), {"w": torch.zeros(3)}, about)
    write_json(Path(plan.files.prepared(None)["manifest"]), {"shape": [1, 8, 8], "splits": {}})
    source = find_source(plan.tier, "edm2-mclr")
    assert (source.run.run_id, source.averaged) == ("edm2-mclr-seed1", averaged)
    assert is_average(canonical(source.run.hyperparameters)) == averaged
    assert ("step-000004-average/" in str(source.grid)) == averaged
    (point,) = (p for p in plan.points("edm2-mclr") if p.path in str(source.grid))
    assert point.run.hyperparameters == source.run.hyperparameters
    shown = _settings(source)["fine_tuning"]["optimizer"]["ema"]
    assert shown == {"std": 0.1, "evaluate": "average" if averaged else "raw"}

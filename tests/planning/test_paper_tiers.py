"""The tiers of the paper's own experiments are as fair and as long as their pages say."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiers import ROOT

from mclr.commands.plan import plan as command
from mclr.config.objectives import FineTuning
from mclr.config.reading import load_tier
from mclr.config.tier import Tier
from mclr.planning.plan import Plan
from mclr.planning.points import Run
from mclr.report.methods import methods_for

IMITATIONS = {"distill", "gft", "mg"}
CONTRASTS = {"mclr", "mclr+dsm", "ccdpo", "cca"}
DIFFUSION = CONTRASTS | IMITATIONS | {"wmclr", "ddo"}
ABLATIONS = ("-mclr-k", "-mclr-raw", "-ccdpo-beta", "-cca-lambda")


@pytest.fixture(autouse=True)
def imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGENET", "/data/imagenet")


def tier_of(name: str) -> Tier:
    return load_tier(ROOT / "config" / f"{name}.yaml")


def grid(tier: Tier, model: str) -> list[Run]:
    """The runs that train on the base of a model, without ablations."""
    plan = Plan(tier)
    names = [
        name
        for name, run in tier.tuned.items()
        if run.model == model and not run.start and not name.endswith(ABLATIONS)
    ]
    return [run for name in names for run in plan.of(name)]


def said(run: Run) -> FineTuning:
    assert run.settings is not None
    return run.settings


@pytest.mark.parametrize(
    ("name", "model", "settings", "methods"),
    [
        ("imagenet", "edm2-s", 8, DIFFUSION),
        ("imagenet", "edm2-l", 4, DIFFUSION),
        ("imagenet", "var-d24", 4, CONTRASTS | IMITATIONS),
        ("imagenet-first", "var-d24", 4, CONTRASTS | {"distill"}),
    ],
)
def test_every_method_has_the_same_number_of_settings_and_is_a_row(
    name: str, model: str, settings: int, methods: set[str]
) -> None:
    tier = tier_of(name)
    assert tier.seeds == [0]
    assert Counter(run.method for run in grid(tier, model)) == dict.fromkeys(methods, settings)
    known = methods_for(tier, model)
    assert all(known[method].in_table for method in methods)
    label = "+MCLR + likelihood" if model == "var-d24" else "+MCLR + DSM"
    assert known["mclr+dsm"].suffix == label


def test_noise_levels_are_swept_from_those_of_the_base() -> None:
    """DDO alone stays where its authors train."""
    tier = tier_of("imagenet")
    for model, levels in (("edm2-s", {-0.8, 0, 1, 2}), ("edm2-l", {-0.4, 1})):
        noise = tier.models[model].noise
        assert noise is not None and noise.P_mean == min(levels)
        found: dict[str, set[float]] = {}
        for run in grid(tier, model):
            own = said(run).noise or noise
            found.setdefault(run.method, set()).add(own.P_mean)
        assert found.pop("ddo") == {noise.P_mean}
        assert list(found.values()) == [levels] * len(found)


def test_anchors_of_weighted_mclr_are_about_those_of_cfg() -> None:
    tier = tier_of("imagenet")
    runs = [run for model in ("edm2-s", "edm2-l") for run in grid(tier, model)]
    found: set[Any] = {run.hyperparameters["dsm"] for run in runs if run.method == "wmclr"}
    assert found and 0.7 <= min(found) <= max(found) <= 2


def test_cca_on_var_is_that_of_its_authors() -> None:
    """One epoch of 5,004 steps of 256; λ = 100 is among its settings. Approach 1 of MCLR."""
    runs = grid(tier_of("imagenet"), "var-d24")
    cca = [run for run in runs if run.method == "cca"]
    assert all(run.checkpoints[-1] == 5004 and said(run).batch == 256 for run in cca)
    assert all(run.hyperparameters["uncond_ratio"] == 0.1 for run in cca)
    assert 100 in {run.hyperparameters["lambda"] for run in cca}
    mclr = [run for run in runs if run.method in ("mclr", "mclr+dsm")]
    assert mclr and {run.hyperparameters["K"] for run in mclr} == {1}


def test_released_rows_of_each_block() -> None:
    found = {run.model: (run.method, run.released) for run in tier_of("imagenet").released.values()}
    assert found == {
        "edm2-s": ("ddo", "ddo-edm2-img64-s"),
        "edm2-l": ("ddo", "ddo-edm2-img512-l"),
        "var-d24": ("cca", "cca-var-d24"),
    }


def test_what_to_run_first_is_one_block_that_one_can_afford() -> None:
    tier = tier_of("imagenet-first")
    assert len(tier.models) == 1 and tier.evaluation.n_samples == 10_000
    runner, config = CliRunner(), Path(ROOT, "config", "imagenet-first.yaml")
    with runner.isolated_filesystem():  # where no results are
        done = runner.invoke(command, [str(config), "--json"], catch_exceptions=False)
    found = json.loads(done.output)
    hours = found["total"]["gpu_hours"]["h100"]
    planned = {rule: row["gpu_hours"]["h100"] for rule, row in found["rules"].items()}
    rates = (ROOT / "docs" / "cost.md").read_text().split("### Measured on an H100")[1]
    tuning = re.search(r"\| MCLR, .* · ([\d.]+) \| .* · ([\d.]+) \|", rates)
    sampling = re.search(r"\| VAR-d24 \| \d+ \| ([\d.]+) \| ([\d.]+) \|", rates)
    assert tuning and sampling
    saved = [
        planned[rule] * (1 - float(ours[1]) / float(ours[2]))
        for rule, ours in (("finetune", tuning), ("sample", sampling))
    ]
    measured = hours - sum(saved)
    assert 10 < measured < hours <= 150
    page = (ROOT / "docs" / "imagenet.md").read_text()
    told = f"about {hours:.0f} H100-hours by `mclr plan`, {measured:.0f} at the rates"
    assert told in page

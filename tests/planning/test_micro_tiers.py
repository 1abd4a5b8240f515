"""The micro tiers run what can be asked for: methods, ways to update weights, origins."""

from __future__ import annotations

import pytest
from tiers import ROOT

from mclr.config.objectives import FineTuning
from mclr.config.reading import load_tier
from mclr.config.tier import Tier
from mclr.objectives.catalogue import METHODS
from mclr.planning.plan import Plan
from mclr.settings.optimizer import Average, Optimizer

NAMES = ("micro", "stages", "options", "own", "diffusers", "imported")
TRAINED = {name for name, method in METHODS.items() if method.trained}
CANNOT = {"edm2": set[str](), "var": {"wmclr"}, "diffusers": {"gft+dial"}}
"""Exact likelihoods need no weights, and a network of diffusers has no input for β."""


@pytest.fixture
def tiers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tier]:
    monkeypatch.chdir(ROOT)
    return {name: load_tier(ROOT / "tests" / "workflow" / f"{name}.yaml") for name in NAMES}


def tuned(tiers: dict[str, Tier]) -> list[FineTuning]:
    return [run for tier in tiers.values() for run in tier.tuned.values()]


@pytest.mark.parametrize("family", CANNOT)
def test_every_method_of_every_family(family: str, tiers: dict[str, Tier]) -> None:
    found = {
        run.method
        for tier in tiers.values()
        for run in Plan(tier).runs.values()
        if run.settings and tier.models[run.model].family == family
    }
    assert found - {"own", "ipo"} >= TRAINED - CANNOT[family]
    assert not found & CANNOT[family]


def test_every_way_to_update_weights(tiers: dict[str, Tier]) -> None:
    said = [run.optimizer for run in tuned(tiers) if run.optimizer]
    assert {key for how in said for key in how.model_fields_set} == set(Optimizer.model_fields)
    averages = [how.ema for how in said if how.ema]
    assert {key for ema in averages for key in ema.model_fields_set} == set(Average.model_fields)
    assert "adamw" in {how.name for how in said}
    assert {how.schedule for how in said} >= {"linear", "cosine"}


def test_steps_in_epochs_recipes_and_dials(tiers: dict[str, Tier]) -> None:
    runs = tuned(tiers)
    assert all(any(getattr(run, key) for run in runs) for key in ("epochs", "recipe", "dial"))


def test_networks_that_others_fine_tuned_of_both_kinds(tiers: dict[str, Tier]) -> None:
    released = {
        tier.models[run.model].family for tier in tiers.values() for run in tier.released.values()
    }
    assert released == {"edm2", "var"}

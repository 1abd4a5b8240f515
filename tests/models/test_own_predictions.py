"""A family of one's own that tells its logits: distilled, it samples plainly what CFG sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, Trained

from mclr.config.reading import parse_tier
from mclr.data.load import load_manifest
from mclr.errors import UserError
from mclr.jobs.inputs import Data
from mclr.models.families import make_family
from mclr.models.family import Family
from mclr.objectives.gft import Gft
from mclr.planning.own import check_own
from mclr.planning.plan import Plan
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
GAMMA = 2.0
OBJECTIVES: dict[str, dict[str, Any]] = {
    "distill": {"name": "distill", "gamma": GAMMA},
    "gft": {"name": "gft", "beta": 1 / (1 + GAMMA)},
    "mg": {"name": "mg", "w": GAMMA / (1 + GAMMA)},
}


def plan_of(objective: dict[str, Any], file: str = "own_logits.py:BlackAndWhite") -> Plan:
    model = {
        "family": "own",
        "label": "Black and white",
        "implementation": f"{EXAMPLES}/{file}",
        "options": {"least_std": 0.05} if "own_family" in file else {},
        "nfe": 1,
        "base": {"seed": 0, "steps": 10, "batch": 64, "lr": 0.05},
        "guidance": [GAMMA],
    }
    run = {"model": "own", "objective": objective, "lr": 0.05, "batch": 400, "checkpoints": [5]}
    return Plan(parse_tier(TINY | {"models": {"own": model}, "runs": {"own-run": run}}, "own"))


def exact(family: Family, data: Samples) -> torch.nn.Module:
    """The logits of the data: how often a pixel is white, smoothed by one image of each kind."""
    net = family.build(torch.Generator())
    for label in range(11):
        x = data.x[(data.labels == label) | (label == 10)].float()
        white = (x.sum(0) + 1) / (len(x) + 2)
        net.get_parameter("white").data[label] = white.logit()
    return net.requires_grad_(False)


@pytest.fixture
def family(trained: Trained) -> Family:
    plan = plan_of(OBJECTIVES["distill"])
    return make_family(plan.base_spec("own"), load_manifest(trained.manifest))


@pytest.fixture
def data(family: Family, trained: Trained) -> Samples:
    images, labels = Data(trained.prepared).train()
    return Samples(family.encode(images), labels, 10)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_is_sampled_comes_near_to_cfg(name: str, family: Family, data: Samples) -> None:
    """Of the same seeds, with half as many evaluations."""
    base, labels = exact(family, data), torch.arange(200) % 10
    spec = plan_of(OBJECTIVES[name]).finetune_spec("own-run-seed0")
    who = finetune_trainee(family, base, spec.run, 0, data)
    wanted = family.generate(base, range(200), labels, GAMMA)
    with torch.no_grad():
        start = (family.generate(base, range(200), labels, 0.0) != wanted).float().mean()
    assert start > 0.05
    for step in range(150):
        who.optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 150)
        who.optimizer.zero_grad()
        for loss in who.losses(step):
            loss.value.backward()
        who.optimizer.step()
    with torch.no_grad():
        end = (family.generate(who.net, range(200), labels, 0.0) != wanted).float().mean()
    # Distillation copies its teacher; the others estimate theirs from minibatches.
    assert end < (0.05 if name == "distill" else 0.7) * start


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_family_without_predictions_is_refused_before_anything_runs(name: str) -> None:
    check_own(plan_of(OBJECTIVES[name]))
    with pytest.raises(UserError, match=rf"runs\.own-run\.objective: {name} needs what .*predict"):
        check_own(plan_of(OBJECTIVES[name], "own_family.py:GaussianPixels"))


def test_it_is_refused_where_nothing_was_planned(trained: Trained) -> None:
    plan = plan_of(OBJECTIVES["gft"], "own_family.py:GaussianPixels")
    family = make_family(plan.base_spec("own"), load_manifest(trained.manifest))
    net = family.build(torch.Generator())
    images = torch.zeros(4, 1, 8, 8)
    run = plan.finetune_spec("own-run-seed0").run
    run = run.model_copy(update={"batch": 4, "objective": Gft(name="gft", beta=0.5)})
    who = finetune_trainee(family, net, run, 0, Samples(images, torch.arange(4), 10))
    with pytest.raises(UserError, match="GaussianPixels has no `predict`"):
        list(who.losses(0))

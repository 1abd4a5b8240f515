"""The how-to pages that touch the workflow, followed command by command."""

from __future__ import annotations

import re

from checkout import ROOT, Checkout, follow

OBJECTIVE = """
import torch
from tiny import TINY
from mclr.data.load import Manifest
from mclr.models.family import make_family
from mclr.planning.plan import Plan
from mclr.config.reading import parse_tier
from mclr.report.methods import METHODS
from mclr.training.finetune import Samples, finetune_trainee

run = {"model": "edm2", "objective": {"name": "ipo", "beta": 0.25, "K": 2}}
tier = parse_tier(TINY | {"runs": {"ipo": TINY["runs"]["edm2-ccdpo"] | run}}, "tiny")
plan = Plan(tier)
family = make_family(plan.base_spec("edm2"), Manifest(1, 8, 10, (), {}))
base = family.build(torch.Generator().manual_seed(0))
data = Samples(torch.randn(20, 1, 8, 8), torch.arange(20) % 10, 10)
(loss,) = finetune_trainee(family, base, tier.runs["ipo"], 0, data).losses(0)
print(METHODS["ipo"].suffix, round(loss.value.item(), 3))
"""


def test_own_objective_in_the_pipeline(fresh: Checkout) -> None:
    example = "python docs/examples/own_objective.py"
    page = (ROOT / "docs" / "howto-objective.md").read_text()
    (command,) = re.findall(rf"^{example}.*$", page, re.MULTILINE)
    follow(fresh, "howto-objective.md", skip=command)  # tests/docs/test_examples.py runs it
    assert '"ipo"' in (fresh.folder / "config" / "schema.json").read_text()
    fresh.environment["PYTHONPATH"] += f":{fresh.folder / 'tests'}"
    assert fresh.run("python", "-c", OBJECTIVE).stdout.split()[-2:] == ["+IPO", "4.0"]


def test_memory(fresh: Checkout) -> None:
    follow(fresh, "howto-memory.md")

"""The examples of the documentation do what their pages say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Trained

from mclr.data.load import Manifest, load_images
from mclr.events import read_events
from mclr.models.family import load_network, make_family
from mclr.objectives.base import Batch
from mclr.objectives.contrast import draw_partners
from mclr.planning.plan import Plan

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "examples"))
import own_objective


@pytest.fixture
def own_loss(trained: Trained, tiny_plan: Plan, manifest: Manifest) -> Any:
    """The loss of the example on a part of a minibatch, at θ = θ_ref."""
    family = make_family(tiny_plan.base_spec("edm2"), manifest)
    net = load_network(family, trained.edm2)
    images, labels = load_images(trained.prepared / "train.parquet", manifest)
    rng = torch.Generator().manual_seed(0)
    x = family.encode(images[:8])
    batch = Batch(x, labels[:8], family.draw(x, rng))
    contrast = draw_partners(batch.labels, 2, rng)

    def ell(x: Any, labels: Any, draw: Any) -> Any:
        return family.log_likelihood(net, x, labels, draw)

    def value(part: list[int], policy: Any = ell) -> float:
        objective = own_objective.Ipo(beta=0.25, K=2)
        rows = torch.tensor(part)
        return own_objective.ipo_loss(objective, policy, ell, batch, contrast, rows).value.item()

    return value


def test_own_objective_at_the_reference(own_loss: Any) -> None:
    assert own_loss(list(range(8))) == pytest.approx(1 / (4 * 0.25**2))


def test_own_objective_of_parts_adds_up(own_loss: Any) -> None:
    def policy(x: Any, labels: Any, draw: Any) -> Any:
        return x.flatten(1).sum(1) / 50

    whole = own_loss(list(range(8)), policy)
    assert own_loss([0, 1, 2], policy) + own_loss([3, 4, 5, 6, 7], policy) == pytest.approx(whole)


def test_own_objective_moves_its_margin(trained: Trained, tmp_path: Path) -> None:
    base = trained.edm2.parents[1]
    objective = own_objective.Ipo(beta=0.02, K=4)
    weights = own_objective.finetune(base, trained.prepared, tmp_path, objective, steps=20)
    assert weights.is_file()
    margins = [e["margin"] for e in read_events(tmp_path / "events.jsonl") if e["event"] == "train"]
    assert 0 < margins[0] < margins[-1]

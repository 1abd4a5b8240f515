"""The examples of the documentation do what their pages say."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Trained

from mclr.data.load import Manifest, load_images
from mclr.events import read_events
from mclr.likelihood import Draw
from mclr.models.family import load_network, make_family
from mclr.objectives.base import Batch
from mclr.objectives.contrast import draw_partners
from mclr.plan import Plan

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "examples"))
import own_model
import own_objective

SMALL = Manifest(channels=1, resolution=2, num_classes=3, class_names=("a", "b", "c"), hashes={})


@pytest.fixture(scope="module")
def pixels() -> tuple[own_model.PixelFamily, torch.nn.Module]:
    """A family of four pixels of two levels, and a network with random weights."""
    family = own_model.PixelFamily(SMALL, levels=2)
    net = family.build(torch.Generator().manual_seed(3))
    with torch.no_grad():
        net.head.weight.mul_(4)  # far from uniform
    return family, net.eval()


@pytest.fixture(scope="module")
def probabilities(pixels: Any) -> torch.Tensor:
    """p(x|c = 1) of all 16 images."""
    family, net = pixels
    images = torch.tensor(list(itertools.product(range(2), repeat=4)))
    labels = torch.ones(16, dtype=torch.long)
    with torch.no_grad():
        return family.log_likelihood(net, images, labels, Draw()).double().exp()


def test_own_likelihood_is_a_distribution(probabilities: torch.Tensor) -> None:
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-6)
    assert probabilities.max() > 2 / 16


def test_own_samples_follow_the_likelihood(pixels: Any, probabilities: torch.Tensor) -> None:
    family, net = pixels
    n = 4000
    x = family.generate(net, range(n), torch.ones(n, dtype=torch.long), guidance=0.0)
    code = (x * torch.tensor([8, 4, 2, 1])).sum(1)
    shares = code.bincount(minlength=16) / n
    assert (shares - probabilities).abs().max() < 4 * 0.5 / n**0.5


def test_own_samples_depend_on_their_own_seed(pixels: Any) -> None:
    family, net = pixels
    labels = torch.tensor([0, 1, 2])
    together = family.generate(net, [7, 8, 9], labels, guidance=1.0)
    assert torch.equal(together[1:2], family.generate(net, [8], labels[1:2], guidance=1.0))


def test_mclr_separates_the_classes_of_an_own_model(prepared: Path, tmp_path: Path) -> None:
    family, base, tuned = own_model.run(prepared, tmp_path)
    images, labels = load_images(prepared / "reference.parquet", family.manifest)
    before, after = (own_model.class_accuracy(family, net, images, labels) for net in (base, tuned))
    assert after > before + 0.05
    assert family.decode(family.encode(images)).shape == images.shape


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

"""Metrics against recorded values of other libraries, closed forms and conventions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mclr.metrics.features import Features
from mclr.metrics.scores import (
    frechet_distance,
    inception_score,
    precision_recall,
    protocol,
    scores,
)

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "metrics.npz")


def features(name: str) -> Tensor:
    return torch.from_numpy(GOLDEN[name].astype(np.float64))


def test_fd_is_edm2s() -> None:
    """EDM2 averages in float64, as we do; float32 means would differ in the eighth digit."""
    found = frechet_distance(features("gen"), features("real"))
    assert found == pytest.approx(float(GOLDEN["fd:edm2"]), rel=1e-9)
    assert found != pytest.approx(float(GOLDEN["fd:torch_fidelity"]), rel=1e-9)


def test_fd_of_fewer_images_than_dimensions() -> None:
    found = frechet_distance(features("gen")[:40], features("real")[:40])
    assert found == pytest.approx(float(GOLDEN["fd_rankdeficient40:edm2"]), rel=1e-7)


def test_fd_in_closed_form() -> None:
    """Diagonal Gaussians: ‖μ₁ − μ₂‖² + Σ (s₁ − s₂)², with variances over N − 1."""
    points = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    other = points * torch.tensor([3.0, 0.5]) + torch.tensor([2.0, 1.0])
    deviation = math.sqrt(4 / 3)
    expected = 4 + 1 + (2 * deviation) ** 2 + (0.5 * deviation) ** 2
    assert frechet_distance(points, other) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_precision_and_recall_are_exact(k: int, offset: float) -> None:
    """Counts in float64; a common offset, which breaks float32 distances, changes nothing."""
    found = precision_recall(features("gen") + offset, features("real") + offset, k)
    for value, name in zip(found, ("precision", "recall"), strict=True):
        exact = float(GOLDEN[f"prc:exact64_le_k{k}_{name}"])
        assert value == pytest.approx(exact, abs=1e-7)  # of a mean in float32


def test_ties_count_as_inside() -> None:
    precision, recall = precision_recall(features("gen_ties"), features("real_ties"), 3)
    assert precision == pytest.approx(float(GOLDEN["prc_ties:exact64_le_k3_precision"]), abs=1e-7)
    assert recall == pytest.approx(float(GOLDEN["prc_ties:exact64_le_k3_recall"]), abs=1e-7)


def test_collapsed_generator_has_high_precision_and_low_recall() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(300, 2, generator=generator, dtype=torch.float64)
    collapsed = real[:1] + 0.01 * torch.randn(200, 2, generator=generator, dtype=torch.float64)
    precision, recall = precision_recall(collapsed, real, 3)
    assert precision > 0.95 and recall < 0.05
    wide = 10 * torch.randn(200, 2, generator=generator, dtype=torch.float64)
    precision, recall = precision_recall(wide, real, 3)
    assert precision < 0.3 and recall > 0.9


@pytest.mark.parametrize("splits", [1, 10])
def test_inception_score(splits: int) -> None:
    for n in (500, 503):
        found = inception_score(features(f"is_logits{n}"), splits)
        name = f"is{n}_splits{splits}_shuffle1:torch_fidelity"
        assert found[0] == pytest.approx(float(GOLDEN[f"{name}_mean"]), rel=1e-9)
        assert found[1] == pytest.approx(float(GOLDEN[f"{name}_std"]), rel=1e-9, abs=1e-12)


def test_inception_score_of_perfect_classes() -> None:
    """Sure of every image and even over C classes: IS = C. Never sure: IS = 1."""
    sure = 1e3 * torch.eye(4, dtype=torch.float64).repeat(50, 1)
    assert inception_score(sure, 1) == pytest.approx((4.0, 0.0))
    assert inception_score(torch.zeros(40, 4, dtype=torch.float64), 2) == pytest.approx((1.0, 0.0))


def test_columns() -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    logits = torch.eye(5, dtype=torch.float64).repeat(10, 1)
    labels = torch.arange(5).repeat(10)
    seeds = torch.arange(50)
    labels[:10] = (labels[:10] + 1) % 5
    generated = Features(points, logits, labels, seeds)
    found = scores("cnn", generated, Features(points + 1, logits, labels, seeds), 3)
    assert found.keys() == {"fd_cnn", "precision_cnn", "recall_cnn", "accuracy_cnn"}
    assert found["fd_cnn"] == pytest.approx(3.0)
    assert found["accuracy_cnn"] == pytest.approx(0.8)


EVALUATION: dict[str, Any] = {
    "n_samples": 20, "labels": "balanced", "neighbourhood": 3, "isc_features": "cnn",
    "isc_splits": 2,
}  # fmt: skip


def test_protocol_id_changes_with_each_ingredient(monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(nets: dict[str, str] | None = None, reference: str = "r", **edit: Any) -> str:
        found: str = protocol(EVALUATION | edit, nets or {"cnn": "a"}, reference)["id"]
        return found

    first = identity()
    assert first == identity() and len(first) == 12
    others = [
        identity(n_samples=21),
        identity(labels="random"),
        identity(neighbourhood=5),
        identity(isc_features="other"),
        identity(isc_splits=4),
        identity(nets={"cnn": "b"}),
        identity(nets={"net": "a"}),
        identity(nets={"cnn": "a", "more": "b"}),
        identity(reference="s"),
    ]
    monkeypatch.setattr("mclr.metrics.scores.torch_fidelity_version", "9")
    others.append(identity())
    assert len({first, *others}) == len(others) + 1


def test_protocol_tells_its_ingredients() -> None:
    found = protocol(EVALUATION, {"cnn": "a"}, "r")
    assert found.items() >= EVALUATION.items()
    assert found["feature_nets"] == {"cnn": "a"} and found["reference_sha256"] == "r"
    assert found["torch_fidelity"] == "0.4.0" and found["dtype"] == "torch.float64"

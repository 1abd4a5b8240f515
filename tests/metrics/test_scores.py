"""Metrics in closed form, their errors, and the protocol that goes with them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mclr.errors import UserError
from mclr.metrics.features import Features
from mclr.metrics.reference import Reference
from mclr.metrics.scores import (
    frechet_distance,
    frechet_distance_of_moments,
    inception_score,
    kernel_inception_distance,
    precision_recall,
    protocol,
    scores,
)
from mclr.metrics.statistics import gaussian


def points(n: int, d: int = 3) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


def test_fd_in_closed_form() -> None:
    """Diagonal Gaussians: ‖μ₁ − μ₂‖² + Σ (s₁ − s₂)², with variances over N − 1."""
    points = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    other = points * torch.tensor([3.0, 0.5]) + torch.tensor([2.0, 1.0])
    deviation = math.sqrt(4 / 3)
    expected = 4 + 1 + (2 * deviation) ** 2 + (0.5 * deviation) ** 2
    assert frechet_distance(points, other) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-12)


def test_collapsed_generator_has_high_precision_and_low_recall() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(300, 2, generator=generator, dtype=torch.float64)
    collapsed = real[:1] + 0.01 * torch.randn(200, 2, generator=generator, dtype=torch.float64)
    precision, recall = precision_recall(collapsed, real, 3)
    assert precision > 0.95 and recall < 0.05
    wide = 10 * torch.randn(200, 2, generator=generator, dtype=torch.float64)
    precision, recall = precision_recall(wide, real, 3)
    assert precision < 0.3 and recall > 0.9


def test_inception_score_of_perfect_classes() -> None:
    """Sure of every image and even over C classes: IS = C. Never sure: IS = 1."""
    sure = 1e3 * torch.eye(4, dtype=torch.float64).repeat(50, 1)
    assert inception_score(sure, 1) == pytest.approx((4.0, 0.0))
    assert inception_score(torch.zeros(40, 4, dtype=torch.float64), 2) == pytest.approx((1.0, 0.0))


def naive_kid(x: Tensor, y: Tensor) -> float:
    """Unbiased MMD² of two sets of m vectors, pair by pair."""

    def kernel(a: Tensor, b: Tensor) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    m = len(x)
    pairs = [(i, j) for i in range(m) for j in range(m)]
    within = sum(kernel(s[i], s[j]) for s in (x, y) for i, j in pairs if i != j) / (m * (m - 1))
    return within - 2 * sum(kernel(x[i], y[j]) for i, j in pairs) / m**2


def test_kid_pair_by_pair() -> None:
    """A subset of all images leaves nothing to chance."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(6, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    mean, std = kernel_inception_distance(x, y + 1, 3, 6)
    assert mean == pytest.approx(naive_kid(x, y + 1), rel=1e-12)
    assert std == pytest.approx(0, abs=1e-12)


def test_kid_is_repeatable() -> None:
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first = kernel_inception_distance(x[:15], x[15:], 4, 5)
    torch.manual_seed(7)
    assert kernel_inception_distance(x[:15], x[15:], 4, 5) == first and first[1] > 0


@pytest.mark.parametrize("measure", [
    lambda x, y: frechet_distance(x, y),
    lambda x, y: kernel_inception_distance(x, y, 2, 2),
    lambda x, y: precision_recall(x, y, 1),
], ids=["fd", "kid", "prc"])  # fmt: skip
def test_features_that_cannot_be_compared(measure: Callable[[Tensor, Tensor], Any]) -> None:
    measure(points(4), points(5))
    with pytest.raises(UserError, match="3 generated and 2 real feature dimensions"):
        measure(points(4), points(5, 2))
    with pytest.raises(UserError, match="1 generated images, expected at least 2"):
        measure(points(1), points(5))
    with pytest.raises(UserError, match="1 real images, expected at least 2"):
        measure(points(4), points(1))
    broken = points(5)
    broken[2, 1] = math.nan
    with pytest.raises(UserError, match="features of real images are not finite"):
        measure(points(4), broken)


def test_too_few_images_for_the_settings() -> None:
    with pytest.raises(UserError, match="4 generated images, expected at least 5"):
        precision_recall(points(4), points(9), 4)
    with pytest.raises(UserError, match="KID: 6 real images, expected at least 7"):
        kernel_inception_distance(points(9), points(6), 1, 7)
    with pytest.raises(UserError, match="KID: 0 subsets of 3 images"):
        kernel_inception_distance(points(9), points(6), 0, 3)
    with pytest.raises(UserError, match="4 images for 5 splits"):
        inception_score(points(4), 5)


def test_no_inception_score_without_logits() -> None:
    with pytest.raises(UserError, match=r"no logits .* evaluation\.isc_features"):
        inception_score(torch.zeros(9, 0), 1)


def test_fd_of_moments_of_two_nets() -> None:
    two, three = (gaussian(torch.zeros(d), torch.eye(d), "test") for d in (2, 3))
    with pytest.raises(UserError, match="2 generated and 3 real feature dimensions"):
        frechet_distance_of_moments(two, three)


@pytest.mark.parametrize("classes", [0, 6])
def test_accuracy_needs_the_classes_of_the_data(classes: int) -> None:
    """DINOv2 has no logits, Inception those of other classes."""
    labels = torch.arange(5).repeat(2)
    made = Features(points(10), torch.zeros(10, classes), labels, torch.arange(10))
    assert scores("net", made, Reference(made.features, 3), classes=5).keys() == {
        "fd_net",
        "precision_net",
        "recall_net",
    }


def test_columns() -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    logits = torch.eye(5, dtype=torch.float64).repeat(10, 1)
    labels = torch.arange(5).repeat(10)
    seeds = torch.arange(50)
    labels[:10] = (labels[:10] + 1) % 5
    generated = Features(points, logits, labels, seeds)
    found = scores("cnn", generated, Reference(points + 1, 3), classes=5)
    assert found.keys() == {"fd_cnn", "precision_cnn", "recall_cnn", "accuracy_cnn"}
    assert found["fd_cnn"] == pytest.approx(3.0)
    assert found["accuracy_cnn"] == pytest.approx(0.8)


EVALUATION: dict[str, Any] = {
    "n_samples": 20, "labels": "balanced", "neighbourhood": 3, "isc_features": "cnn",
    "isc_splits": 2,
}  # fmt: skip


def test_protocol_id_changes_with_each_ingredient(monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(
        nets: dict[str, str] | None = None,
        reference: str = "r",
        resize: str | dict[str, str] = "none",
        **edit: Any,
    ) -> str:
        found: str = protocol(EVALUATION | edit, nets or {"cnn": "a"}, reference, resize)["id"]
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
        identity(resize={"cnn": "torch"}),
        identity(resize={"cnn": "pil"}),
    ]
    monkeypatch.setattr("mclr.metrics.scores.torch_fidelity_version", "9")
    others.append(identity())
    assert len({first, *others}) == len(others) + 1


def test_protocol_tells_its_ingredients() -> None:
    found = protocol(EVALUATION, {"cnn": "a"}, "r")
    assert found.items() >= EVALUATION.items()
    assert found["feature_nets"] == {"cnn": "a"} and found["reference_sha256"] == "r"
    assert found["resize"] == "none"
    assert found["torch_fidelity"] == "0.4.0" and found["dtype"] == "torch.float64"

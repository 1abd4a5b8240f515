"""Reference images measured once give torch-fidelity's numbers for every point."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from mclr.errors import UserError
from mclr.metrics import neighbours, reference
from mclr.metrics.distance import statistics_of
from mclr.metrics.neighbours import kth_squares
from mclr.metrics.reference import Reference


def points(n: int, d: int, seed: int) -> Tensor:
    """Correlated features whose deviations span four orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    scale = torch.logspace(-3, 1, d, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) * scale @ mix


def library_fd(generated: Tensor, real: Tensor) -> float:
    statistics = (fid_features_to_statistics(f) for f in (generated, real))
    return float(fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "d"), [(7, 3), (300, 50), (2000, 129), (90, 700)])
def test_moments_have_the_librarys_bits(n: int, d: int, dtype: torch.dtype) -> None:
    features = (points(n, d, 3) + 1).to(dtype)
    before = features.clone()
    found, expected = statistics_of(features), fid_features_to_statistics(before.double())
    assert all(np.array_equal(found[name], expected[name]) for name in ("mu", "sigma"))
    assert torch.equal(features, before)


@pytest.mark.parametrize("direct", [0, 512])
@pytest.mark.parametrize("n", [300, 30])  # 30: fewer images than dimensions
def test_fd_is_the_librarys(direct: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "DIRECT", direct)
    real, one = points(200, 50, 1), Reference(points(200, 50, 1), 3)
    for seed in (2, 3):
        generated = points(n, 50, seed) + 0.1 * seed
        expected = library_fd(generated, real)
        assert one.frechet_distance(generated) == pytest.approx(expected, rel=1e-6)
        if direct:
            assert one.frechet_distance(generated) == expected


@pytest.mark.parametrize("rows", [7, 2000])
def test_precision_and_recall_are_the_librarys(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "ROWS", rows)
    generator, values = torch.Generator().manual_seed(0), set()
    real = torch.randn(61, 5, generator=generator, dtype=torch.float64)
    one = Reference(real, 3)
    for n in (40, 41, 80):
        generated = 0.8 * torch.randn(n, 5, generator=generator, dtype=torch.float64) + 0.7
        found = prc_features_to_metric(
            generated, real, prc_neighborhood=3, prc_batch_size=100, save_cpu_ram=False,
            verbose=False,
        )  # fmt: skip
        assert one.precision_recall(generated) == (found["precision"], found["recall"])
        values |= {found["precision"], found["recall"]}
    assert len(values) > 3 and all(0 < value < 1 for value in values)


def test_what_depends_on_real_images_alone_is_computed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(features: Tensor, *rest: object) -> object:
            sizes.append(len(features))
            return function(features, *rest)

        return call

    monkeypatch.setattr(reference, "kth_squares", counted(kth_squares))
    monkeypatch.setattr(reference, "statistics_of", counted(statistics_of))
    one = Reference(points(30, 4, 0), 3)
    for n in (20, 21):
        one.precision_recall(points(n, 4, n))
        one.frechet_distance(points(n, 4, n))
    assert sorted(sizes) == [20, 20, 21, 21, 30, 30]


def test_mistakes_are_explained() -> None:
    one = Reference(points(9, 3, 0), 3)
    with pytest.raises(UserError, match="FD: 2 generated and 3 real feature dimensions"):
        one.frechet_distance(points(9, 2, 0))
    with pytest.raises(UserError, match="precision and recall: 3 generated images, expected at l"):
        one.precision_recall(points(3, 3, 0))
    with pytest.raises(UserError, match="FD: features of generated images are not finite"):
        one.frechet_distance(points(9, 3, 0) / 0)

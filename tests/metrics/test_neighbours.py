"""Neighbours by bounded products decide as sums in float64 do, whatever data and blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mclr.metrics import bounds, neighbours
from mclr.metrics.bounds import Cloud, lower_bounds, relative_error, squared_distances
from mclr.metrics.neighbours import covered, kth_squares
from mclr.metrics.scores import precision_recall

K = 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def drawn(n: int, d: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def pairs(a: Tensor, b: Tensor) -> Tensor:
    """All d² (N, M), image by image."""
    return torch.stack([(row - b).square().sum(1) for row in a])


def brute_kth(features: Tensor, k: int) -> Tensor:
    return pairs(features, features).fill_diagonal_(torch.inf).sort(1).values[:, k - 1]


def sets(kind: str) -> tuple[Tensor, Tensor]:
    """Real and made features."""
    real, made = drawn(170, 6, 1), 0.8 * drawn(130, 6, 2) + 0.3
    if kind == "lattice":  # distances that are equal, everywhere
        return (2 * real).round(), (2 * made).round()
    if kind == "copies":  # of real images, of each other, and of one more often than k times
        made[:40], made[40:50], real[100:110] = real[:40], made[0], real[5]
    if kind == "collapsed":  # onto five images, closer together than products in float32 can tell
        made = real[torch.arange(130) % 5] + 1e-6 * drawn(130, 6, 3)
    if kind == "collapsed beyond float64's products":
        made = real[torch.arange(130) % 5] + 1e-9 * drawn(130, 6, 3)
    if kind == "constant":
        return torch.ones(20, 6), torch.ones(9, 6)
    if kind == "on the edges":  # of balls around real images, up to the last digits
        reached = pairs(real, real).argsort(1)[:130, K]
        made = real[:130] + (real[reached] - real[:130]).roll(1, dims=1)
    if kind == "far":  # from 0
        return real + 1e5, made + 1e5
    if kind == "huge":
        return 1e30 * real, 1e30 * made
    if kind == "tiny":
        return 1e-30 * real, 1e-30 * made
    if kind == "of other sizes":
        return real, 1e25 * made
    if kind == "outlier":
        real[3] *= 1e9
    if kind == "float32":
        return real.float(), made.float()
    return real, made


KINDS = (
    "normal", "lattice", "copies", "collapsed", "collapsed beyond float64's products", "constant",
    "on the edges", "far", "huge", "tiny", "of other sizes", "outlier", "float32",
)  # fmt: skip


@pytest.mark.parametrize("blocks", [(32, 7), (4096, 512)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_decision_is_that_of_sums_in_float64(
    kind: str, blocks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "ROWS", blocks[0])
    monkeypatch.setattr(neighbours, "COLUMNS", blocks[1])
    real, made = sets(kind)
    squares = kth_squares(real, K), kth_squares(made, K)
    expected = brute_kth(real.double(), K), brute_kth(made.double(), K)
    assert all(torch.equal(*both) for both in zip(squares, expected, strict=True))
    distances = pairs(real.double(), made.double())
    reached, inside = covered(real, squares[0], made, squares[1])
    assert torch.equal(reached, (distances <= expected[1]).any(1))
    assert torch.equal(inside, (distances <= expected[0][:, None]).any(0))


@pytest.mark.parametrize("sizes", [(K + 1, K + 1), (K + 1, 300), (300, K + 2)])
@pytest.mark.parametrize("d", [1, 40])
def test_few_images_and_one_dimension(sizes: tuple[int, int], d: int) -> None:
    real, made = drawn(sizes[0], d, 6), drawn(sizes[1], d, 7)
    radii, distances = (brute_kth(real, K), brute_kth(made, K)), pairs(real, made)
    precision, recall = precision_recall(made, real, K)
    assert precision == (distances <= radii[0][:, None]).any(0).float().mean()
    assert recall == (distances <= radii[1]).any(1).float().mean()


def test_many_open_pairs_of_a_block_are_asked_by_products_in_float64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, made = sets("collapsed")
    squares = kth_squares(real, K), kth_squares(made, K)
    expected = covered(real, squares[0], made, squares[1])
    types: list[torch.dtype] = []
    part = Cloud.part
    monkeypatch.setattr(
        Cloud, "part", lambda self, rows, dtype: types.append(dtype) or part(self, rows, dtype)
    )
    monkeypatch.setattr(neighbours, "MANY", 0)
    found = covered(real, squares[0], made, squares[1])
    assert torch.float64 in types
    assert all(torch.equal(*both) for both in zip(found, expected, strict=True))


def test_kth_neighbours_in_closed_form() -> None:
    line = torch.tensor([[0.0], [1], [3], [7]], dtype=torch.float64)
    assert kth_squares(line, 1).sqrt().tolist() == [1, 1, 2, 4]
    assert kth_squares(line, 2).sqrt().tolist() == [3, 2, 3, 6]
    assert kth_squares(line, 3).sqrt().tolist() == [7, 6, 4, 7]  # all others
    ties = torch.tensor([[0.0, 0], [1, 0], [0, 1], [-1, 0], [0, -1], [0, 0]])
    assert kth_squares(ties, 1)[0] == 0  # a copy is a neighbour
    assert [kth_squares(ties, k)[0].item() for k in (2, 3, 4, 5)] == [1, 1, 1, 1]


@pytest.mark.parametrize(("away", "share"), [(0.0, 1.0), (1e-15, 0.0), (-1e-15, 1.0)])
def test_the_edge_of_a_ball_is_inside(away: float, share: float) -> None:
    """A made image at the distance of the real one's neighbour, or the last digits off it."""
    real = torch.zeros(2, 300, dtype=torch.float64)
    real[1, 0] = 1.0
    made = torch.zeros(2, 300, dtype=torch.float64)
    made[:, 1] = -1.0 - 4 * away
    precision, recall = precision_recall(made, real, 1)
    assert precision == share
    assert recall == 0.0  # the two made images are one point: balls of radius 0


def test_gradients_autocast_and_fast_products_change_nothing() -> None:
    real, made = (features.float() for features in sets("normal"))
    expected = precision_recall(made, real, K)
    assert min(expected) > 0 and max(expected) < 1
    chosen = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert precision_recall(made.requires_grad_(), real, K) == expected
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(chosen)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [37, 300])  # products, and convolutions with rows to spare
def test_bounds_hold_and_are_narrow(n: int, dtype: torch.dtype) -> None:
    features = drawn(n, 500, 4).relu() + 10
    cloud = Cloud(features)
    part = cloud.part(slice(None), dtype)
    low = lower_bounds(part, part).double()
    exact = pairs(features, features) * cloud.scale**2
    width = 2 * (part.error[:, None] + part.error)
    assert (low <= exact).all() and (exact <= low + width).all()
    assert width.max() < 5 * relative_error(500, dtype) * exact.max()


def test_equal_pairs_have_equal_sums() -> None:
    """However many are summed together: else a tie would be chance."""
    features, rows = drawn(600, 777, 5), torch.arange(600)
    together = squared_distances(features, rows, features, rows.flip(0))
    alone = [squared_distances(features, i, features, 599 - i) for i in rows.split(1)]
    assert torch.equal(torch.cat(alone), together)
    assert torch.equal(together, together.flip(0))


class Largest(TorchDispatchMode):
    """The largest tensor that any operation returned, bytes."""

    size = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **kwargs or {})
        for value in tree_leaves(found):
            if isinstance(value, Tensor):
                self.size = max(self.size, value.untyped_storage().nbytes())
        return found


@pytest.mark.parametrize("kind", ["normal", "lattice", "collapsed"])
@pytest.mark.parametrize("n", [600, 1200])
def test_nothing_is_larger_than_a_block_and_what_is_kept_of_each_image(
    n: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one tensor grows with the number of pairs: a matrix of them would be 1.4 MB and more."""
    for name, size in (("ROWS", 128), ("COLUMNS", 64), ("MANY", 64)):
        monkeypatch.setattr(neighbours, name, size)
    monkeypatch.setattr(bounds, "PIECE", 64)
    real, made = drawn(n, 8, 1), drawn(n, 8, 2)
    if kind == "lattice":
        real, made = (4 * real).round(), (4 * made).round()
    if kind == "collapsed":
        made = real[torch.arange(n) % 5] + 1e-6 * made
    with Largest() as largest:
        precision_recall(made, real, K)
    images = 2 * 8 * n * (K + neighbours.SPARE)  # which neighbour of which image
    assert 128 * 64 * 4 <= largest.size <= max(2 * 128 * 64 * 4, images)

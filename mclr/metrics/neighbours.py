"""k-th neighbours, and which images lie in the balls around others: every decision as in float64.

Bounds of distances (``mclr.metrics.bounds``) come block by block from products in float32. Most
of them decide which of two distances is smaller. Where they leave it open, products in float64
are asked, and then the sums d² themselves, where equal is equal. So the result does not depend
on blocks, machine or order. Memory beside the features does not grow with the number of pairs.
It works on the features' device.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor

from mclr.metrics.bounds import Cloud, Part, as_written, lower_bounds, squared_distances

ROWS, COLUMNS = 4096, 512
"""Images of a block on a CPU: its 8 MB stay in the cache."""

GPU_ROWS, GPU_COLUMNS = 8192, 8192
"""On a GPU: 256 MB, work for all of its cores."""

SPARE = 2
"""Neighbours kept beyond the k-th: where the bound of the last is above it, it is certain."""

MANY = 4096
"""Open pairs of a block from which on products in float64 take less time than sums."""


def kth_squares(features: Tensor, k: int) -> Tensor:
    """d² (N,) in float64 of each of the features (N, d) to its k-th neighbour without itself."""
    with as_written(features.device):
        cloud = Cloud(features)
        everyone = torch.arange(len(features), device=features.device)
        found, is_open = _kth(cloud, everyone, _all_pairs(cloud, k + SPARE), k)
        for rows in _where(is_open, _sizes(features)[0]):
            nearest = _rows_of(cloud, rows, 4 * k + 16)
            found[rows], is_open[rows] = _kth(cloud, rows, nearest, k)
        for row in _where(is_open, 1):
            found[row] = _kth_of_sums(cloud.features, row, k)
    return found


def covered(
    real: Tensor, real_squares: Tensor, made: Tensor, made_squares: Tensor
) -> tuple[Tensor, Tensor]:
    """Which of the real images (M,) lie in a ball of a made one, and which made (N,) in a real's.

    Args:
        real, made: features (M, d) and (N, d).
        real_squares, made_squares: squared radii of their balls, in float64; the edge is inside.
    """
    with as_written(real.device):
        here = Cloud(real)
        there = Cloud(made, like=here)
        dtype = torch.float32 if there.narrow else torch.float64
        balls = (_Balls(here, real_squares, there), _Balls(there, made_squares, here))
        rows, columns = _sizes(real)
        for i in _slices(len(real), rows):
            a = here.part(i, dtype)
            for j in _slices(len(made), columns):
                if balls[0].hit[j].all() and balls[1].hit[i].all():
                    continue
                b = there.part(j, dtype)
                bounds = lower_bounds(a, b)
                balls[1].mark(bounds, i, a, j, b)
                balls[0].mark(bounds.T, j, b, i, a)
    return balls[1].hit, balls[0].hit


class _Nearest:
    """The smallest lower bounds of n images so far, ascending, and of which images they are."""

    def __init__(self, n: int, keep: int, dtype: torch.dtype, device: torch.device) -> None:
        self.bounds = torch.full((n, keep), torch.inf, dtype=dtype, device=device)
        self.images = torch.full((n, keep), -1, device=device)

    def offer(self, rows: slice, bounds: Tensor, first: int) -> None:
        """Bounds (n, m) between the images of ``rows`` and those from ``first`` on."""
        hits = (bounds.amin(1) < self.bounds[rows, -1]).nonzero()[:, 0]
        if not len(hits):
            return
        if len(hits) > len(bounds) / 2:  # less work than copies of those rows
            hits = torch.arange(len(bounds), device=hits.device)
        else:
            bounds = bounds[hits]
        keep = self.bounds.shape[1]
        new = bounds.contiguous().topk(min(keep, bounds.shape[1]), largest=False)
        mine = hits + rows.start
        all_bounds = torch.cat([self.bounds[mine], new.values], 1)
        all_images = torch.cat([self.images[mine], new.indices + first], 1)
        best = all_bounds.topk(keep, largest=False)
        self.bounds[mine], self.images[mine] = best.values, all_images.gather(1, best.indices)


def _all_pairs(cloud: Cloud, keep: int) -> _Nearest:
    """Neighbours of all images; a block serves its rows and, transposed, its columns."""
    n = len(cloud)
    keep, dtype = min(keep, n - 1), torch.float32
    found = _Nearest(n, keep, dtype, cloud.features.device)
    rows, columns = _sizes(cloud.features)
    for i in _slices(n, rows):
        a = cloud.part(i, dtype)
        for j in chain(_slices(i.stop, columns, i.start), _slices(n, columns, i.stop)):
            upper = slice(i.start, min(i.stop, j.stop))
            bounds = lower_bounds(a.first(upper.stop - i.start), cloud.part(j, dtype))
            before = min(i.stop, j.start) - i.start
            bounds[before:].fill_diagonal_(torch.inf)
            found.offer(upper, bounds, j.start)
            # In pieces: fewer columns have a nearer image among few.
            for piece in _slices(before, columns):
                found.offer(j, bounds[piece].T, i.start + piece.start)
    return found


def _rows_of(cloud: Cloud, rows: Tensor, keep: int) -> _Nearest:
    """Neighbours of some images, by products in float64."""
    n, dtype = len(cloud), torch.float64
    found = _Nearest(len(rows), min(keep, n - 1), dtype, rows.device)
    a, here = cloud.part(rows, dtype), slice(0, len(rows))
    for j in _slices(n, _sizes(cloud.features)[1]):
        bounds = lower_bounds(a, cloud.part(j, dtype))
        own = ((rows >= j.start) & (rows < j.stop)).nonzero()[:, 0]
        bounds[own, rows[own] - j.start] = torch.inf
        found.offer(here, bounds, j.start)
    return found


def _kth(cloud: Cloud, rows: Tensor, nearest: _Nearest, k: int) -> tuple[Tensor, Tensor]:
    """d² (n,) of the k-th neighbours of some images, and where it may be another's (n,)."""
    error = cloud.error(slice(None), nearest.bounds.dtype)
    least = nearest.bounds.double()
    most = least + 2 * (error[rows][:, None] + error[nearest.images])
    low, high = least[:, k - 1 : k], most.sort(1).values[:, k - 1 : k]
    # Those below for certain count; only those that may be the k-th are summed.
    squares = torch.full_like(least, torch.inf).masked_fill_(most < low, -torch.inf)
    between = (least <= high) & (most >= low)
    i, place = between.nonzero().unbind(1)
    squares[i, place] = squared_distances(
        cloud.features, rows[i], cloud.features, nearest.images[i, place]
    )
    found = squares.sort(1).values[:, k - 1]
    if nearest.bounds.shape[1] == len(cloud) - 1:
        return found, torch.zeros_like(found, dtype=torch.bool)
    return found, found * cloud.scale**2 > least[:, -1].clamp(min=0)


def _kth_of_sums(features: Tensor, row: Tensor, k: int) -> Tensor:
    """The same (1,) of one image by its sums with all others: where many distances are equal."""
    others = torch.arange(len(features), device=features.device)
    others = others[others != row]
    squares = squared_distances(features, row.expand(len(others)), features, others)
    return squares.topk(k, largest=False).values[-1:]


class _Balls:
    """Balls around ``centres``, and which of the ``members`` are known to lie in one."""

    def __init__(self, centres: Cloud, squares: Tensor, members: Cloud) -> None:
        self.centres, self.members, self.squares = centres, members, squares
        self.scaled = squares * centres.scale**2
        self.hit = torch.zeros(len(members), dtype=torch.bool, device=squares.device)

    def mark(self, bounds: Tensor, rows: slice, a: Part, columns: slice, b: Part) -> None:
        """See to the members ``rows``, with bounds (n, m) of their distances to some centres."""
        limit = _above(self.scaled[columns], bounds.dtype)
        # At most 0: perhaps inside. So far below that no error counts: inside.
        gap = (bounds - limit).amin(1).double()
        sure = gap < -2.01 * (a.error + b.error.max()) - 1e-6 * limit.max()
        self.hit[rows] |= sure
        some = ((gap <= 0) & ~self.hit[rows]).nonzero()[:, 0]
        if len(some):
            self._look(bounds[some], some + rows.start, a.error[some], columns, b.error)

    def _look(
        self, bounds: Tensor, rows: Tensor, row_error: Tensor, columns: slice, error: Tensor
    ) -> None:
        """The same pair by pair; what stays open by products in float64, or by sums."""
        scaled = self.scaled[columns]
        i, j = (bounds <= _above(scaled, bounds.dtype)).nonzero().unbind(1)
        most = bounds[i, j].double() + 2 * (row_error[i] + error[j])
        self.hit[rows[i[most <= scaled[j]]]] = True
        is_open = ~self.hit[rows[i]]
        members, centres = rows[i[is_open]], j[is_open] + columns.start
        if len(members) > MANY and bounds.dtype == torch.float32:
            again = members.unique()
            a = self.members.part(again, torch.float64)
            b = self.centres.part(columns, torch.float64)
            self._look(lower_bounds(a, b), again, a.error, columns, b.error)
        else:
            self._sum(members, centres)

    def _sum(self, members: Tensor, centres: Tensor) -> None:
        """Decide pairs (P,) by d², one of each member at a time, until it is inside."""
        while len(members):
            first = torch.ones_like(members, dtype=torch.bool)
            first[1:] = members[1:] != members[:-1]
            i, j = members[first], centres[first]
            squares = squared_distances(self.members.features, i, self.centres.features, j)
            self.hit[i[squares <= self.squares[j]]] = True
            rest = ~first & ~self.hit[members]
            members, centres = members[rest], centres[rest]


def _above(squares: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers of a type that are not below those given in float64."""
    return squares.to(dtype).nextafter(torch.tensor(torch.inf, dtype=dtype, device=squares.device))


def _where(mask: Tensor, size: int) -> tuple[Tensor, ...]:
    """Places that are true, so many at a time."""
    places = mask.nonzero()[:, 0]
    return places.split(size) if len(places) else ()


def _sizes(features: Tensor) -> tuple[int, int]:
    return (ROWS, COLUMNS) if features.device.type == "cpu" else (GPU_ROWS, GPU_COLUMNS)


def _slices(stop: int, size: int, start: int = 0) -> Iterator[slice]:
    return (slice(i, min(i + size, stop)) for i in range(start, stop, size))

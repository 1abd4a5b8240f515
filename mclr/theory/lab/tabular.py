"""Worlds of tables: few points, few classes, every density an array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Share of p(x) in the base models of the lab, Eq. (18), where nothing else is said.
LEAK = 0.3


@dataclass(frozen=True, eq=False)
class World:
    """M classes over N points.

    ``prior`` is p(c), shape (M,); ``conditional`` is p(x|c), shape (M, N), each row sums to 1;
    ``inside`` marks the points of the compact set K of Assumption 1, shape (N,).
    """

    name: str
    prior: Array
    conditional: Array
    inside: Mask

    @property
    def marginal(self) -> Array:
        """p(x) = E_c p(x|c), shape (N,)."""
        return self.prior @ self.conditional

    def floor(self, delta: float) -> Array:
        """Assumption 2: the least p_θ(x|c) allowed, δ on K and 0 elsewhere, shape (N,)."""
        return np.where(self.inside, delta, 0.0)

    def mixed(self, share: float) -> Array:
        """Eq. (18): (1 − share) p(x|c) + share p(x), shape (M, N)."""
        return (1 - share) * self.conditional + share * self.marginal


def random_world(seed: int, points: int = 10, zeros: bool = False) -> World:
    """A world of 3 classes drawn with ``seed``; ``zeros`` empties about a third of each class.

    Without ``zeros`` every p(x|c) is at least 0.01 / N.
    """
    generator = np.random.default_rng(seed)
    prior = generator.dirichlet(np.full(3, 3.0))
    conditional = generator.dirichlet(np.full(points, 0.8), size=3)
    if zeros:
        conditional[:, 1:][generator.random((3, points - 1)) < 1 / 3] = 0.0
        conditional /= conditional.sum(axis=1, keepdims=True)
    else:
        conditional = 0.99 * conditional + 0.01 / points
    words = ", with empty points" if zeros else ""
    return World(
        f"random {points} points, 3 classes, seed {seed}{words}",
        prior,
        conditional,
        np.ones(points, dtype=bool),
    )


def holed_world() -> World:
    """Hand-made: disjoint classes, shared points, points in K that no class reaches, points not
    in K.
    """
    rows = [
        [4, 3, 2, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 2, 4, 3, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 6, 4, 0, 0],
    ]
    inside = np.array([True] * 9 + [False])
    prior = np.array([0.5, 0.4, 0.1])
    return World("hand-made 10 points, 3 classes, empty points", prior, np.array(rows) / 10, inside)


def line_world(points: int = 41) -> World:
    """Three overlapping humps on a line from −4 to 4, for figures."""
    x = np.linspace(-4, 4, points)
    humps = np.exp(-0.5 * ((x - np.array([[-1.2], [0.4], [1.6]])) / 0.9) ** 2)
    conditional = humps / humps.sum(axis=1, keepdims=True)
    return World(
        f"three humps on {points} points",
        np.array([0.4, 0.35, 0.25]),
        conditional,
        np.ones(points, dtype=bool),
    )


def proof_worlds() -> list[World]:
    """The worlds in which statements about any p are computed."""
    return [
        *(random_world(seed) for seed in (1, 2, 3)),
        *(random_world(seed, zeros=True) for seed in (4, 5)),
        holed_world(),
    ]


def positive_worlds() -> list[World]:
    """Worlds in which every class reaches every point."""
    return [random_world(seed) for seed in (1, 2, 3, 6, 7)]


def small_world() -> World:
    """The world of the costlier searches: six points, positive everywhere."""
    return random_world(1, points=6)


def total_variation(p: Array, q: Array) -> Array:
    """½ Σ_x |p − q| over the last axis."""
    return np.asarray(0.5 * np.abs(p - q).sum(axis=-1))


def divergence(p: Array, q: Array) -> Array:
    """D_KL(p‖q) over the last axis, in nats; infinite where q misses p."""
    return np.asarray(rel_entr(p, q).sum(axis=-1))

"""Gaussian mixtures: worlds whose density, score and denoiser are known at every noise level.

Everything is float64 NumPy; points have shape (..., d).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """Noise level of Eq. (143): x_t ~ N(s x, s² σ² I); s = 1 is the variance-exploding case.

    ``sigma`` is a number or one value per point (N,).
    """

    sigma: float | Array
    s: float = 1.0

    @property
    def variance(self) -> Array:
        """s² σ²: () or (N,)."""
        return np.asarray((self.s * np.asarray(self.sigma)) ** 2)


@dataclass(frozen=True)
class Mixture:
    """Σ_m weights_m N(means_m, variances_m I): weights (M,), means (M, d), variances (..., M)."""

    weights: Array
    means: Array
    variances: Array

    @property
    def d(self) -> int:
        return int(self.means.shape[-1])

    def at(self, level: Level) -> Mixture:
        """The distribution p_t of x_t; one per value of ``level.sigma``."""
        variances = level.s**2 * self.variances + level.variance[..., None]
        return Mixture(self.weights, level.s * self.means, variances)

    def log_parts(self, x: Array) -> Array:
        """log of each component's weighted density at x: (..., M)."""
        square = ((x[..., None, :] - self.means) ** 2).sum(-1)
        log_norm = self.d / 2 * np.log(2 * math.pi * self.variances)
        return np.asarray(np.log(self.weights) - log_norm - square / (2 * self.variances))

    def log_density(self, x: Array) -> Array:
        """log p(x): (...)."""
        return np.asarray(logsumexp(self.log_parts(x), axis=-1))

    def score(self, x: Array) -> Array:
        """∇ log p(x): (..., d)."""
        parts = softmax(self.log_parts(x), axis=-1) / self.variances
        return np.asarray((parts[..., None] * (self.means - x[..., None, :])).sum(-2))

    def denoise(self, y: Array, sigma: float | Array) -> Array:
        """E[x | x + σε = y]: each component's Gaussian regression under its posterior."""
        noisy = self.at(Level(sigma))
        responsibility = softmax(noisy.log_parts(y), axis=-1)
        gain = self.variances / noisy.variances
        parts = self.means + gain[..., None] * (y[..., None, :] - self.means)
        return np.asarray((responsibility[..., None] * parts).sum(-2))

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """n independent points (n, d)."""
        m = rng.choice(len(self.weights), size=n, p=self.weights)
        noise = rng.standard_normal((n, self.d))
        return np.asarray(self.means[m] + np.sqrt(self.variances[m])[:, None] * noise)


def mix(priors: Array, parts: tuple[Mixture, ...]) -> Mixture:
    """Σ_c priors_c parts_c as one mixture."""
    return Mixture(
        np.concatenate([prior * part.weights for prior, part in zip(priors, parts, strict=True)]),
        np.concatenate([part.means for part in parts]),
        np.concatenate([part.variances for part in parts]),
    )


@dataclass(frozen=True)
class World:
    """Classes p(x|c) with priors p(c) (C,)."""

    name: str
    priors: Array
    classes: tuple[Mixture, ...]

    @property
    def marginal(self) -> Mixture:
        """p(x) = Σ_c p(c) p(x|c)."""
        return mix(self.priors, self.classes)

    def others(self, c: int) -> Mixture:
        """p(x | not c)."""
        keep = [k for k in range(len(self.classes)) if k != c]
        weights = self.priors[keep] / self.priors[keep].sum()
        return mix(weights, tuple(self.classes[k] for k in keep))

    def log_likelihoods(self, x: Array, level: Level) -> Array:
        """log p_t(x|c) at every class: (..., C)."""
        return np.stack([part.at(level).log_density(x) for part in self.classes], axis=-1)


# Eq. (7)
def guided_score(positive: Mixture, negative: Mixture, x: Array, gamma: float) -> Array:
    """s⁺ + γ (s⁺ − s⁻) at x (..., d), of two distributions already at their noise level."""
    s_plus = positive.score(x)
    return np.asarray(s_plus + gamma * (s_plus - negative.score(x)))


def line() -> World:
    """Three overlapping classes in 1-D with unequal priors."""
    return World(
        "1-D mixture, 3 classes, priors 0.5/0.3/0.2",
        np.array([0.5, 0.3, 0.2]),
        (
            Mixture(np.array([0.6, 0.4]), np.array([[-1.4], [0.3]]), np.array([0.25, 0.16])),
            Mixture(np.array([0.5, 0.5]), np.array([[0.5], [1.8]]), np.array([0.2, 0.3])),
            Mixture(np.array([0.3, 0.7]), np.array([[-0.6], [2.2]]), np.array([0.16, 0.2])),
        ),
    )


def plane() -> World:
    """Three overlapping classes in 2-D."""
    return World(
        "2-D mixture, 3 classes, priors 0.4/0.35/0.25",
        np.array([0.4, 0.35, 0.25]),
        (
            Mixture(
                np.array([0.5, 0.5]), np.array([[-1.0, 0.2], [0.4, 0.9]]), np.array([0.2, 0.3])
            ),
            Mixture(
                np.array([0.7, 0.3]), np.array([[0.8, -0.5], [-0.3, -0.9]]), np.array([0.25, 0.2])
            ),
            Mixture(np.array([1.0]), np.array([[0.1, 0.1]]), np.array([0.4])),
        ),
    )


def ring(classes: int = 12) -> World:
    """Many classes: one Gaussian each, on a circle, neighbours overlapping."""
    angles = 2 * math.pi * np.arange(classes) / classes
    return World(
        f"2-D ring, {classes} classes, equal priors",
        np.full(classes, 1 / classes),
        tuple(
            Mixture(np.ones(1), np.array([[math.cos(a), math.sin(a)]]), np.array([0.09]))
            for a in angles
        ),
    )


def branches(depth: int = 3, beads: int = 6) -> World:
    """Two classes in 2-D, each a tree of thin bending branches; the trees mirror each other.

    They grow from one place and their inner branches cross. A branch is a string of ``beads``
    small Gaussians; at its end it forks into two shorter and thinner ones that carry half its
    weight each, ``depth`` generations in all.
    """
    right = _tree(depth, beads)
    left = Mixture(right.weights, right.means * np.array([-1.0, 1.0]), right.variances)
    return World("branching 2-D toy, 2 classes, equal priors", np.full(2, 0.5), (right, left))


def _tree(depth: int, beads: int) -> Mixture:
    weights, means, variances = [], [], []
    tips = [(np.array([0.0, -1.0]), 1.3, -0.2, 1.0)]
    for generation in range(depth):
        length, spread = 0.95 * 0.8**generation, 0.09 * 0.75**generation
        grown = []
        for at, heading, bend, weight in tips:
            for _ in range(beads):
                heading += bend / beads
                at = at + length / beads * np.array([math.cos(heading), math.sin(heading)])
                weights.append(weight / beads)
                means.append(at)
                variances.append(spread**2)
            grown += [(at, heading + turn, -turn / 2, weight / 2) for turn in (-0.65, 0.75)]
        tips = grown
    w = np.array(weights)
    return Mixture(w / w.sum(), np.array(means), np.array(variances))

"""Post-hoc EMA: weights averaged over any length of training, from stored averages.

Equation numbers are those of Karras et al. 2024 (arXiv 2312.02696), appendix C. Times are in any
unit (images, steps), the same for all; an averaging profile is named by its relative standard
deviation σ_rel ("std"). All profile arithmetic is float64.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mclr.errors import UserError
from mclr.training.schedules import ema_exponent

Array = NDArray[np.float64]

MAX_STD = 12**-0.5  # γ > 0 only below this width (after Eq. 126)
# Appendix C.5: widths whose reconstruction was found nearly perfect.
RECOMMENDED_STDS = (0.015, 0.250)
NO_SNAPSHOT = "post-hoc EMA: expected at least one snapshot; store them while training"


@dataclass(frozen=True)
class Snapshot:
    """A stored average of weights: safetensors file, time it was stored, its profile's std."""

    path: Path
    time: float
    std: float


# Eq. 123: σ_rel = sqrt((γ + 1) / ((γ + 2)² (γ + 3)))
def exponent_std(exponent: float) -> float:
    """σ_rel of the power-function average with exponent γ; the inverse of ``ema_exponent``."""
    return math.sqrt((exponent + 1) / ((exponent + 2) ** 2 * (exponent + 3)))


# Eq. 107 and 121: p_t(τ) ∝ τ^γ for τ ≤ t, 0 later
def response(times: ArrayLike, end: float, std: float) -> Array:
    """Share of the weights at each of ``times`` (T,) in the average at time ``end``; sums to 1."""
    tau = np.asarray(times, dtype=np.float64)
    share = np.where(tau <= end, (tau / end) ** ema_exponent(std), 0.0)
    return np.asarray(share / share.sum())


# Eq. 151: ⟨p_a, p_b⟩ = (γ_a + 1)(γ_b + 1)(t_a / t_b)^γ_b / ((γ_a + γ_b + 1) t_b) for t_a ≤ t_b
def inner_product(t_a: Array, std_a: Array, t_b: Array, std_b: Array) -> Array:
    """∫ p_a(τ) p_b(τ) dτ of power-function profiles; the arguments broadcast."""
    exponents = np.vectorize(ema_exponent, otypes=[np.float64])
    gamma_a, gamma_b = exponents(std_a), exponents(std_b)
    earlier, later = np.minimum(t_a, t_b), np.maximum(t_a, t_b)
    overlap = (earlier / later) ** np.where(t_a < t_b, gamma_b, gamma_a)
    scale = (gamma_a + 1) * (gamma_b + 1) / ((gamma_a + gamma_b + 1) * later)
    return np.asarray(scale * overlap)


# Eq. 141–143: A x = b, and the columns divided by their sum as in the official code
def solve_coefficients(
    in_times: ArrayLike, in_stds: ArrayLike, out_times: ArrayLike, out_stds: ArrayLike
) -> Array:
    """Least-squares weights (inputs, outputs) of the stored averages; every column sums to 1.

    in_times, in_stds: (inputs,); out_times, out_stds: (outputs,) or scalars.
    Raises UserError for an impossible profile, for two equal inputs, or for an output later than
    every input.
    """
    t_in, std_in = np.broadcast_arrays(*map(np.atleast_1d, (in_times, in_stds)))
    t_out, std_out = np.broadcast_arrays(*map(np.atleast_1d, (out_times, out_stds)))
    _check_profiles(t_in, std_in, "snapshot")
    _check_profiles(t_out, std_out, "target")
    pairs = list(zip(t_in.tolist(), std_in.tolist(), strict=True))
    if not pairs:
        raise UserError(NO_SNAPSHOT)
    if len(set(pairs)) < len(pairs):
        twice = next(pair for pair in pairs if pairs.count(pair) > 1)
        raise UserError(f"snapshot at time {twice[0]:g} with std {twice[1]:g} is given twice")
    if t_out.max() > t_in.max():
        raise UserError(
            f"target time {t_out.max():g} is later than the last snapshot, {t_in.max():g}; "
            "give later snapshots"
        )
    t, s = t_in.astype(np.float64)[:, None], std_in.astype(np.float64)[:, None]
    A = inner_product(t, s, t.T, s.T)
    B = inner_product(t, s, t_out.astype(np.float64)[None], std_out.astype(np.float64)[None])
    X = np.linalg.solve(A, B)
    return np.asarray(X / X.sum(axis=0))


def _check_profiles(times: NDArray[np.generic], stds: NDArray[np.generic], kind: str) -> None:
    for time, std in zip(times.tolist(), stds.tolist(), strict=True):
        if not 0 < std < MAX_STD:
            raise UserError(
                f"{kind} std {std}: a power-function average has 0 < std < {MAX_STD:.4f}; "
                f"choose {RECOMMENDED_STDS[0]} to {RECOMMENDED_STDS[1]}, as in the paper"
            )
        if not 0 < time < math.inf:
            raise UserError(f"{kind} time {time}: expected a positive number of images or steps")


# Eq. 129: θ* = Σ_i x_i θ_i
def reconstruct(
    snapshots: Sequence[Snapshot],
    std: float,
    *,
    time: float | None = None,
    copied: Collection[str] = (),
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Weights as if their average had had ``std`` all along, at ``time`` (None: last snapshot).

    Snapshots after ``time`` are left out. Files are read one after another, tensor by tensor, and
    added up in float32 in the order given, so memory holds one set of weights. Tensors named in
    ``copied`` (a network's buffers) and integers are those of the last file read; all others have
    type ``dtype``: float32, or float16 as in the official files.

    Raises UserError: impossible std or time, file missing or truncated or with other tensors.
    """
    times = sorted({snapshot.time for snapshot in snapshots})
    if not times:
        raise UserError(NO_SNAPSHOT)
    end = times[-1] if time is None else time
    if end not in times:
        stored = ", ".join(f"{t:g}" for t in times)
        raise UserError(f"target time {end:g}: there is no snapshot of it; choose one of {stored}")
    used = [snapshot for snapshot in snapshots if snapshot.time <= end]
    x = solve_coefficients([s.time for s in used], [s.std for s in used], end, std)[:, 0]
    total: dict[str, Tensor] = {}
    for snapshot, weight in zip(used, x.tolist(), strict=True):
        _add(total, snapshot.path, weight, copied, used[0].path)
    if unknown := set(copied) - total.keys():
        raise UserError(
            f"copied: {used[0].path} has no tensor {', '.join(sorted(unknown))}; it has "
            f"{', '.join(sorted(total))}"
        )
    return {
        name: value if name in copied or not value.is_floating_point() else value.to(dtype)
        for name, value in total.items()
    }


def _add(
    total: dict[str, Tensor], path: Path, weight: float, copied: Collection[str], first: Path
) -> None:
    """Add ``weight`` times the tensors of one file to ``total``, which it fills if empty."""
    if not path.is_file():
        raise UserError(f"{path}: snapshot is missing; train again or leave it out")
    try:
        with safe_open(path, framework="pt") as stored:
            names = set(stored.keys())
            if total and names != total.keys():
                odd = ", ".join(sorted(names ^ total.keys())[:3])
                raise UserError(
                    f"{path}: has other tensors than {first} ({odd}); give snapshots of one network"
                )
            for name in sorted(names):
                _add_tensor(total, name, stored.get_tensor(name), weight, name in copied, path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: snapshot is truncated or not safetensors ({error}); train again or leave it "
            "out"
        ) from None


def _add_tensor(
    total: dict[str, Tensor], name: str, value: Tensor, weight: float, copy: bool, path: Path
) -> None:
    if name in total and total[name].shape != value.shape:
        raise UserError(
            f"{path}: {name} has shape {tuple(value.shape)}, in the snapshots before "
            f"{tuple(total[name].shape)}; give snapshots of one network"
        )
    if copy or not value.is_floating_point():
        total[name] = value
    elif name in total:
        total[name] += value.float() * weight
    else:
        total[name] = value.float() * weight

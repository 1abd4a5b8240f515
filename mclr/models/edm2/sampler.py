"""EDM2 sampling: stochastic Heun solver and guidance.

Sources: Karras et al. 2022 (arXiv 2206.00364), Algorithm 2, with EDM2's defaults (32 steps, no
churn); guidance as in Eq. 7 of the MCLR paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mclr.errors import UserError

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x (N, C, H, W), sigma scalar or (N,)) -> denoised (N, C, H, W)."""
ConditionalDenoiser = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x, sigma, labels (N or 1, label_dim) or None) -> denoised; ``Precond`` is one."""


# Karras et al. 2022, Eq. 5
def time_steps(
    num_steps: int,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Noise levels from ``sigma_max`` down to ``sigma_min``, then 0: (num_steps + 1,).

    Computed in ``dtype``. Raises UserError unless num_steps >= 2 and 0 < sigma_min < sigma_max.
    """
    _check_steps(num_steps)
    if not 0 < sigma_min < sigma_max:
        raise UserError(
            f"sigma_min {sigma_min}, sigma_max {sigma_max}: expected 0 < sigma_min < sigma_max"
        )
    ramp = torch.arange(num_steps, dtype=dtype, device=device) / (num_steps - 1)
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    t = (top + ramp * (bottom - top)) ** rho
    return torch.cat([t, torch.zeros_like(t[:1])])


def _check_steps(num_steps: int) -> None:
    if num_steps < 2:
        raise UserError(f"num_steps {num_steps}: expected at least 2 sampling steps")


@torch.no_grad()
def heun_sample(
    denoise: Denoiser,
    noise: Tensor,
    *,
    num_steps: int = 32,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    S_churn: float = 0.0,
    S_min: float = 0.0,
    S_max: float = math.inf,
    S_noise: float = 1.0,
    randn: Callable[[Tensor], Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Integrate the probability-flow ODE (S_churn = 0) or its churned SDE from sigma_max to 0.

    noise: (N, C, H, W), unit variance. randn(x) returns fresh unit noise shaped like x; it is
    called once per churned step, in order. dtype: precision of the solver. Returns images
    (N, C, H, W) in ``dtype``. UserError: impossible schedule, or churn without ``randn``.
    """
    if S_churn > 0 and randn is None:
        raise UserError(f"S_churn {S_churn}: expected a randn function; pass one or use S_churn 0")
    # Made on the CPU: the same levels on every device.
    steps = time_steps(num_steps, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho, dtype=dtype)
    t = steps.to(noise.device)
    churn = min(S_churn / num_steps, math.sqrt(2) - 1)
    x = noise.to(dtype) * t[0]
    for i, level in enumerate(steps[:-1].tolist()):
        t_hat = t[i]
        if churn > 0 and S_min <= level <= S_max and randn is not None:
            t_hat = t[i] * (1 + churn)
            x = x + (t_hat**2 - t[i] ** 2).sqrt() * S_noise * randn(x).to(x)
        x = _heun_step(denoise, x, t_hat, t[i + 1], last=i == num_steps - 1)
    return x


# Karras et al. 2022, Algorithm 2, lines 7 to 11
def _heun_step(denoise: Denoiser, x: Tensor, t_hat: Tensor, t_next: Tensor, last: bool) -> Tensor:
    """One step from t_hat to t_next: Euler, then the trapezoidal correction unless last."""
    h = t_next - t_hat
    slope = (x - denoise(x, t_hat).to(x.dtype)) / t_hat
    x_next = x + h * slope
    if last:
        return x_next
    slope_next = (x_next - denoise(x_next, t_next).to(x.dtype)) / t_next
    return x + h * (0.5 * slope + 0.5 * slope_next)


# MCLR paper, Eq. 7, written for denoisers (score = (D - x) / sigma^2)
def guided_denoiser(
    net: ConditionalDenoiser,
    labels: Tensor | None,
    guidance: float,
    guide_net: ConditionalDenoiser | None = None,
    guide_labels: Tensor | None = None,
) -> Denoiser:
    """D + gamma (D - D_guide) with gamma = ``guidance``; EDM2's guidance scale is 1 + gamma.

    labels, guide_labels: (N or 1, label_dim), or None for the null label. Without ``guide_net``
    the guide is ``net`` itself, evaluated together with the condition in one batch of 2N rows.
    With gamma = 0 the result is ``net`` alone. Autoguidance passes its labels as ``guide_labels``.
    Raises UserError where the guide would equal the net (no guide_net and no labels).
    """
    if guidance == 0:
        return lambda x, sigma: net(x, sigma, labels)
    if guide_net is not None:
        guide = guide_net

        def from_two_nets(x: Tensor, sigma: Tensor) -> Tensor:
            d_c = net(x, sigma, labels)
            return torch.lerp(guide(x, sigma, guide_labels), d_c, 1 + guidance)

        return from_two_nets
    if labels is None:
        raise UserError(
            f"guidance {guidance}: expected labels or a guide_net; a net without labels cannot "
            "guide itself, use guidance 0"
        )
    null = torch.zeros_like(labels) if guide_labels is None else guide_labels

    def from_one_net(x: Tensor, sigma: Tensor) -> Tensor:
        n = x.shape[0]
        rows = torch.cat([labels.expand(n, -1), null.expand(n, -1)])
        both = net(torch.cat([x, x]), sigma.expand(n).repeat(2), rows)
        d_c, d_guide = both.chunk(2)
        return torch.lerp(d_guide, d_c, 1 + guidance)

    return from_one_net


# Kynkäänniemi et al. 2024 (arXiv 2404.07724): guidance where it helps, none elsewhere.
def within_interval(guided: Denoiser, plain: Denoiser, interval: tuple[float, float]) -> Denoiser:
    """``guided`` at noise levels in [low, high], ``plain`` at all others.

    For samplers that give one level for the whole batch.
    """
    low, high = interval
    return lambda x, sigma: (guided if low <= float(sigma) <= high else plain)(x, sigma)

"""Sampling by a scheduler of diffusers, step by step as its pipelines do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mclr.errors import UserError
from mclr.models.diffusers.architecture import Scheduler
from mclr.models.diffusers.network import Denoiser, levels_of, make_scheduler

Predict = Callable[[Tensor, Tensor, float], Tensor]
"""(x_t as the network sees it (N, …), times (N,), σ) -> prediction (N, …)."""


def guided_prediction(
    net: Denoiser,
    labels: Tensor,
    null: Tensor,
    guidance: float,
    guide: Denoiser | None = None,
    interval: tuple[float, float] | None = None,
) -> Predict:
    """Predictions o + γ (o − o_guide), which is guidance of denoisers: they are linear in o.

    labels, null: (N,). Without ``guide`` the null label guides, both in one pass of 2N rows.
    Outside of ``interval`` there is no guidance. diffusers' ``guidance_scale`` is 1 + γ.
    """
    both = torch.cat([labels, null])

    def predict(seen: Tensor, time: Tensor, sigma: float) -> Tensor:
        if guidance == 0 or (interval and not interval[0] <= sigma <= interval[1]):
            return net.predict(seen, time, labels)
        if guide:
            weak = guide.predict(seen, time, labels)
            return torch.lerp(weak, net.predict(seen, time, labels), 1 + guidance)
        out = net.predict(torch.cat([seen, seen]), time.repeat(2), both)
        conditional, unconditional = out.chunk(2)
        return torch.lerp(unconditional, conditional, 1 + guidance)

    return predict


@torch.no_grad()
def scheduler_sample(
    scheduler: Scheduler,
    num_steps: int,
    predict: Predict,
    seeds: Sequence[int],
    shape: Sequence[int],
    device: torch.device,
) -> Tensor:
    """Samples x (N, *shape), float32; what is random of sample i depends on its own seed.

    A seed is a generator of its own, from which the first noise comes and then that of the steps:
    as in diffusers' pipelines with a list of generators.
    """
    made = make_scheduler(scheduler)
    levels = _set_steps(made, scheduler, num_steps)
    generators = [torch.Generator().manual_seed(seed % 2**32) for seed in seeds]
    noise = [torch.randn((1, *shape), generator=generator) for generator in generators]
    x = torch.cat(noise) * float(getattr(made, "init_noise_sigma", 1.0))
    x, told = x.to(device), dict[str, Any](return_dict=False)
    if "generator" in inspect.signature(made.step).parameters:
        told |= {"generator": generators}
    scale = getattr(made, "scale_model_input", lambda x, t: x)
    for t, sigma in zip(made.timesteps, levels, strict=True):
        time = t.float().expand(len(x)).to(device)
        x = made.step(predict(scale(x, t), time, sigma), t, x, **told)[0]
    return x.float()


def _set_steps(made: Any, scheduler: Scheduler, num_steps: int) -> list[float]:
    """Tell diffusers' scheduler its number of steps; gives their σ."""
    try:
        made.set_timesteps(num_steps)
    except ValueError as error:
        raise UserError(f"sampler.num_steps {num_steps}: {error}") from None
    if len(made.timesteps) != num_steps:
        raise UserError(
            f"sampler.num_steps {num_steps}: {scheduler.name} takes {len(made.timesteps)} "
            "evaluations for it; choose another number or scheduler"
        )
    found: list[float] = levels_of(scheduler).sigma_of(made.timesteps.float()).tolist()
    return found

"""The gradient of one optimiser step: micro-batches added up, then processes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mclr.objectives.loss import Loss


def accumulate(losses: Iterable[Loss]) -> dict[str, Tensor]:
    """Back-propagate losses one by one, so that one graph lives at a time; the sums of all terms.

    The gradients add up in the parameters' ``.grad``; the result holds ``loss`` and every term,
    as float64 scalars on the device of the loss.
    """
    totals: dict[str, Tensor] = {}
    for part in losses:
        part.value.backward()
        loss = part.value.detach()
        for name, value in {"loss": loss, **part.terms}.items():
            term = torch.as_tensor(value, dtype=torch.float64, device=loss.device)
            totals[name] = term.detach() + totals.get(name, 0.0)
    return totals


def sum_over_processes(net: nn.Module, totals: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add gradients and terms of all processes of the default group; all then hold the sums.

    Does nothing without a process group. Terms must have the same names in every process.
    """
    if not dist.is_initialized():
        return totals
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))
    names = sorted(totals)
    values = torch.stack([totals[name] for name in names])
    dist.all_reduce(values)
    return dict(zip(names, values, strict=True))

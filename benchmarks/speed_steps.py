"""Optimiser steps, the library's and a plain network's, as functions that do one per call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from plain_edm2 import PlainConv, normalize
from torch import Tensor, nn

from mclr.training.gradient import accumulate
from mclr.training.loop import Trainee
from mclr.training.schedules import update_ema

LR = 1e-4
Run = Callable[[], Any]


def stepper(trainee: Trainee) -> Run:
    """Optimiser steps of the library, one per call."""
    for group in trainee.optimizer.param_groups:
        group["lr"] = LR
    steps = iter(range(1, 10**6))

    def step() -> None:
        number = next(steps)
        trainee.optimizer.zero_grad(set_to_none=True)
        accumulate(trainee.losses(number))
        trainee.optimizer.step()
        if trainee.ema is not None:
            update_ema(trainee.ema, trainee.net, number, trainee.ema_std)
        trainee.after_step(trainee.net)

    return step


def plain_stepper(
    net: nn.Module, loss: Callable[[int], Tensor], ema: nn.Module | None = None
) -> Run:
    """Optimiser steps with a plain network, one per call."""
    optimizer = torch.optim.Adam(net.parameters(), lr=LR, betas=(0.9, 0.99))
    steps = iter(range(1, 10**6))

    def step() -> None:
        number = next(steps)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss(number))
        optimizer.step()
        if ema is not None:
            update_ema(ema, net, number, 0.1)
        with torch.no_grad():
            for layer in net.modules():
                if isinstance(layer, PlainConv):
                    layer.weight.copy_(normalize(layer.weight, tuple(range(1, layer.weight.ndim))))

    return step

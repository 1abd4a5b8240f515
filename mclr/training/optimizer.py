"""The optimiser of a fine-tuning run, by its section ``optimizer``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mclr.device import fused
from mclr.models.family import Family
from mclr.settings.optimizer import Optimizer
from mclr.training.trainee import DECAYS


def make_optimizer(family: Family, net: nn.Module, how: Optimizer) -> torch.optim.Optimizer:
    """Adam or AdamW over all parameters; with weight decay, those that it spares apart."""
    groups: Any = net.parameters()
    if how.weight_decay or how.weight_decay_final:
        named = list(net.named_parameters())
        groups = [
            {"params": [p for name, p in named if family.decays(name, p) == decays], DECAYS: decays}
            for decays in (True, False)
        ]
        groups = [group for group in groups if group["params"]]
    # Weight decay is set at every step, where there is any.
    kind: Any = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[how.name]
    made: torch.optim.Optimizer = kind(
        groups, betas=how.betas, weight_decay=0.0, fused=fused(family.device)
    )
    return made

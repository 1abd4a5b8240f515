"""torch.compile for the parts of a network where its time goes."""

from __future__ import annotations

from torch import nn


def compile_(net: nn.Module) -> None:
    """Compile, in place, the modules of ``net`` that say they are ``compilable``.

    Weights and their names stay as they are; copies of ``net`` are not compiled. The first pass of
    each kind (with or without gradient, of each shape) compiles, which takes a minute or more for
    a large network. Results differ by rounding.
    """
    for module in net.modules():
        if getattr(module, "compilable", False):
            module.compile()

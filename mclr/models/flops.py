"""Cost of the networks, counted operation by operation without computing anything.

The unit is the multiply-add of matrix products and convolutions, which the papers call a flop;
normalisation, activations and other operations per element are left out (1 % of EDM2).
Tensors are fake: they have shapes but no memory, so the largest preset is counted on a laptop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.precond import Precond
from mclr.models.var.config import VarConfig
from mclr.models.var.network import Var

Net = TypeVar("Net", bound=nn.Module)


def evaluation_flops(config: Edm2Network | VarConfig, batch: int = 1) -> int:
    """Multiply-adds of one forward pass over ``batch`` images.

    EDM2: one call of the denoiser; sampling makes 2 num_steps − 1 of them. VAR: the
    teacher-forced pass over the tokens of all scales that gives the likelihood.
    """
    if isinstance(config, Edm2Network):
        return _edm2_flops(config, batch)

    def evaluate(net: Var) -> None:
        inputs = net.config.length - net.config.first_length
        labels = torch.zeros(batch, dtype=torch.int64)
        net(labels, torch.zeros(batch, inputs, net.config.z_channels))

    return _var_flops(config, evaluate)


def generation_flops(config: VarConfig, batch: int = 1, *, cached: bool = True) -> int:
    """Multiply-adds of VAR's transformer for generating ``batch`` images without guidance.

    cached: keys and values of coarser scales are kept, as ``var_sample`` does; without, every
    scale evaluates all tokens up to its own. Guidance doubles either.
    """
    scales = len(config.patch_nums)

    def generate(net: Var, count: int = scales) -> None:
        labels, caches = torch.zeros(batch, dtype=torch.int64), net.new_caches()
        for si, (begin, end) in enumerate(net.spans[:count]):
            shape = (batch, end - begin, net.config.z_channels)
            net.scale_logits(si, labels, torch.zeros(shape) if si else None, caches)

    if cached:
        return _var_flops(config, generate)
    total = _var_flops(config, lambda net: generate(net, 1))
    for count in range(2, scales + 1):
        coarser = config.model_copy(update={"patch_nums": config.patch_nums[:count]})
        total += evaluation_flops(coarser, batch)
    return total


def _edm2_flops(config: Edm2Network, batch: int) -> int:
    def evaluate(net: Precond) -> None:
        x = torch.zeros(batch, config.img_channels, config.img_resolution, config.img_resolution)
        net(x, torch.ones(batch), torch.zeros(batch, config.label_dim))

    return _count(lambda: Precond(config), evaluate)


def _var_flops(config: VarConfig, evaluate: Callable[[Var], None]) -> int:
    """All blocks are alike, so depths 1 and 2 tell the cost of any."""
    one, two = (
        _count(
            lambda depth=depth: Var(  # type: ignore[misc]
                config.model_copy(
                    update={"depth": depth, "embed_dim": config.width, "num_heads": config.heads}
                )
            ),
            evaluate,
        )
        for depth in (1, 2)
    )
    return one + (config.depth - 1) * (two - one)


def _count(make: Callable[[], Net], evaluate: Callable[[Net], None]) -> int:
    """Multiply-adds of ``evaluate`` on the network that ``make`` makes."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        net = make().eval().requires_grad_(False)
    shapes = {name: (value.shape, value.dtype) for name, value in net.state_dict().items()}
    # Not the meta device itself, for which torch has no autocast. Plain attention, since the
    # counter does not know the fused one of CPUs.
    counter = FlopCounterMode(display=False)
    with FakeTensorMode(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        state = {name: torch.empty(size, dtype=kind) for name, (size, kind) in shapes.items()}
        net.load_state_dict(state, assign=True)
        with counter:
            evaluate(net)
    return int(counter.get_total_flops()) // 2

"""Compiled networks compute what plain ones do, under the names that checkpoints have."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mclr.likelihood.masks import Masks
from mclr.models.compiled import compile_
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.operations import mp_sum
from mclr.models.edm2.precond import Precond, build
from mclr.models.var.config import VarConfig
from mclr.models.var.network import Var
from mclr.training.share import Share


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    torch.compiler.reset()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Compiles without a C++ compiler: the graphs are traced as ever, and run as they are."""
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    plain = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda self: plain(self, backend=backend, fullgraph=True)
    )
    return graphs


def edm2() -> tuple[Precond, tuple[Tensor, ...]]:
    config = Edm2Network(
        img_resolution=8, img_channels=1, label_dim=3, model_channels=8, channel_mult=(1, 2),
        num_blocks=1, attn_resolutions=(4,), channels_per_head=4,
    )  # fmt: skip
    net = build(config, torch.Generator().manual_seed(0)).train()
    with torch.no_grad():
        for gain in (p for p in net.parameters() if p.ndim == 0):
            gain.fill_(0.5)
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return net, (x, torch.tensor([0.1, 1.0, 5.0]), torch.eye(3))


def var() -> tuple[Var, tuple[Tensor, ...]]:
    config = VarConfig(
        depth=2, num_classes=3, patch_nums=(1, 2), vocab_size=16, z_channels=4, num_heads=2
    )
    net = Var.build(config, torch.Generator().manual_seed(0)).train()
    tokens = torch.randint(16, (3, 5), generator=torch.Generator().manual_seed(1))
    inputs = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(2))
    return net, (torch.tensor([0, 1, 2]), tokens, inputs)


def loss_of(net: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    out: Tensor = net.log_likelihood(*inputs) if isinstance(net, Var) else net(*inputs)
    return out.square().sum()


def gradients(net: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    net.zero_grad()
    loss_of(net, inputs).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("make", [edm2, var])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_compiled_network_computes_the_same(
    make: Any, checkpointing: bool, traced: list[Any]
) -> None:
    net, inputs = make()
    names, expected = list(net.state_dict()), gradients(net, inputs)
    Share(checkpointing=checkpointing).prepare(net)
    gradients(net, inputs)
    assert traced == []  # nothing is compiled unless it is asked for
    Share(checkpointing=checkpointing, compiled=True).prepare(net)
    found = gradients(net, inputs)
    assert len(traced) >= 1
    assert list(net.state_dict()) == names
    assert found.keys() == expected.keys() and len(found) > 20
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5 * value.abs().max())


@pytest.mark.parametrize("make", [edm2, var])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_masks_of_dropout_are_the_same_compiled(
    make: Any, checkpointing: bool, traced: list[Any]
) -> None:
    net, inputs = make()
    masks, draws = Masks(torch.tensor([5, 7, 11]), 0.4), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():  # a new VAR's branches are almost closed
            p.add_(0.3 * torch.randn(p.shape, generator=draws))
    call = net.log_likelihood if isinstance(net, Var) else net

    def values() -> Tensor:
        out: Tensor = call(*inputs, masks=masks)
        return out

    expected = values()
    assert not torch.allclose(expected, call(*inputs))
    Share(checkpointing=checkpointing, compiled=True).prepare(net)
    found = values()
    assert len(traced) >= 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_snapshot_is_compiled_on_its_own(traced: list[Any]) -> None:
    net, inputs = edm2()
    with torch.no_grad():
        expected = net.eval()(*inputs)
        fixed = net.frozen()
        compile_(fixed)
        torch.testing.assert_close(fixed(*inputs), expected, rtol=1e-4, atol=1e-5)
        assert len(traced) == 1
        net(*inputs)
        assert len(traced) == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on CPUs")
def test_a_compiled_sum_keeps_its_share() -> None:
    """Inductor makes a sum with alpha and a product one addmm, and loses alpha."""

    def embed(a: Tensor, b: Tensor, w: Tensor) -> Tensor:
        return mp_sum(a, nn.functional.linear(b, w), 0.3)

    a, b, w = (torch.randn(8, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    torch.testing.assert_close(torch.compile(embed)(a, b, w), embed(a, b, w))

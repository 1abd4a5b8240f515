"""What makes EDM2 fast changes no result: fixed weights, memory layout, number types."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny import TINY
from torch import Tensor, nn

from mclr.data.load import Manifest, step_generator
from mclr.errors import UserError
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.family import Edm2Family
from mclr.models.edm2.network import Block
from mclr.models.edm2.precond import Frozen, Precond, build
from mclr.models.families import make_family
from mclr.models.family import Family
from mclr.models.spec import ModelSpec
from mclr.training.share import Share

CONFIG = Edm2Network(
    img_resolution=8, img_channels=2, label_dim=3, model_channels=16, channel_mult=(1, 2),
    num_blocks=1, attn_resolutions=(4,), channels_per_head=16, dropout=0.2,
)  # fmt: skip


def lively(net: nn.Module) -> nn.Module:
    """Gains as after training, so that every layer reaches the output."""
    for name, parameter in net.named_parameters():
        if name.endswith("gain"):
            nn.init.constant_(parameter, 0.7)
    return net


@pytest.fixture
def net() -> Precond:
    found = build(CONFIG, step_generator(1))
    lively(found)
    return found.eval()


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(6, 2, 8, 8, generator=step_generator(2))
    return x, torch.linspace(0.05, 3, 6), torch.eye(3).repeat(2, 1)


# --- fixed weights ------------------------------------------------------------------------------


def test_frozen_is_the_network(net: Precond, inputs: Any) -> None:
    frozen = net.frozen()
    for found, expected in zip(
        frozen(*inputs, return_logvar=True), net(*inputs, return_logvar=True), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        net.frozen(torch.bfloat16)(*inputs), net(*inputs, dtype=torch.bfloat16), rtol=0, atol=0.02
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_gradients_the_bits_are_the_same(
    net: Precond, inputs: Any, dtype: torch.dtype
) -> None:
    """Though less memory is touched then; nor does a pass change what it was given."""
    before = [tensor.clone() for tensor in inputs]
    with torch.no_grad():
        found, again = net(*inputs, dtype=dtype), net(*inputs, dtype=dtype)
    assert torch.equal(found, net(*inputs, dtype=dtype)) and torch.equal(found, again)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


def test_frozen_is_a_picture_of_one_moment(net: Precond, inputs: Any) -> None:
    frozen = net.frozen()
    before = frozen(*inputs)
    for parameter in net.parameters():
        nn.init.normal_(parameter, generator=step_generator(9))
    assert torch.equal(frozen(*inputs), before)
    assert not torch.allclose(net(*inputs), before, atol=0.1)
    torch.testing.assert_close(net.frozen()(*inputs), net(*inputs), rtol=1e-4, atol=1e-5)


def test_frozen_cannot_be_trained(net: Precond, inputs: Any) -> None:
    weights = copy.deepcopy(net.state_dict())
    frozen = net.train().frozen().train()
    assert not list(frozen.parameters()) and not frozen(*inputs).requires_grad
    assert torch.equal(frozen(*inputs), frozen(*inputs)), "no dropout"
    assert net.training and all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())


# --- memory layout and number types -------------------------------------------------------------


def test_memory_layout_of_the_input_is_no_matter(net: Precond, inputs: Any) -> None:
    x, sigma, labels = inputs
    last = x.contiguous(memory_format=torch.channels_last)
    found, expected = net(last, sigma, labels), net(x, sigma, labels)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_gradients_in_bfloat16_point_the_same_way(net: Precond, inputs: Any) -> None:
    def gradient(dtype: torch.dtype) -> Tensor:
        net.zero_grad()
        net(*inputs, dtype=dtype).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

    low, full = gradient(torch.bfloat16), gradient(torch.float32)
    assert low.dtype == torch.float32
    assert nn.functional.cosine_similarity(low, full, dim=0) > 0.999
    assert (low - full).norm() < 0.03 * full.norm()


# --- the family ---------------------------------------------------------------------------------


def family(precision: str | None) -> Family:
    """As a job makes it; None: as it is made without a specification."""
    section, manifest = TINY["models"]["edm2"], Manifest(1, 8, 3, (), {})
    network, told = section["network"] | {"model_channels": 16}, {"precision": precision}
    told |= {key: section[key] for key in ("noise", "sampler")}
    if precision is None:
        return Edm2Family(network, manifest, told["noise"], told["sampler"])
    told["network"] = network | {"family": "edm2"}
    return make_family(ModelSpec.model_validate(told), manifest)


LABELS, SEEDS = torch.tensor([0, 1, 2, 3]), [4, 5, 6, 7]


def images(precision: str | None, guidance: float) -> Tensor:
    found = family(precision)
    return found.generate(lively(found.build(step_generator(1))), SEEDS, LABELS, guidance)


def test_precision_of_the_family_reaches_samples_and_likelihoods() -> None:
    usual = family(None)
    net = lively(usual.build(step_generator(1)))
    x = torch.randn(4, 1, 8, 8, generator=step_generator(2))
    draw = usual.draw(x, step_generator(3))
    full = usual.log_likelihood(net, x, LABELS, draw)
    assert torch.equal(family("float32").log_likelihood(net, x, LABELS, draw), full)
    low = family("bfloat16").log_likelihood(net, x, LABELS, draw)
    assert low.dtype == torch.float32
    error = ((low - full) / full).abs().max().item()
    assert 0 < error < 2 * 2**-7
    loss = family("bfloat16").base_loss(net, x, LABELS, draw)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(usual.base_loss(net, x, LABELS, draw).item(), rel=2**-7)


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_samples_in_bfloat16_stay_close(guidance: float) -> None:
    full, low = images(None, guidance), images("bfloat16", guidance)
    assert torch.equal(images("float32", guidance), full) and low.dtype == torch.float32
    error = (low - full).norm() / full.norm()
    assert 0 < error < 0.03


def test_generation_follows_the_weights() -> None:
    """Fixed weights live for one call."""
    found = family(None)
    net = lively(found.build(step_generator(1)))
    before = found.generate(net, SEEDS, LABELS, 0.0)
    assert torch.equal(found.generate(net, SEEDS, LABELS, 0.0), before)
    nn.init.normal_(next(net.parameters()), generator=step_generator(9))
    lively(net).get_parameter("unet.out_gain").data.mul_(2)
    assert not torch.allclose(found.generate(net, SEEDS, LABELS, 0.0), before, atol=1e-2)


def test_frozen_network_stands_for_the_network() -> None:
    found = family("bfloat16")
    net = lively(found.build(step_generator(1)))
    frozen = found.frozen(net)
    assert isinstance(frozen, Frozen) and frozen.dtype == torch.bfloat16
    assert found.frozen(frozen) is frozen
    x = torch.randn(4, 1, 8, 8, generator=step_generator(2))
    draw = found.draw(x, step_generator(3))
    expected = found.log_likelihood(net, x, LABELS, draw)
    value = found.log_likelihood(frozen, x, LABELS, draw)
    torch.testing.assert_close(value, expected, rtol=2**-7, atol=0)
    assert not value.requires_grad and math.isfinite(value.sum().item())
    again = found.generate(frozen, SEEDS, LABELS, 0.0)
    assert torch.equal(again, found.generate(net, SEEDS, LABELS, 0.0))


def test_unknown_precision_is_explained() -> None:
    with pytest.raises(ValidationError, match="'float32', 'bfloat16', 'float16' or 'auto'"):
        family("float8")
    network = TINY["models"]["edm2"]["network"]
    with pytest.raises(UserError, match=r"float8.*auto, float32, bfloat16, float16"):
        Edm2Family(network, Manifest(1, 8, 3, (), {}), None, None, "float8")
    assert isinstance(family("auto"), Edm2Family)


# --- activations computed again ------------------------------------------------------------------


def gradients(checkpointing: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Tensor], int]:
    """Gradients of a loss with dropout and attention; how often a block was computed."""
    config = Edm2Network(
        img_resolution=8, img_channels=1, label_dim=3, model_channels=8, channel_mult=(1, 2),
        num_blocks=1, attn_resolutions=(8, 4), channels_per_head=4, dropout=0.3,
    )  # fmt: skip
    net, calls = lively(build(config, step_generator(1))).train(), []
    Share(checkpointing=checkpointing).prepare(net)
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", lambda *args: calls.append(0) or forward(*args))
    x = torch.randn(4, 1, 8, 8, generator=step_generator(2))
    labels = nn.functional.one_hot(torch.tensor([0, 1, 2, 0]), 3).float()
    torch.manual_seed(0)
    net(x, torch.tensor([0.1, 0.5, 1.0, 5.0]), labels).square().sum().backward()
    monkeypatch.undo()
    return [p.grad for p in net.parameters() if p.grad is not None], len(calls)


def test_checkpointing_gives_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, once = gradients(False, monkeypatch)
    again, twice = gradients(True, monkeypatch)
    assert twice == 2 * once > 0 and len(again) == len(plain) > 20
    assert all(torch.equal(a, b) for a, b in zip(again, plain, strict=True))


def test_nothing_is_computed_again_without_a_gradient(net: Precond, inputs: Any) -> None:
    net.unet.checkpointing = True
    with torch.no_grad():
        found = net(*inputs)
        net.unet.checkpointing = False
        assert torch.equal(found, net(*inputs))

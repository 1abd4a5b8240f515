"""The library's EDM2 equals the plain one: outputs, gradients, losses and samples."""

from __future__ import annotations

from typing import Any

import plain_steps as plain
import pytest
import torch
from plain_edm2 import PlainPrecond
from tiny import TINY
from torch import Tensor, nn

from mclr.data.load import Manifest, step_generator
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.family import Edm2Family
from mclr.models.edm2.precond import Precond, build
from mclr.models.families import make_family
from mclr.models.seeded import seeded_noise
from mclr.models.spec import ModelSpec
from mclr.objectives.loss import Batch

NETWORKS: dict[str, dict[str, Any]] = {
    "equal widths": {"channel_mult": (1, 1), "attn_resolutions": ()},
    "attention and other balances": {
        "channel_mult": (1, 2),
        "attn_resolutions": (4,),
        "channels_per_head": 8,
        "num_blocks": 2,
        "label_balance": 0.4,
        "concat_balance": 0.3,
        "res_balance": 0.2,
        "attn_balance": 0.6,
    },
    "clipped": {"channel_mult": (1,), "attn_resolutions": (), "clip_act": 1.0},
}


def pair(**changes: Any) -> tuple[Precond, PlainPrecond]:
    """A network in float32 and the plain one in float64, with the same weights."""
    data = {"img_resolution": 8, "img_channels": 2, "label_dim": 3}
    net = build(Edm2Network(model_channels=16, **data, **changes), step_generator(1))
    for name, parameter in net.named_parameters():
        if name.endswith("gain"):
            nn.init.constant_(parameter, 0.7)
    yardstick = PlainPrecond(net.config).double()
    yardstick.load_state_dict(net.state_dict())
    return net, yardstick


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(6, 2, 8, 8, generator=step_generator(2))
    return x, torch.rand(6, generator=step_generator(3)) * 2 + 0.05, torch.eye(3).repeat(2, 1)


def assert_near(found: Tensor, expected: Tensor, share: float) -> None:
    """Within ``share`` of the largest expected value."""
    error = (found.double() - expected).abs().max().item()
    assert error <= share * expected.abs().max().item()


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients(name: str) -> None:
    net, yardstick = pair(**NETWORKS[name])
    x, sigma, labels = inputs()
    x.requires_grad_()
    wide = x.detach().double().requires_grad_()
    found = net(x, sigma, labels)
    expected = yardstick(wide, sigma.double(), labels.double())
    assert_near(found, expected, 2e-6)
    found.square().sum().backward()
    expected.square().sum().backward()
    assert x.grad is not None and wide.grad is not None
    assert_near(x.grad, wide.grad, 5e-6)
    gradients = dict(yardstick.named_parameters())
    unused = {"logvar_linear.weight"}
    for key, parameter in net.named_parameters():
        grad = gradients[key].grad
        if key not in unused:
            assert grad is not None and parameter.grad is not None
            # A gain's gradient is one sum of many terms of both signs.
            assert_near(parameter.grad, grad, 5e-6 if grad.ndim else 2e-4)


def test_clip_is_reached() -> None:
    """Or the case "clipped" above would not test the clip."""
    net, _ = pair(**NETWORKS["clipped"])
    free, _ = pair(**NETWORKS["clipped"] | {"clip_act": 256.0})
    assert not torch.allclose(net(*inputs()), free(*inputs()), rtol=0.01)


@pytest.fixture
def family() -> Edm2Family:
    section = TINY["models"]["edm2"]
    content = {key: section[key] for key in ("noise", "sampler")} | {"precision": "float32"}
    content["network"] = {"family": "edm2", **section["network"], "model_channels": 8}
    found = make_family(ModelSpec.model_validate(content), Manifest(1, 8, 3, (), {}))
    assert isinstance(found, Edm2Family)
    return found


@pytest.fixture
def nets(family: Edm2Family) -> tuple[Precond, PlainPrecond]:
    net = build(family.config, step_generator(1))
    for name, parameter in net.named_parameters():
        if name.endswith("gain"):
            nn.init.constant_(parameter, 0.7)
    yardstick = PlainPrecond(net.config)
    yardstick.load_state_dict(net.state_dict())
    return net, yardstick


def batch_of(family: Edm2Family) -> Batch:
    x = torch.randn(5, 1, 8, 8, generator=step_generator(4))
    return Batch(x, torch.tensor([0, 1, 2, 3, 1]), family.draw(x, step_generator(5)))


def test_likelihood_and_base_loss(family: Edm2Family, nets: tuple[Precond, PlainPrecond]) -> None:
    (net, yardstick), batch = nets, batch_of(family)
    ell = plain.denoising_ell(yardstick, 3, 0.5)
    found = family.log_likelihood(net, batch.x, batch.labels, batch.draw)
    torch.testing.assert_close(found, ell(batch.x, batch.labels, batch.draw), rtol=1e-5, atol=1e-4)
    loss = family.base_loss(net, batch.x, batch.labels, batch.draw)
    torch.testing.assert_close(loss, plain.dsm(yardstick, batch, 3, 0.5), rtol=1e-5, atol=0)


@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_samples(family: Edm2Family, nets: tuple[Precond, PlainPrecond], guidance: float) -> None:
    (net, yardstick), seeds = nets, [3, 4, 5]
    assert family.sampler is not None
    labels = torch.tensor([0, 1, 2])
    found = family.generate(net, seeds, labels, guidance)
    schedule = family.sampler.model_dump(exclude={"S_churn"})
    expected = plain.heun(
        yardstick, seeded_noise(seeds, family.shape), torch.eye(3), guidance, **schedule
    )
    # Both in float32, in which an untrained network and the guidance spread rounding errors.
    assert_near(found, expected, 5e-5)

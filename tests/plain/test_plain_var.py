"""The library's VAR equals the plain one: likelihoods and gradients in float64, and tokens."""

from __future__ import annotations

import pytest
import torch
from plain_var import PlainVar, plain_var_sample
from torch import nn

from mclr.data.load import step_generator
from mclr.models.seeded import seeded_uniforms
from mclr.models.var.config import VarConfig, VqvaeConfig
from mclr.models.var.network import Var
from mclr.models.var.sampler import var_sample
from mclr.models.var.vqvae import Vqvae

SCALES = (1, 2, 4)
CONFIG = VarConfig(
    depth=2, embed_dim=24, num_heads=3, num_classes=3, patch_nums=SCALES, vocab_size=16,
    z_channels=4,
)  # fmt: skip


def pair(dtype: torch.dtype) -> tuple[Var, PlainVar]:
    """Two networks of the same weights, large enough for every part to matter."""
    net = Var.build(CONFIG, step_generator(1))
    for i, parameter in enumerate(net.parameters()):
        nn.init.normal_(parameter, std=0.3, generator=step_generator(2, i))
    yardstick = PlainVar(CONFIG)
    yardstick.load_state_dict(net.state_dict())
    return net.to(dtype), yardstick.to(dtype)


# float64 takes the matrix product, float32 the convolution that stands for it.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_likelihood_and_gradients(dtype: torch.dtype, tolerance: float) -> None:
    net, yardstick = pair(dtype)
    labels, length = torch.tensor([0, 1, 2, 3]), CONFIG.length
    tokens = torch.randint(16, (4, length), generator=step_generator(3))
    inputs = torch.randn(4, length - 1, 4, generator=step_generator(4), dtype=dtype)
    found = net.log_likelihood(labels, tokens, inputs)
    expected = yardstick.log_likelihood(labels, tokens, inputs)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)
    torch.autograd.backward(found.sum())
    torch.autograd.backward(expected.sum())
    gradients = dict(yardstick.named_parameters())
    for name, parameter in net.named_parameters():
        grad = gradients[name].grad
        assert grad is not None and parameter.grad is not None
        error = (parameter.grad - grad).abs().max()
        assert error <= tolerance * grad.abs().max(), name


@pytest.mark.parametrize("cfg", [0.0, 1.5])
def test_tokens(cfg: float) -> None:
    net, yardstick = pair(torch.float32)
    codes = VqvaeConfig(
        vocab_size=16, z_channels=4, ch=4, ch_mult=(1, 1), num_res_blocks=1, patch_nums=SCALES
    )
    vqvae = Vqvae.build(codes, step_generator(5)).eval()
    nn.init.normal_(vqvae.quantize.embedding.weight, generator=step_generator(6))
    labels, uniforms = torch.tensor([0, 1, 2]), seeded_uniforms([7, 8, 9], CONFIG.length)
    found = var_sample(net, vqvae, labels, uniforms, cfg=cfg)
    assert torch.equal(found, plain_var_sample(yardstick, vqvae, labels, uniforms, cfg))
    assert len(found.unique()) > 5

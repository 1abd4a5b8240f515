"""What makes VAR fast changes no result: its linear layers, its attention, number types."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from tiny import TINY
from torch import nn

from mclr.data.load import Manifest, step_generator
from mclr.errors import UserError
from mclr.files import save_tensors
from mclr.likelihood import Draw
from mclr.models.families import make_family
from mclr.models.spec import ModelSpec
from mclr.models.var.config import VqvaeConfig
from mclr.models.var.family import VarFamily
from mclr.models.var.layers import Linear, attend
from mclr.models.var.vqvae import Vqvae


@pytest.mark.parametrize("shape", [(3, 5, 6), (4, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_linear_layer_is_torchs(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    layer = Linear(6, 7).to(dtype)
    for i, p in enumerate(layer.parameters()):
        nn.init.normal_(p, generator=step_generator(i))
    x = torch.randn(shape, generator=step_generator(5), dtype=torch.float32).to(dtype)
    found, expected = layer(x), F.linear(x, layer.weight, layer.bias)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 0.02)]
)
def test_attention_is_torchs(masked: bool, dtype: torch.dtype, tolerance: float) -> None:
    q, k, v = torch.randn(3, 2, 3, 5, 4, generator=step_generator(1), dtype=torch.float64).to(dtype)
    mask = torch.full((5, 5), float("-inf")).triu(1)[None, None] if masked else None
    found = attend(q[:, :, -5:], k, v, mask, 0.7)
    allowed = None if mask is None else mask.double()
    expected = F.scaled_dot_product_attention(
        q.double(), k.double(), v.double(), attn_mask=allowed, scale=0.7
    )
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    codes = VqvaeConfig(**TINY["models"]["var"]["tokenizer"]["network"], img_channels=1)
    net = Vqvae.build(codes, step_generator(1))
    save_tensors(tmp_path / "tokenizer.safetensors", net.state_dict(), {})
    return tmp_path / "tokenizer.safetensors"


def family(tokenizer: Path, precision: str, decoding: str | None = None) -> VarFamily:
    section = TINY["models"]["var"]
    network = {"family": "var", "depth": 2, "embed_dim": 32, "num_heads": 2}
    content = {
        "network": network | {"tokenizer": section["tokenizer"]["network"]},
        "precision": precision,
        "sampler": section["sampler"],
        "decoding": decoding,
    }
    found = make_family(ModelSpec.model_validate(content), Manifest(1, 8, 3, (), {}), tokenizer)
    assert isinstance(found, VarFamily)
    return found


def lively(found: VarFamily) -> nn.Module:
    net = found.build(step_generator(2))
    for i, parameter in enumerate(net.parameters()):
        nn.init.normal_(parameter, std=0.2, generator=step_generator(3, i))
    return net


def test_bfloat16_likelihood_and_samples(tokenizer: Path) -> None:
    usual, low = family(tokenizer, "float32"), family(tokenizer, "bfloat16")
    net, labels = lively(usual), torch.arange(4)
    tokens = torch.randint(8, (4, usual.config.length), generator=step_generator(4))
    full = usual.log_likelihood(net, tokens, labels, Draw())
    found = low.log_likelihood(net, tokens, labels, Draw())
    assert found.dtype == torch.float32
    error = ((found - full) / full).abs().max().item()
    assert 0 < error < 2**-7
    samples = low.generate(net, list(range(40)), labels.repeat(10), 1.5)
    agree = (samples == usual.generate(net, list(range(40)), labels.repeat(10), 1.5)).double()
    assert samples.dtype == torch.int64 and agree.mean() > 0.8


def test_frozen_network_stands_for_the_network(tokenizer: Path) -> None:
    usual, low = family(tokenizer, "float32"), family(tokenizer, "bfloat16")
    net, labels = lively(usual), torch.arange(4)
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    assert usual.frozen(net) is net
    frozen = low.frozen(net)
    tokens = torch.randint(8, (4, usual.config.length), generator=step_generator(4))
    expected = low.log_likelihood(net, tokens, labels, Draw())
    assert torch.equal(low.log_likelihood(frozen, tokens, labels, Draw()), expected)
    seeds = [1, 2, 3, 4]
    assert torch.equal(
        low.generate(frozen, seeds, labels, 1.5), low.generate(net, seeds, labels, 1.5)
    )
    assert frozen.get_parameter("blocks.0.ffn.fc1.weight").dtype == torch.bfloat16
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())


def test_unknown_precision_is_explained(tokenizer: Path) -> None:
    with pytest.raises(ValidationError, match="'float32', 'bfloat16', 'float16' or 'auto'"):
        family(tokenizer, "float8")
    network = {"depth": 1, "embed_dim": 8, "num_heads": 1}
    network |= {"tokenizer": TINY["models"]["var"]["tokenizer"]["network"]}
    with pytest.raises(UserError, match=r"float8.*auto, float32, bfloat16, float16"):
        VarFamily(network, Manifest(1, 8, 3, (), {}), tokenizer, None, "float8")


@torch.no_grad()
def test_decoding_has_a_number_type_of_its_own(tokenizer: Path) -> None:
    usual, same = family(tokenizer, "float32"), family(tokenizer, "float32", "tf32")
    low, mixed = family(tokenizer, "float32", "bfloat16"), family(tokenizer, "bfloat16")
    tokens = torch.randint(8, (6, usual.config.length), generator=step_generator(4))
    images = usual.decode(tokens)
    assert torch.equal(same.decode(tokens), images)  # there is no tf32 on a CPU
    assert torch.equal(mixed.decode(tokens), images)
    apart = (low.decode(tokens).int() - images.int()).abs()
    assert 0 < apart.float().mean() < 1  # bfloat16 tells 256 levels apart, as images do


@torch.no_grad()
def test_many_images_are_decoded_in_parts(tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = family(tokenizer, "float32")
    tokens = torch.randint(8, (7, found.config.length), generator=step_generator(4))
    images, sizes = found.decode(tokens), list[int]()
    decode = found.vqvae.decode_tokens
    monkeypatch.setattr("mclr.models.var.family.DECODED_PIXELS", 3 * 8 * 8)
    monkeypatch.setattr(found.vqvae, "decode_tokens", lambda t: sizes.append(len(t)) or decode(t))
    assert torch.equal(found.decode(tokens), images)
    assert sizes == [3, 3, 1]

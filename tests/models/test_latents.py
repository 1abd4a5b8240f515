"""Latents: closed forms of their statistics and draws, and a small autoencoder of the pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.files import load_tensors, save_tensors
from mclr.models.edm2.config import AutoencoderArchitecture
from mclr.models.edm2.family import Edm2Family
from mclr.models.edm2.latents import (
    LatentAutoencoder,
    build_autoencoder,
    encode_moments,
    kl_divergence,
    latent_shape,
    latent_statistics,
)
from mclr.models.pixels import Encoder

SMALL = AutoencoderArchitecture(channels=[4, 4, 8], latent_channels=3, norm_groups=2)
MANIFEST = Manifest(1, 16, 2, ("a", "b"), {})
NETWORK = {
    "model_channels": 4,
    "channel_mult": [1],
    "num_blocks": 1,
    "attn_resolutions": [],
    "logvar_channels": 4,
    "autoencoder": SMALL.model_dump(),
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, side: int = 16) -> Tensor:
    return torch.randint(256, (n, 1, side, side), generator=generator(5)).to(torch.uint8)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an autoencoder with random weights, as its training writes it."""
    net = build_autoencoder(SMALL, 1, generator(0)).eval()
    raw = encode_moments(net, images(50), "float32", torch.device("cpu"))
    path = tmp_path_factory.mktemp("latents") / "small.safetensors"
    save_tensors(path, net.state_dict() | latent_statistics(raw), {})
    return path


@pytest.fixture(scope="module")
def encoder(stored: Path) -> LatentAutoencoder:
    return LatentAutoencoder(SMALL, MANIFEST, stored)


def test_divergence_of_known_gaussians() -> None:
    """KL(N(m, s²) ‖ N(0, 1)) = (m² + s² − 1 − ln s²) / 2, summed over the latents of an image."""
    mean = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    log_variance = torch.tensor([0.0, 4.0]).log1p().view(2, 1, 1, 1).expand(2, 3, 2, 2)
    expected = [0.0, 12 * (4 + 5 - 1 - 1.6094379) / 2]
    torch.testing.assert_close(kl_divergence(mean, log_variance), torch.tensor(expected))
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    standard = torch.distributions.Normal(0.0, 1.0)
    oracle = torch.distributions.kl_divergence(q, standard).sum((1, 2, 3))
    torch.testing.assert_close(kl_divergence(mean, log_variance), oracle)


def test_statistics_are_those_of_the_draws() -> None:
    """Law of total variance: Var z = Var of the means + mean of the variances."""
    scale = torch.tensor([0.3, 2.0]).view(2, 1, 1)
    mean = torch.randn(3000, 2, 4, 4, generator=generator(1)) * scale + 5 * scale
    std = torch.rand(3000, 2, 4, 4, generator=generator(2)) * scale
    found = latent_statistics(torch.cat([mean, std], dim=1))
    z = mean + std * torch.randn(mean.shape, generator=generator(3))
    torch.testing.assert_close(found["latents.mean"], z.mean((0, 2, 3)), rtol=3e-3, atol=0)
    torch.testing.assert_close(found["latents.std"], z.std((0, 2, 3)), rtol=1e-2, atol=0)


def test_draws_have_deviation_one_half(encoder: LatentAutoencoder) -> None:
    raw = encoder.encode_pixels(images(50)).repeat(20, 1, 1, 1)
    x = encoder.encode_latents(raw, generator(1))
    assert x.shape == (1000, 3, 4, 4)
    assert x.mean((0, 2, 3)).abs().max() < 0.02
    assert (x.std((0, 2, 3)) - 0.5).abs().max() < 0.02


def test_encoder_is_that_of_diffusers(stored: Path, encoder: LatentAutoencoder) -> None:
    as_protocol: Encoder = encoder
    tensors, _ = load_tensors(stored)
    mu, sigma = (tensors.pop(f"latents.{name}").view(3, 1, 1) for name in ("mean", "std"))
    net = build_autoencoder(SMALL, 1, generator(9)).eval()
    net.load_state_dict(tensors)
    pixels = images(7)
    with torch.no_grad():
        distribution = net.encode(pixels / 127.5 - 1).latent_dist  # type: ignore[operator]
    raw = as_protocol.encode_pixels(pixels)
    expected = torch.cat([distribution.mean, distribution.std], dim=1)
    torch.testing.assert_close(raw, expected, rtol=1e-4, atol=1e-6)
    noise = torch.randn(7, 3, 4, 4, generator=generator(2))
    x = as_protocol.encode_latents(raw, noise=noise)
    z = distribution.mean + noise * distribution.std
    torch.testing.assert_close(x, (z - mu) / sigma / 2, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        decoded = net.decode(z).sample * 127.5 + 128  # type: ignore[operator]
    found = as_protocol.decode(x)
    assert found.dtype == torch.uint8 and found.shape == pixels.shape
    assert ((found.float() - decoded.clamp(0, 255).floor()).abs() <= 1).all()


def test_weights_depend_on_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = (build_autoencoder(SMALL, 1, generator(s)) for s in (1, 1, 2))
    values = [torch.cat([p.flatten() for p in net.parameters()]) for net in (first, second, other)]
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])
    assert torch.equal(before, torch.get_rng_state())


def test_batches_do_not_change_the_encoding(stored: Path) -> None:
    one = LatentAutoencoder(SMALL, MANIFEST, stored, batch=3)
    all_ = LatentAutoencoder(SMALL, MANIFEST, stored)
    torch.testing.assert_close(one.encode_pixels(images(7)), all_.encode_pixels(images(7)))
    x = torch.randn(7, 3, 4, 4, generator=generator(0))
    assert (one.decode(x).int() - all_.decode(x).int()).abs().max() <= 1


def test_bfloat16_is_near_float32(stored: Path, encoder: LatentAutoencoder) -> None:
    rough = LatentAutoencoder(SMALL, MANIFEST, stored, precision="bfloat16")
    found, exact = rough.encode_pixels(images(7)), encoder.encode_pixels(images(7))
    assert found.dtype == torch.float32 and not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)


def test_what_does_not_fit_is_named(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"3 levels halve the side 2 times, .* 18 pixels"):
        latent_shape(SMALL, Manifest(1, 18, 2, (), {}))
    with pytest.raises(UserError, match=r"norm_groups: 3 must divide .* \[4, 4, 8\]"):
        build_autoencoder(SMALL.model_copy(update={"norm_groups": 3}), 1, generator(0))
    with pytest.raises(UserError, match="weights do not fit"):
        other = SMALL.model_copy(update={"layers_per_block": 2})
        LatentAutoencoder(other, MANIFEST, stored).encode_pixels(images(1))
    bare = tmp_path / "bare.safetensors"
    save_tensors(bare, {"x": torch.zeros(1)}, {})
    with pytest.raises(UserError, match="no mean and deviation of the latents"):
        LatentAutoencoder(SMALL, MANIFEST, bare)
    with pytest.raises(UserError, match="autoencoder's weights: give --tokenizer"):
        Edm2Family(NETWORK, MANIFEST, None, None)


# --- the family --------------------------------------------------------------------------------


def test_family_of_latents(stored: Path, encoder: LatentAutoencoder) -> None:
    sampler = {"num_steps": 2, "sigma_min": 0.002, "sigma_max": 80, "rho": 7}
    noise = {"P_mean": -0.8, "P_std": 1.6}
    family = Edm2Family(NETWORK, MANIFEST, noise, sampler, autoencoder=stored)
    assert family.shape == (3, 4, 4) and family.config.img_resolution == 4
    kept = family.encode(images(6))
    assert torch.equal(kept, encoder.encode_pixels(images(6)))
    x = family.from_encoded(kept, generator(1))
    assert torch.equal(x, encoder.encode_latents(kept, generator(1)))
    assert not torch.equal(x, family.from_encoded(kept, generator(2)))
    net, labels = family.build(generator(0)), torch.arange(6) % 2
    draw = family.draw(x, generator(3))
    assert family.log_likelihood(net, x, labels, draw).shape == (6,)
    sampled = family.generate(net, range(6), labels, 0.5)
    assert sampled.shape == (6, 3, 4, 4)
    assert torch.equal(family.decode(sampled), encoder.decode(sampled))


def test_families_without_latents_draw_nothing() -> None:
    network = {key: value for key, value in NETWORK.items() if key != "autoencoder"}
    family, rng = Edm2Family(network, MANIFEST, None, None), generator(1)
    kept = family.encode(images(2))
    assert torch.equal(kept, images(2).float() / 127.5 - 1)
    assert torch.equal(family.from_encoded(kept, rng), kept)
    assert torch.equal(rng.get_state(), generator(1).get_state())
    assert torch.equal(family.decode(kept), images(2))

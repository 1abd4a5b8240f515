"""Encoders: closed forms, the official encoders' recorded values, and a real autoencoder."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from mclr.errors import UserError
from mclr.models.edm2.encoders import FINAL_STD, RAW_MEAN, RAW_STD, StabilityVaeEncoder
from mclr.models.pixels import Encoder, RgbEncoder

with np.load(Path(__file__).parents[1] / "golden" / "edm2_encoders.npz") as _data:
    META = json.loads(str(_data["meta_json"]))
    REF = {k: torch.from_numpy(v) for k, v in _data.items() if v.dtype.kind in "fu"}


class Stub:
    """The stand-in for the autoencoder that the values were recorded with."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def encode(self, x: Tensor) -> SimpleNamespace:
        self.seen.append(x)
        four = torch.cat([x, x[:, :1]], dim=1)
        moments = SimpleNamespace(mean=four * 2 - 1, std=four * 0.1 + 0.01)
        return SimpleNamespace(latent_dist=moments)

    def decode(self, z: Tensor) -> SimpleNamespace:
        self.seen.append(z)
        return SimpleNamespace(sample=z[:, :3] * 0.2 + 0.3)


@pytest.fixture()
def stub() -> Stub:
    return Stub()


@pytest.fixture()
def latents(stub: Stub, tmp_path: Path) -> StabilityVaeEncoder:
    """An encoder with the stub in place of its autoencoder."""
    encoder = StabilityVaeEncoder(tmp_path)
    encoder.vae = stub
    return encoder


# --- pixels ------------------------------------------------------------------------------------


def test_recorded_rgb() -> None:
    encoder = RgbEncoder()
    raw = encoder.encode_pixels(REF["rgb_u8"])
    assert torch.equal(raw, REF["rgb_encode_pixels"])
    assert torch.equal(encoder.encode_latents(raw), REF["rgb_encode"])
    assert torch.equal(encoder.decode(REF["rgb_dec_in"]), REF["rgb_dec_out"])
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    back = encoder.decode(encoder.encode_latents(levels))
    assert torch.equal(back, REF["rgb_roundtrip_all256"]) and torch.equal(back, levels)


def test_rgb_range_and_truncation() -> None:
    encoder = RgbEncoder()
    ends = encoder.encode_latents(torch.tensor([0, 255], dtype=torch.uint8))
    assert ends.tolist() == [-1, 1]
    x = torch.tensor([-2.0, -1.0, 0.0, 0.0078, 1.0, 2.0])
    assert encoder.decode(x).tolist() == [0, 0, 128, 128, 255, 255]


@pytest.mark.parametrize("bad", [torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)])
def test_other_images_are_refused(bad: Tensor, latents: StabilityVaeEncoder) -> None:
    encoders: list[Encoder] = [RgbEncoder(), latents]
    for encoder in encoders:
        with pytest.raises(UserError, match="expected uint8"):
            encoder.encode_pixels(bad)


# --- latents -----------------------------------------------------------------------------------


def test_recorded_constants(latents: StabilityVaeEncoder) -> None:
    assert torch.equal(latents.scale.flatten(), REF["vae_scale"])
    assert torch.equal(latents.bias.flatten(), REF["vae_bias"])
    constants = META["vae_kwargs"]
    assert (list(RAW_MEAN), list(RAW_STD)) == (constants["raw_mean"], constants["raw_std"])
    assert (FINAL_STD, latents.batch) == (constants["final_std"], META["vae_batch_size"])


def test_recorded_latents(latents: StabilityVaeEncoder) -> None:
    raw, noise = REF["vae_raw_mean_std"], REF["vae_noise"]
    assert torch.equal(latents.encode_latents(raw, noise=noise), REF["vae_latents"])
    still = torch.cat([raw[:, :4], torch.zeros_like(raw[:, 4:])], dim=1)
    assert torch.equal(latents.encode_latents(still, noise=noise), REF["vae_latents_std0"])


def test_recorded_decoding(latents: StabilityVaeEncoder, stub: Stub) -> None:
    assert torch.equal(latents.decode(REF["vae_dec_latents"]), REF["vae_dec_u8"])
    assert torch.equal(stub.seen[0], REF["vae_dec_raw_latent"])


def test_recorded_encoding_of_pixels(
    latents: StabilityVaeEncoder, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mclr.models.edm2.encoders.VAE_REDUCTION", 1)  # the stub keeps sides of 6
    raw = latents.encode_pixels(REF["vae_encpix_in_u8"])
    assert torch.equal(stub.seen[0], REF["vae_encpix_seen_by_vae"])
    assert torch.equal(raw, REF["vae_encpix_out"])


def test_latents_of_the_data_have_the_promised_moments(latents: StabilityVaeEncoder) -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor(RAW_MEAN).view(4, 1, 1)
    std = torch.tensor(RAW_STD).view(4, 1, 1)
    raw = torch.cat([mean.expand(200, 4, 32, 32), std.expand(200, 4, 32, 32)], dim=1)
    x = latents.encode_latents(raw, generator)
    assert x.mean((0, 2, 3)).abs().max() < 0.005
    assert (x.std((0, 2, 3)) - 0.5).abs().max() < 0.005


def test_noise_is_drawn_from_the_generator_at_every_call(latents: StabilityVaeEncoder) -> None:
    raw, before = REF["vae_raw_mean_std"], torch.get_rng_state()
    generator = torch.Generator().manual_seed(3)
    first, second = (latents.encode_latents(raw, generator) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, latents.encode_latents(raw, torch.Generator().manual_seed(3)))
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ValueError, match="generator or its noise"):
        latents.encode_latents(raw)


def test_images_pass_in_batches_of_eight(latents: StabilityVaeEncoder, stub: Stub) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (11, 3, 8, 8), dtype=torch.uint8, generator=generator)
    raw = latents.encode_pixels(images)
    assert [len(x) for x in stub.seen] == [8, 3] and raw.shape == (11, 8, 8, 8)
    latents.decode(torch.zeros(17, 4, 2, 2))
    assert [len(x) for x in stub.seen[2:]] == [8, 8, 1]


def test_shapes_the_autoencoder_cannot_take(latents: StabilityVaeEncoder) -> None:
    for shape in [(1, 1, 8, 8), (1, 3, 12, 8)]:
        with pytest.raises(UserError, match="multiples of 8"):
            latents.encode_pixels(torch.zeros(shape, dtype=torch.uint8))


# --- a real autoencoder ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion's autoencoder in small: the same four levels, random weights."""
    from diffusers import AutoencoderKL

    folder = tmp_path_factory.mktemp("vae")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            block_out_channels=[8, 8, 8, 8],
            norm_num_groups=4,
            latent_channels=4,
        )
    vae.save_pretrained(folder)
    return folder


@torch.no_grad()
def test_real_autoencoder(stored_vae: Path) -> None:
    from diffusers import AutoencoderKL

    encoder = StabilityVaeEncoder(stored_vae)
    vae = AutoencoderKL.from_pretrained(
        stored_vae, local_files_only=True, low_cpu_mem_usage=False
    ).eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (3, 3, 16, 24), dtype=torch.uint8, generator=generator)
    raw = encoder.encode_pixels(images)
    expected = vae.encode(images.float() / 255).latent_dist
    assert raw.shape == (3, 8, 2, 3)
    moments = torch.cat([expected.mean, expected.std], dim=1)
    torch.testing.assert_close(raw, moments, rtol=1e-4, atol=1e-6)
    noise = torch.randn(3, 4, 2, 3, generator=generator)
    x = encoder.encode_latents(raw, noise=noise)
    z = x * torch.tensor(RAW_STD).view(4, 1, 1) / FINAL_STD + torch.tensor(RAW_MEAN).view(4, 1, 1)
    torch.testing.assert_close(z, expected.mean + noise * expected.std, rtol=1e-5, atol=1e-5)
    decoded = encoder.decode(x)
    assert decoded.shape == images.shape and decoded.dtype == torch.uint8
    levels = vae.decode(z).sample.clamp(0, 1) * 255
    assert ((decoded.float() - levels.floor()).abs() <= 1).all()
    assert 0 < decoded.float().mean() < 255
    assert not any(p.requires_grad for p in encoder.vae.parameters())


def test_decoding_has_a_number_type_of_its_own(stored_vae: Path) -> None:
    x = torch.randn(3, 4, 2, 3, generator=torch.Generator().manual_seed(1))
    usual, same, low = (
        StabilityVaeEncoder(stored_vae, decoding=name).decode(x)
        for name in ("float32", "tf32", "bfloat16")
    )
    assert torch.equal(same, usual)  # there is no tf32 on a CPU
    apart = (low.int() - usual.int()).abs()
    # bfloat16 tells 256 levels apart, as images do.
    assert low.dtype == torch.uint8 and 0 < apart.float().mean() < 1


def test_missing_files_are_named(stored_vae: Path, tmp_path: Path) -> None:
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"config\.json and no .*sd-vae-ft-mse.*huggingface"):
        StabilityVaeEncoder(tmp_path / "absent").encode_pixels(image)
    (tmp_path / "config.json").write_bytes((stored_vae / "config.json").read_bytes())
    with pytest.raises(UserError, match=r": no diffusion_pytorch_model\.safetensors"):
        StabilityVaeEncoder(tmp_path).decode(torch.zeros(1, 4, 1, 1))
    weights = (stored_vae / "diffusion_pytorch_model.safetensors").read_bytes()
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(weights[:5000])
    with pytest.raises(UserError, match="not a readable autoencoder"):
        StabilityVaeEncoder(tmp_path).encode_pixels(image)

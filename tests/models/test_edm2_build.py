"""EDM2 construction: configuration, published sizes, random initialisation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mclr.errors import UserError
from mclr.models.edm2.config import PRESETS, Edm2Network, preset
from mclr.models.edm2.precond import Precond, build

TINY = Edm2Network(
    img_resolution=8,
    img_channels=1,
    label_dim=3,
    model_channels=8,
    channel_mult=(1, 2),
    num_blocks=1,
    attn_resolutions=(4,),
    channels_per_head=8,
    logvar_channels=8,
)


@pytest.fixture()
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


COUNTS = {
    "edm2-img64-s": 280_209_381,
    "edm2-img512-xs": 124_713_253,
    "edm2-img512-s": 280_212_837,
    "edm2-img512-m": 497_807_781,
    "edm2-img512-l": 777_498_085,
    "edm2-img512-xl": 1_119_283_749,
    "edm2-img512-xxl": 1_523_164_773,
}


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_the_published_parameter_count(name: str) -> None:
    with torch.device("meta"):
        net = Precond(preset(name))
    assert sum(p.numel() for p in net.parameters()) == COUNTS[name]
    assert len(net.state_dict()) == 203


def test_presets_of_medium_size_and_up_use_dropout() -> None:
    rates = {name.rsplit("-", 1)[1]: preset(name).dropout for name in PRESETS}
    assert rates == {"xs": 0, "s": 0, "m": 0.1, "l": 0.1, "xl": 0.1, "xxl": 0.1}


def test_unknown_preset_lists_the_names() -> None:
    with pytest.raises(UserError, match=r"edm2-img64-s.*edm2-img512-xxl"):
        preset("edm2-img64-xs")


@pytest.mark.parametrize(
    "change",
    [
        {"use_fp16": False},
        {"img_resolution": 9},
        {"resample_filter": (1, 2, 1)},
        {"channel_mult": ()},
        {"dropout": 1.0},
    ],
)
def test_impossible_config_is_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Edm2Network(**{**TINY.model_dump(), **change})


def test_heads_that_do_not_divide_the_channels_are_explained() -> None:
    with pytest.raises(UserError, match="channels_per_head"):
        Precond(TINY.model_copy(update={"model_channels": 10, "channels_per_head": 6}))


def test_build_depends_on_its_generator_only() -> None:
    global_state = torch.get_rng_state()
    nets = [build(TINY, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), global_state)
    a, b, c = (net.state_dict() for net in nets)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["unet.out_conv.weight"], c["unet.out_conv.weight"])
    assert not torch.equal(a["logvar_fourier.freqs"], c["logvar_fourier.freqs"])


def test_build_without_generator_follows_the_default_seed() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        default = build(TINY).state_dict()
    explicit = build(TINY, torch.Generator().manual_seed(5)).state_dict()
    assert all(torch.equal(default[k], explicit[k]) for k in default)


def test_build_draws_the_documented_distributions(rng: torch.Generator) -> None:
    net = build(TINY.model_copy(update={"logvar_channels": 4096}), rng)
    weight = net.unet.get_parameter("dec.4x4_block0.conv_res0.weight")
    assert weight.std().item() == pytest.approx(1, abs=0.1)
    fourier = net.logvar_fourier
    assert fourier.freqs.std().item() == pytest.approx(2 * math.pi, rel=0.1)
    assert fourier.phases.min() >= 0 and fourier.phases.max() <= 2 * math.pi
    assert fourier.phases.mean().item() == pytest.approx(math.pi, rel=0.1)
    assert net.unet.out_gain == 0

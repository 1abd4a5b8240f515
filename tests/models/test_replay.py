"""Passes recorded once and replayed: what of it needs no GPU, and all of it where there is one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor

from mclr.data.load import Manifest, step_generator
from mclr.device import set_up
from mclr.files import save_tensors
from mclr.models.edm2.family import Edm2Family
from mclr.models.edm2.precond import Frozen
from mclr.models.replay import Recordings, Replayed
from mclr.models.var.config import VqvaeConfig
from mclr.models.var.family import VarFamily
from mclr.models.var.network import Var
from mclr.models.var.vqvae import Vqvae


class Recorder:
    """Records as a GPU does: a replay computes the result in place, of what the inputs hold."""

    def __init__(self) -> None:
        self.recorded: list[list[torch.Size]] = []

    def __call__(
        self, function: Callable[..., Tensor], inputs: tuple[Tensor, ...]
    ) -> tuple[Callable[[], None], Tensor]:
        self.recorded.append([x.shape for x in inputs])
        result = torch.empty_like(function(*inputs))

        def replay() -> None:
            result.copy_(function(*inputs))

        return replay, result


def scaled(x: Tensor, factor: Tensor) -> Tensor:
    return x * factor


def test_a_shape_is_recorded_once_and_computed_from_new_inputs() -> None:
    recorder = Recorder()
    replayed = Replayed(scaled, recorder)
    first = replayed(torch.arange(3.0), torch.tensor(2.0))
    second = replayed(torch.arange(3.0) + 1, torch.tensor(10.0))
    assert first.tolist() == [0, 2, 4]  # not what the second call left
    assert second.tolist() == [10, 20, 30]
    assert len(recorder.recorded) == 1


def test_each_shape_and_type_is_recorded_by_itself() -> None:
    recorder = Recorder()
    replayed = Replayed(scaled, recorder)
    factor = torch.tensor(2.0)
    for x in (torch.ones(3), torch.ones(2), torch.ones(3).double(), torch.ones(2)):
        assert torch.equal(replayed(x, factor), 2 * x)
    assert len(recorder.recorded) == 3


def test_inputs_stay_the_callers() -> None:
    x, factor = torch.ones(3), torch.tensor(2.0)
    replayed = Replayed(lambda a, b: a.mul_(b), Recorder())
    replayed(x, factor)
    assert x.tolist() == [1, 1, 1]


def test_a_copy_of_a_network_has_no_recordings() -> None:
    recordings = Recordings(draw=Replayed(scaled, Recorder()))
    assert copy.deepcopy(recordings) == {} and len(recordings) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_a_gpu_draws_the_same_images_from_recorded_passes(
    guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = set_up(1, "cuda")
    sampler = {"num_steps": 4, "sigma_min": 0.002, "sigma_max": 80, "rho": 7}
    network = {"model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1}
    manifest = Manifest(3, 16, 10, (), {})
    family = Edm2Family(network, manifest, None, sampler, "float16", device)
    net = family.build(step_generator(0)).to(device)
    for name, parameter in net.named_parameters():
        if name.endswith("gain"):
            torch.nn.init.constant_(parameter, 0.5)
    fixed = cast(Frozen, family.frozen(net))
    labels = torch.arange(8)

    def images(seeds: range) -> Tensor:
        return family.generate(fixed, list(seeds), labels[: len(seeds)], guidance)

    found = [images(range(8)), images(range(8, 16)), images(range(3))]
    monkeypatch.setattr(fixed, "replayed", fixed.forward)
    for drawn, seeds in zip(found, (range(8), range(8, 16), range(3)), strict=True):
        assert torch.equal(drawn, images(seeds)) and drawn.isfinite().all()
    assert not torch.equal(found[0], found[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_a_gpu_draws_the_same_tokens_from_recorded_passes(
    guidance: float, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = set_up(1, "cuda")
    codes = {
        "vocab_size": 32, "z_channels": 8, "ch": 8, "ch_mult": [1, 1], "num_res_blocks": 1,
        "patch_nums": [1, 2, 4],
    }  # fmt: skip
    tokenizer = Vqvae.build(VqvaeConfig(**codes, img_channels=3), step_generator(1))
    save_tensors(tmp_path / "codes.safetensors", tokenizer.state_dict(), {})
    network = {"depth": 2, "embed_dim": 32, "num_heads": 2, "tokenizer": codes}
    sampler, manifest = {"top_k": 0, "top_p": 0.0}, Manifest(3, 8, 10, (), {})
    file = tmp_path / "codes.safetensors"
    family = VarFamily(network, manifest, file, sampler, precision, device)
    net = family.build(step_generator(0)).to(device).requires_grad_(False)
    for name, parameter in net.named_parameters():
        if "ada_lin" in name or name == "head.weight":
            torch.nn.init.normal_(parameter, std=0.3)
    fixed, labels = family.frozen(net), torch.arange(8)
    assert family.frozen(fixed) is fixed

    def tokens(seeds: range) -> Tensor:
        return family.generate(fixed, list(seeds), labels[: len(seeds)], guidance)

    parts = (range(8), range(8, 16), range(3))
    found = [tokens(seeds) for seeds in parts]
    assert len(cast(Var, fixed).recordings) == 1
    monkeypatch.setattr("mclr.models.var.family.can_record", lambda device: False)
    for drawn, seeds in zip(found, parts, strict=True):
        assert torch.equal(drawn, tokens(seeds))
    assert not torch.equal(found[0], found[1])
    assert cast(Var, copy.deepcopy(fixed)).recordings == {}

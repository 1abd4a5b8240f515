"""`precision: auto` on a CPU: bfloat16 for networks wide enough to gain by it, and said so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, Trained
from torch import Tensor

from mclr.data.load import Manifest, step_generator
from mclr.files import read_json, save_tensors
from mclr.jobs.inputs import Data
from mclr.jobs.training import finetune, train_base
from mclr.models.families import make_family
from mclr.models.family import Family
from mclr.models.precision import NARROW
from mclr.models.spec import ModelSpec
from mclr.models.var.config import VqvaeConfig
from mclr.models.var.vqvae import Vqvae
from mclr.planning.plan import Plan

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that has it."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


def make(kind: str, width: int, precision: str, folder: Path) -> Family:
    section = TINY["models"][kind]
    network, tokenizer = {"family": kind, **section["network"]}, folder / "tokenizer.safetensors"
    if kind == "edm2":
        network |= {"model_channels": width, "channels_per_head": width}
    else:
        codes = section["tokenizer"]["network"]
        network |= {"embed_dim": width, "tokenizer": codes}
        weights = Vqvae.build(VqvaeConfig(**codes, img_channels=1), step_generator(1))
        save_tensors(tokenizer, weights.state_dict(), {})
    content: dict[str, Any] = {"network": network, "precision": precision}
    content |= {key: section[key] for key in ("noise", "sampler") if key in section}
    return make_family(ModelSpec.model_validate(content), Manifest(1, 8, 3, (), {}), tokenizer)


def results(family: Family) -> tuple[Tensor, Tensor, Tensor]:
    """Likelihoods in training and of fixed weights, and samples, of a random network."""
    net = family.build(step_generator(2))
    for i, parameter in enumerate(net.parameters()):
        torch.nn.init.normal_(parameter, std=0.2, generator=step_generator(3, i))
    images = torch.randint(256, (6, 1, 8, 8), generator=step_generator(4), dtype=torch.uint8)
    x, labels, fixed = family.encode(images), torch.arange(6) % 3, family.frozen(net)
    with torch.no_grad():
        draw = family.draw(x, step_generator(5))
        trained, frozen = (family.log_likelihood(n, x, labels, draw) for n in (net, fixed))
        return trained, frozen, family.generate(fixed, range(6), labels, 1.5)


@pytest.mark.parametrize("kind", ["edm2", "var"])
def test_auto_is_bfloat16_from_a_width_on(kind: str, tmp_path: Path) -> None:
    enough = NARROW[kind]
    for width, same, other in (
        (enough, "bfloat16", "float32"),
        (enough - 4, "float32", "bfloat16"),
    ):
        auto, named, not_named = (
            results(make(kind, width, precision, tmp_path)) for precision in ("auto", same, other)
        )
        assert all(torch.equal(a, b) for a, b in zip(auto, named, strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(auto[:2], not_named[:2], strict=True))
        assert make(kind, width, "auto", tmp_path).dtype(CPU) == getattr(torch, same)


def test_width_decides_on_cpus_and_for_auto_alone(tmp_path: Path) -> None:
    for width in (4, 64):
        found = make("edm2", width, "auto", tmp_path), make("var", width, "auto", tmp_path)
        assert [family.dtype(GPU) for family in found] == [torch.float16, torch.bfloat16]
        for name in ("float32", "bfloat16", "float16"):
            assert make("edm2", width, name, tmp_path).dtype(CPU) == getattr(torch, name)


@pytest.mark.parametrize("enough", [4, 8])
def test_provenance_says_what_auto_meant(
    enough: int, trained: Trained, tiny_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NARROW, "edm2", enough)  # the tiny network has 4 channels
    data, run = Data(trained.prepared), tmp_path / "base"
    expected = {4: "bfloat16", 8: "float32"}[enough]
    spec = tiny_plan.base_spec("edm2").with_(precision="auto")
    train_base(spec, data, None, run, tmp_path / "s")
    assert read_json(run / "provenance.json")["computed_in"] == expected
    tuned, tuning = tmp_path / "tuned", tiny_plan.finetune_spec("edm2-mclr-seed0")
    weights = trained.base("edm2")
    finetune(tuning.with_(precision="auto"), data, weights, None, None, tuned, tmp_path / "t")
    assert read_json(tuned / "provenance.json")["computed_in"] == expected
    # A type that is named stands in the run's configuration.
    assert "computed_in" not in read_json(weights.parents[1] / "provenance.json")

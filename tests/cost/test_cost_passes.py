"""The passes that are counted are those that the real objectives and samplers make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mclr.config.objectives import FineTuning
from mclr.cost.passes import objective_passes
from mclr.data.load import Manifest
from mclr.models.edm2.family import Edm2Family
from mclr.models.edm2.precond import Precond
from mclr.models.families import make_family
from mclr.models.seeded import seeded_uniforms
from mclr.models.var.config import VarConfig, VqvaeConfig
from mclr.models.var.network import Var
from mclr.models.var.sampler import var_sample
from mclr.models.var.vqvae import Vqvae
from mclr.planning.plan import Plan
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples

N = 8


class Rows:
    """Rows through denoisers, with and without gradients."""

    trained = frozen = 0


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rows]:
    found, real = Rows(), Precond.forward

    def counting(net: Precond, x: torch.Tensor, *args: Any, **options: Any) -> Any:
        if torch.is_grad_enabled():
            found.trained += len(x)
        else:
            found.frozen += len(x)
        return real(net, x, *args, **options)

    monkeypatch.setattr(Precond, "forward", counting)
    yield found


@pytest.fixture
def family(tiny_plan: Plan) -> Edm2Family:
    spec = tiny_plan.base_spec("edm2").with_(sampler=tiny_plan.tier.models["edm2"].sampler)
    found = make_family(spec, Manifest(1, 8, 10, (), {}))
    assert isinstance(found, Edm2Family)
    return found


@pytest.mark.parametrize(
    "objective",
    [
        {"name": "mclr", "K": 3},
        {"name": "wmclr", "dsm": 1, "K": 2, "draws": 3},
        {"name": "ccdpo", "beta": 0.1, "K": 2},
        {"name": "cca", "beta": 0.1, "lambda": 1, "K": 4},
        {"name": "ddo", "alpha": 1, "beta": 0.1, "n_negatives": 16},
        {"name": "distill", "gamma": 1},
        {"name": "gft", "beta": 0.5},
        {"name": "gft", "beta": "input"},
        {"name": "mg", "w": 0.5},
    ],
    ids=lambda objective: "-".join(map(str, objective.values())),
)
def test_passes_of_a_step(family: Edm2Family, rows: Rows, objective: dict[str, Any]) -> None:
    settings = FineTuning.model_validate(
        {"model": "edm2", "objective": objective, "lr": 0.1, "batch": N, "checkpoints": [1]}
    )
    data = Samples(torch.zeros(16, 1, 8, 8), torch.arange(16) % 10, 10)
    base = family.build(torch.Generator().manual_seed(0)).requires_grad_(False)
    trainee = finetune_trainee(family, base, settings, 0, data, data)
    list(trainee.losses(0))
    passes = objective_passes(settings.objective)
    assert (rows.trained, rows.frozen) == (N * passes.trained, N * passes.frozen)


@pytest.mark.parametrize("guidance", [0.0, 1.5])
@pytest.mark.parametrize("interval", [None, (0.1, 10.0)])
@pytest.mark.parametrize("by_base", [False, True])
def test_evaluations_of_a_sample(
    family: Edm2Family, tiny_plan: Plan, rows: Rows, guidance: float, interval: Any, by_base: bool
) -> None:
    if guidance == 0 and (interval or by_base):
        return
    net = family.build(torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = torch.arange(N)
        guide = net if by_base else None
        family.generate(net, range(N), labels, guidance, guide=guide, interval=interval)
    expected = tiny_plan.tier.models["edm2"].nfe_of(guidance != 0, interval)
    assert rows.frozen == N * expected


@pytest.mark.parametrize("cfg", [0.0, 2.0])
def test_evaluations_of_a_sample_of_var(
    tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch, cfg: float
) -> None:
    model = tiny_plan.tier.models["var"]
    codes = VqvaeConfig(**model.tokenizer.network.model_dump(), img_channels=1)
    shared = {key: getattr(codes, key) for key in ("patch_nums", "vocab_size", "z_channels")}
    config = VarConfig(**model.network.model_dump(), num_classes=10, **shared)
    random = torch.Generator().manual_seed(0)
    var, vqvae = Var.build(config, random), Vqvae.build(codes, random)
    found, real = [], Var.scale_logits

    def counting(net: Var, si: int, labels: torch.Tensor, *args: Any) -> torch.Tensor:
        found.append(len(labels))
        return real(net, si, labels, *args)

    monkeypatch.setattr(Var, "scale_logits", counting)
    uniforms = seeded_uniforms(range(N), config.length)
    var_sample(var, vqvae, torch.arange(N), uniforms, cfg=cfg)
    assert sum(found) == N * model.nfe_of(cfg != 0)

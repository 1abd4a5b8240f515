"""Dropout in fine-tuning: none unless asked for, and then the same for all that is compared."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Trained, edited
from torch import Tensor, nn

from mclr.config.reading import load_tier
from mclr.data.load import Manifest, load_images, step_generator
from mclr.errors import UserError
from mclr.models.families import make_family
from mclr.models.family import Family
from mclr.planning.plan import Plan
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples, Steps
from mclr.training.gradient import accumulate
from mclr.training.share import WHOLE, Share
from mclr.training.trainee import Trainee

LN2 = math.log(2)
NETWORKS: dict[str, dict[str, Any]] = {
    "edm2": {"dropout": 0.4},
    "var": {"depth": 2, "drop_path_rate": 0.4},
}


class Case:
    """A network with random weights, which computes something, and data to fine-tune it on."""

    def __init__(self, model: str, plan: Plan, trained: Trained, manifest: Manifest) -> None:
        self.model, self.plan = model, plan
        spec = edited(plan.base_spec(model), network=NETWORKS[model])
        self.family: Family = make_family(spec, manifest, trained.tokenizer_of(model))
        self.base = self.family.build(torch.Generator().manual_seed(0))
        with torch.no_grad():
            for i, p in enumerate(self.base.parameters()):
                p.add_(0.3 * torch.randn(p.shape, generator=step_generator(i)))
        self.family.after_step(self.base)
        images, labels = load_images(trained.prepared / "train.parquet", manifest)
        self.data = Samples(self.family.encode(images[:40]), labels[:40], 10)

    def tuned(
        self, name: str, dropout: float | None, share: Share = WHOLE, seed: int = 0
    ) -> Trainee:
        how = {} if dropout is None else {"optimizer": {"dropout": dropout}}
        run = edited(self.plan.finetune_spec(f"{self.model}-{name}-seed0"), run=how).run
        negatives = Samples(self.data.x.flip(0), self.data.labels.flip(0), 10)
        made = negatives if name == "ddo" else None
        return finetune_trainee(self.family, self.base, run, seed, self.data, made, share)


@pytest.fixture(params=["edm2", "var"])
def case(request: Any, tiny_plan: Plan, trained: Trained, manifest: Manifest) -> Case:
    return Case(request.param, tiny_plan, trained, manifest)


def loss_of(who: Trainee, step: int = 0) -> tuple[float, dict[str, float]]:
    (loss,) = who.losses(step)
    return loss.value.item(), {name: float(value) for name, value in loss.terms.items()}


def gradient(who: Trainee) -> Tensor:
    who.net.zero_grad(set_to_none=True)
    accumulate(who.losses(2))
    return torch.cat([p.grad.flatten() for p in who.net.parameters() if p.grad is not None])


@pytest.mark.parametrize("dropout", [None, 0.4])
def test_no_log_ratio_at_the_base_model(case: Case, dropout: float | None) -> None:
    """r = ℓ_θ − ℓ_ref is 0 at θ = θ_ref: whatever is dropped, is dropped of both."""
    for name, value in (("ccdpo", LN2), ("cca", 1.5 * LN2), ("ddo", 3 * LN2)):
        loss, terms = loss_of(case.tuned(name, dropout))
        assert loss == pytest.approx(value, abs=1e-6)
        assert abs(terms["reward_preferred"]) < 1e-6 and abs(terms["reward_other"]) < 1e-6
        assert abs(terms["margin"]) < 1e-6


def test_policy_and_reference_are_equal_row_by_row(case: Case) -> None:
    run = edited(
        case.plan.finetune_spec(f"{case.model}-ccdpo-seed0"), run={"optimizer": {"dropout": 0.4}}
    ).run
    frozen = case.family.frozen(case.base)
    given = Steps(case.family, case.base, frozen, run, 0, case.data, None).given(
        0, run.objective.needs, lambda *_: torch.zeros(1), lambda *_: torch.zeros(1)
    )
    batch = given.batch
    assert batch.draw.masks is not None

    def values(net: nn.Module, draw: Any) -> Tensor:
        with torch.no_grad():
            return case.family.log_likelihood(net, batch.x, batch.labels, draw)

    policy, reference = values(case.base, batch.draw), values(frozen, batch.draw)
    # What folding gains into fixed weights may cost; a mask of another sample costs far more.
    torch.testing.assert_close(policy, reference, rtol=1e-5, atol=0)
    turned = replace(batch.draw, masks=batch.draw.masks.take(torch.arange(8).roll(1)))
    assert ((values(frozen, turned) - reference).abs() > 1e-3 * reference.abs()).any()


def test_it_is_off_unless_asked_for(case: Case) -> None:
    """Not even the dropout of the network's own training; and 0 is as none."""
    plain = loss_of(case.tuned("mclr", None), 1)
    torch.manual_seed(5)
    assert loss_of(case.tuned("mclr", None), 1) == plain
    assert loss_of(case.tuned("mclr", 0.0), 1) == plain
    assert loss_of(case.tuned("mclr", 0.4), 1) != plain


def test_masks_change_with_seed_and_step_alone(case: Case) -> None:
    first = loss_of(case.tuned("mclr", 0.4), 1)
    torch.manual_seed(5)
    assert loss_of(case.tuned("mclr", 0.4), 1) == first
    run = edited(
        case.plan.finetune_spec(f"{case.model}-mclr-seed0"), run={"optimizer": {"dropout": 0.4}}
    ).run
    seen = set()
    for seed, step in ((0, 0), (0, 1), (1, 0)):
        masks = Steps(case.family, case.base, case.base, run, seed, case.data, None)._masks(step, 3)
        assert masks is not None and len(masks.seeds) == run.batch
        seen |= set(masks.seeds.tolist())
    assert len(seen) == 3 * run.batch


def test_rows_of_a_tuple_share_a_mask(case: Case) -> None:
    """Under equal labels the rows of an MCLR tuple are equal: nothing is left of its log-ratio."""
    who, usual = case.tuned("mclr", 0.4), case.family.log_likelihood

    def unlabelled(net: nn.Module, x: Tensor, labels: Tensor, draw: Any) -> Tensor:
        return usual(net, x, torch.zeros_like(labels), draw)

    case.family.log_likelihood = unlabelled  # type: ignore[method-assign]
    _, terms = loss_of(who)
    assert abs(terms["log_ratio"]) < 1e-4
    assert abs(loss_of(case.tuned("mclr", 0.4))[1]["log_ratio"]) < 1e-4
    case.family.log_likelihood = usual  # type: ignore[method-assign]
    assert abs(loss_of(who)[1]["log_ratio"]) > 1e-2


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_give_the_same_gradient(case: Case, micro_batch: int) -> None:
    whole = gradient(case.tuned("cca", 0.4))
    parts = gradient(case.tuned("cca", 0.4, Share(micro_batch)))
    assert whole.abs().max() > 0
    assert (parts - whole).abs().max() <= 5e-4 * whole.abs().max()


def test_processes_drop_the_same(case: Case) -> None:
    """The shares of two processes add up to the gradient of one."""
    whole = gradient(case.tuned("cca", 0.4))
    parts = sum(gradient(case.tuned("cca", 0.4, Share(2, rank, 2))) for rank in range(2))
    assert (parts - whole).abs().max() <= 5e-4 * whole.abs().max()


def test_checkpointing_drops_the_same(case: Case) -> None:
    kept = gradient(case.tuned("cca", 0.4, Share(checkpointing=True)))
    whole = gradient(case.tuned("cca", 0.4))
    assert (kept - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_a_family_without_masks_refuses(case: Case) -> None:
    case.family.has_masks = False  # type: ignore[misc]
    with pytest.raises(UserError, match=r"optimizer\.dropout: this family's class does not heed"):
        loss_of(case.tuned("mclr", 0.4))
    loss_of(case.tuned("mclr", None))


@pytest.mark.parametrize("name", ["digits", "fashion"])
def test_no_published_tier_has_dropout(name: str) -> None:
    """So that its absence in fine-tuning changes none of their results."""
    tier = load_tier(Path(__file__).resolve().parents[2] / "config" / f"{name}.yaml")
    networks = [model.architecture() for model in tier.models.values()]
    assert not any(network.get("dropout", 0) for network in networks)
    assert not any(run.optimizer for run in tier.runs.values())

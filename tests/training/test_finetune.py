"""Base and fine-tuning trainees: what they read, what they leave alone, and who may change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import IMITATIONS, Trained, edited, finetune_spec
from torch import Tensor

from mclr.data.load import Manifest, load_images, step_generator
from mclr.errors import UserError
from mclr.files import load_tensors
from mclr.models.edm2.config import Edm2Model
from mclr.models.families import make_family
from mclr.models.family import Family, load_network
from mclr.objectives.loss import Loss
from mclr.planning.plan import Plan
from mclr.training.base import base_trainee
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples
from mclr.training.gradient import accumulate
from mclr.training.loop import _step
from mclr.training.share import WHOLE, Share
from mclr.training.state import StateFolder
from mclr.training.trainee import Trainee

OBJECTIVES = ("mclr", "ccdpo", "cca", "ddo", *IMITATIONS)


@pytest.fixture(params=["edm2", "var"])
def model(request: Any) -> Any:
    return request.param


@pytest.fixture
def family(model: str, trained: Trained, tiny_plan: Plan, manifest: Manifest) -> Family:
    return make_family(tiny_plan.base_spec(model), manifest, trained.tokenizer_of(model))


@pytest.fixture
def data(family: Family, trained: Trained, manifest: Manifest) -> tuple[Tensor, Tensor]:
    images, labels = load_images(trained.prepared / "train.parquet", manifest)
    return family.encode(images[:40]), labels[:40]


def tuned(
    plan: Plan,
    family: Family,
    trained: Trained,
    model: str,
    name: str,
    data: Any,
    seed: int = 0,
    share: Share = WHOLE,
) -> tuple[Trainee, Any]:
    settings = finetune_spec(plan, model, name).run
    base = load_network(family, trained.base(model))
    negatives = Samples(data[0].flip(0), data[1].flip(0), 10) if name == "ddo" else None
    samples = Samples(*data, 10)
    return finetune_trainee(family, base, settings, seed, samples, negatives, share), base


def loss_of(who: Trainee, step: int) -> Loss:
    """The loss of a step that is computed in one part."""
    (loss,) = who.losses(step)
    return loss


@pytest.mark.parametrize("name", OBJECTIVES)
def test_base_stays_and_copy_moves(
    name: str, model: str, family: Family, data: Any, trained: Trained, tiny_plan: Plan,
    tmp_path: Any,
) -> None:  # fmt: skip
    who, base = tuned(tiny_plan, family, trained, model, name, data)
    stored = load_tensors(trained.base(model))[0]
    for step in range(2):
        terms = _step(who, step, 0, name, StateFolder(tmp_path, "key"))
    assert terms["lr"] == 0.001
    for key, value in base.state_dict().items():
        assert torch.equal(value, stored[key])
    assert not base.training and all(p.grad is None for p in base.parameters())
    stored |= {k: torch.zeros_like(v) for k, v in who.net.state_dict().items() if "dial" in k}
    moved = [not torch.equal(v, stored[k]) for k, v in who.net.state_dict().items()]
    assert any(moved) and who.result is who.net


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_depends_on_seed_and_step_alone(
    name: str, model: str, family: Family, data: Any, trained: Trained, tiny_plan: Plan
) -> None:
    who, _ = tuned(tiny_plan, family, trained, model, name, data)
    first = loss_of(who, 3)
    torch.manual_seed(11)
    loss_of(who, 2)
    again = loss_of(who, 3)
    assert again.value.item() == first.value.item() and again.terms == first.terms
    if name == "mclr":
        other, _ = tuned(tiny_plan, family, trained, model, name, data, seed=1)
        assert loss_of(other, 3).value.item() != first.value.item()


def test_first_step_of_preference_losses_is_their_known_value(
    model: str, family: Family, data: Any, trained: Trained, tiny_plan: Plan
) -> None:
    for name, value in (("ccdpo", 1.0), ("cca", 1.5), ("ddo", 3.0)):
        who, _ = tuned(tiny_plan, family, trained, model, name, data)
        expected = value * torch.log(torch.tensor(2.0)).item()
        assert loss_of(who, 0).value.item() == pytest.approx(expected, rel=1e-5)


def test_ddo_without_negatives(
    model: str, family: Family, data: Any, trained: Trained, tiny_plan: Plan
) -> None:
    settings = tiny_plan.finetune_spec(f"{model}-ddo-seed0").run
    base = load_network(family, trained.base(model))
    who = finetune_trainee(family, base, settings, 0, Samples(*data, 10))
    with pytest.raises(UserError, match="DDO needs samples of the base model: give --negatives"):
        loss_of(who, 0)


# ------------------------------------------------------------------ parts of a minibatch


def gradient(who: Trainee, step: int) -> tuple[Tensor, dict[str, float]]:
    """All gradients of a step as one vector, and the summed terms."""
    who.net.zero_grad(set_to_none=True)
    terms = {name: value.item() for name, value in accumulate(who.losses(step)).items()}
    found = [p.grad.flatten() for p in who.net.parameters() if p.grad is not None]
    return torch.cat(found), terms


def close(found: tuple[Tensor, Any], expected: tuple[Tensor, Any]) -> None:
    """To what float32 allows of a small difference of large terms; exactly: test_objectives."""
    assert expected[0].abs().max() > 0
    assert (found[0] - expected[0]).abs().max() <= 5e-4 * expected[0].abs().max()
    # A loss that is the difference of log-likelihoods has their rounding, not its own.
    rounding = torch.finfo(torch.float32).eps * max(map(abs, expected[1].values()))
    assert found[1] == pytest.approx(expected[1], rel=1e-5, abs=max(1e-6, rounding))


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_give_the_gradient_of_the_minibatch(
    name: str, micro_batch: int, model: str, family: Family, data: Any, trained: Trained,
    tiny_plan: Plan,
) -> None:  # fmt: skip
    arguments = tiny_plan, family, trained, model, name, data
    share = Share(micro_batch)
    assert len(share.parts(8)) == -(-8 // micro_batch)
    (whole, _), (parts, _) = tuned(*arguments), tuned(*arguments, share=share)
    # Away from the base model, where log-ratios are not 0.
    for who in (whole, parts):
        with torch.no_grad():
            for i, p in enumerate(who.net.parameters()):
                p.add_(0.05 * torch.randn(p.shape, generator=step_generator(i)))
    close(gradient(parts, 2), gradient(whole, 2))


def test_micro_batches_of_a_base_model(
    model: str, family: Family, data: Any, tiny_plan: Plan
) -> None:
    settings = tiny_plan.tier.models[model].base
    whole, parts = (
        base_trainee(family, settings, *data, 10, share) for share in (Share(), Share(5))
    )
    for who in (whole, parts):
        with torch.no_grad():
            for i, p in enumerate(who.net.parameters()):
                p.add_(0.05 * torch.randn(p.shape, generator=step_generator(i)))
    close(gradient(parts, 2), gradient(whole, 2))


def test_one_graph_lives_at_a_time(
    model: str, family: Family, data: Any, trained: Trained, tiny_plan: Plan
) -> None:
    """Micro-batches are computed when they are asked for, each seeing (1 + K) of its rows."""
    who, _ = tuned(tiny_plan, family, trained, model, "mclr", data, share=Share(2))
    rows: list[int] = []
    who.net.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    parts = iter(who.losses(0))
    next(parts)
    assert rows == [5 * 2]
    list(parts)
    assert rows == [5 * 2] * 4


def test_shares_cover_the_minibatch_once() -> None:
    rows = [part for rank in range(3) for part in Share(2, rank, 3).parts(8)]
    assert torch.equal(torch.cat(rows), torch.arange(8)) and max(map(len, rows)) == 2
    with pytest.raises(UserError, match="batch 2: fewer samples than the 3 processes"):
        Share(size=3).parts(2)


def test_labels_dropped_by_cca(
    model: str, family: Family, data: Any, trained: Trained, tiny_plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With uncond_ratio 1 every label is the null label, and all rewards count as positive."""
    settings = tiny_plan.finetune_spec(f"{model}-cca-seed0").run
    base = load_network(family, trained.base(model))
    seen: list[Tensor] = []

    def log_likelihood(net: Any, x: Tensor, labels: Tensor, draw: Any) -> Tensor:
        seen.append(labels)
        return torch.zeros(len(labels), requires_grad=True)

    monkeypatch.setattr(family, "log_likelihood", log_likelihood)
    for ratio, loss in ((0.999999999, 2.0), (0.0, 1.5)):
        objective = settings.objective.model_copy(update={"uncond_ratio": ratio})
        run = settings.model_copy(update={"objective": objective})
        who = finetune_trainee(family, base, run, 0, Samples(*data, 10))
        expected = loss * torch.log(torch.tensor(2.0)).item()
        assert loss_of(who, 0).value.item() == pytest.approx(expected, rel=1e-6)
        assert all((labels == 10).all().item() == (ratio > 0) for labels in seen)
        seen.clear()


def test_distillation_approaches_the_guided_base(
    model: str, family: Family, data: Any, trained: Trained, tiny_plan: Plan, tmp_path: Any
) -> None:
    """On other samples than it trains on; of a base that has weights in which labels count."""
    base = load_network(family, trained.base(model))
    for i, p in enumerate(base.parameters()):
        p.add_(0.3 * torch.randn(p.shape, generator=step_generator(i)))
    family.after_step(base)
    settings = finetune_spec(tiny_plan, model, "distill").run
    who = finetune_trainee(family, base, settings, 0, Samples(*data, 10))
    x, labels = data[0][20:], data[1][20:]
    draw = family.draw(x, step_generator(5))
    with torch.no_grad():
        own, null = (family.predict(base, x, c, draw) for c in (labels, labels * 0 + 10))
    teacher = own.guided(null, 1.5)

    def distance() -> float:
        return family.predict(who.net, x, labels, draw).divergence(teacher).mean().item()

    before = distance()
    for step in range(8):
        _step(who, step, 0, "distill", StateFolder(tmp_path, "key"))
    assert distance() < 0.9 * before


def test_gft_drops_one_label_in_ten(
    model: str, family: Family, data: Any, trained: Trained, tiny_plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """And asks for the null label of every sample beside it."""
    who, _ = tuned(tiny_plan, family, trained, model, "gft", data)
    seen, real = [], family.predict

    def predict(net: Any, x: Tensor, labels: Tensor, draw: Any) -> Any:
        seen.append((labels, torch.is_grad_enabled()))
        return real(net, x, labels, draw)

    monkeypatch.setattr(family, "predict", predict)
    who, _ = tuned(tiny_plan, family, trained, model, "gft", data)
    for step in range(40):
        loss_of(who, step)
    constant = torch.cat([labels for labels, grad in seen if not grad])
    learnt = torch.cat([labels for labels, grad in seen if grad])
    assert len(constant) == len(learnt) == 40 * 8 and (constant == 10).all()
    assert (learnt == 10).float().mean().item() == pytest.approx(0.1, abs=0.05)


def test_gft_with_a_dial_draws_a_value_for_every_sample(
    model: str, family: Family, data: Any, trained: Trained, tiny_plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """β uniform in (0, 1], anew at each step; the null label is asked where the dial rests."""
    said: dict[bool, list[Tensor | None]] = {True: [], False: []}
    real = family.predict

    def predict(net: Any, x: Tensor, labels: Tensor, draw: Any) -> Any:
        said[torch.is_grad_enabled()].append(draw.dial)
        return real(net, x, labels, draw)

    monkeypatch.setattr(family, "predict", predict)
    spec = tiny_plan.finetune_spec(f"{model}-mclr-seed0")
    run = edited(spec, run={"objective": {"name": "gft", "beta": "input"}}).run
    who = finetune_trainee(family, load_network(family, trained.base(model)), run, 0,
                           Samples(*data, 10))  # fmt: skip
    for step in range(40):
        loss_of(who, step)
    assert said[False] == [None] * 40
    values = torch.cat([value for value in said[True] if value is not None])
    assert len(values.unique()) == len(values) == 40 * 8
    assert 0 < values.min() < 0.05 and 0.95 < values.max() <= 1
    assert values.mean().item() == pytest.approx(0.5, abs=0.06)  # 3.7 standard errors


def weighted(
    plan: Plan, family: Family, trained: Trained, data: Any, share: Share = WHOLE
) -> Trainee:
    """Weighted MCLR on the tiny EDM2."""
    objective = {"name": "wmclr", "dsm": 0.5, "K": 3, "draws": 2}
    run = edited(plan.finetune_spec("edm2-mclr-seed0"), run={"objective": objective}).run
    base = load_network(family, trained.edm2)
    return finetune_trainee(family, base, run, 0, Samples(*data, 10), share=share)


@pytest.mark.parametrize("model", ["edm2"], indirect=True)
def test_weighted_mclr(
    family: Family, data: Any, trained: Trained, tiny_plan: Plan, tmp_path: Any
) -> None:
    """The same gradient in micro-batches, no more rows of the policy than MCLR, and it trains."""
    whole, parts = (
        weighted(tiny_plan, family, trained, data, share) for share in (WHOLE, Share(3))
    )
    expected = gradient(whole, 2)
    assert 0 < expected[1]["weight"] <= 10
    close(gradient(parts, 2), expected)
    rows: list[int] = []
    whole.net.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    loss_of(whole, 0)
    assert rows == [4 * 8]  # as MCLR: the weight costs evaluations of the base model alone
    terms = _step(whole, 0, 0, "wmclr", StateFolder(tmp_path, "key"))
    assert {"weight", "log_ratio", "log_likelihood", "accuracy"} < terms.keys()


@pytest.mark.parametrize("model", ["var"], indirect=True)
def test_weighted_mclr_needs_noise(
    family: Family, data: Any, trained: Trained, tiny_plan: Plan
) -> None:
    objective = {"name": "wmclr", "dsm": 0.5}
    run = edited(tiny_plan.finetune_spec("var-mclr-seed0"), run={"objective": objective}).run
    base = load_network(family, trained.var)
    who = finetune_trainee(family, base, run, 0, Samples(*data, 10))
    with pytest.raises(UserError, match="wmclr needs a diffusion model"):
        loss_of(who, 0)


def test_priors_are_the_shares_of_the_classes() -> None:
    samples = Samples(torch.zeros(4, 1), torch.tensor([0, 2, 2, 2]), 4)
    assert samples.priors.tolist() == [0.25, 0, 0.75, 0]


def test_base_settings_are_typed(tiny_plan: Plan) -> None:
    assert tiny_plan.base_spec("edm2").base == tiny_plan.tier.models["edm2"].base
    assert tiny_plan.base_spec("var").base == tiny_plan.tier.models["var"].base


def test_labels_are_dropped_to_the_null_label(
    model: str, family: Family, data: Any, tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About one label in two becomes ``classes``; the others stay with their images."""
    seen: list[tuple[Tensor, Tensor]] = []

    def base_loss(net: Any, x: Tensor, labels: Tensor, draw: Any) -> Tensor:
        seen.append((x, labels))
        return torch.zeros(())

    monkeypatch.setattr(family, "base_loss", base_loss)
    settings = tiny_plan.tier.models[model].base.model_copy(update={"label_dropout": 0.5})
    x, labels = torch.arange(40.0).view(40, 1, 1, 1), data[1]
    who = base_trainee(family, settings, x, labels, 10) if model == "edm2" else None
    if who is None:
        who = base_trainee(family, settings, torch.arange(40)[:, None], labels, 10)
    for step in range(50):
        loss_of(who, step)
    rows = torch.cat([x.flatten().long() for x, _ in seen])
    found = torch.cat([labels for _, labels in seen])
    dropped = found == 10
    assert dropped.float().mean().item() == pytest.approx(0.5, abs=0.08)
    assert torch.equal(found[~dropped], labels[rows[~dropped]])


def test_optimisers_of_base_models(model: str, family: Family, data: Any, tiny_plan: Plan) -> None:
    settings = tiny_plan.tier.models[model].base
    who = base_trainee(family, settings, data[0], data[1], 10)
    defaults = who.optimizer.defaults
    if isinstance(tiny_plan.tier.models[model], Edm2Model):
        assert (type(who.optimizer), defaults["betas"]) == (torch.optim.Adam, (0.9, 0.99))
        assert who.learning_rate(0) == 0.0 and who.ema is not None and who.ema_std == 0.1
        weight = next(p for n, p in who.net.named_parameters() if n.endswith("conv_res0.weight"))
        norms = weight.flatten(1).norm(dim=1) / weight[0].numel() ** 0.5
        torch.testing.assert_close(norms, torch.ones_like(norms), rtol=1e-3, atol=0)
    else:
        assert (type(who.optimizer), defaults["betas"]) == (torch.optim.AdamW, (0.9, 0.95))
        assert defaults["weight_decay"] == 0.05
        assert who.learning_rate(0) == pytest.approx(0.005) and who.ema is None

"""Distillation, GFT and MG: as written out row by row, and at rest where guidance is.

Exact worlds are enumerated: a minibatch holds every sample as often as it is likely, a network is a
table, so that gradients are those of the expectation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from naive import (
    NULL,
    RAMP,
    SIGMA_DATA,
    Toy,
    distillation,
    guidance_free,
    model_guidance,
    toy,
)
from torch import Tensor, nn

from mclr.errors import UserError
from mclr.likelihood import Draw
from mclr.likelihood.masks import Masks
from mclr.likelihood.prediction import Denoised, Logits, Prediction
from mclr.objectives import Distill, Gft, Mg
from mclr.objectives.distill import distill_loss
from mclr.objectives.gft import gft_loss
from mclr.objectives.loss import Batch, Loss, Predict, Predictions
from mclr.objectives.mg import mg_loss

FAMILIES = ("diffusion", "autoregressive")
LABELS = [0, 1, 1, 2, 0, NULL, 1]
GAMMA, BETA, W = 1.5, 0.4, 0.6
"""One and the same guidance: γ = 1/β − 1 = w/(1 − w)."""

Run = Callable[..., Loss]
"""(predictions, batch, part) -> loss."""
RUNS: dict[str, Run] = {
    "distill": lambda *given: distill_loss(Distill(name="distill", gamma=GAMMA), *given),
    "gft": lambda *given: gft_loss(Gft(name="gft", beta=BETA), *given),
    "mg": lambda *given: mg_loss(Mg(name="mg", w=W), *given),
}


def written_out(nets: Toy, name: str, batch: Batch) -> Tensor:
    says, base = nets.one_said(nets.policy), nets.one_said(nets.reference)
    ramp = torch.tensor((1.0,) if nets.diffusion else RAMP, dtype=torch.float64)[:, None]
    if name == "distill":
        return distillation(says, base, batch, NULL, GAMMA, ramp, SIGMA_DATA)
    if name == "gft":
        return guidance_free(says, batch, NULL, BETA, ramp, SIGMA_DATA)
    return model_guidance(says, batch, NULL, W, ramp, SIGMA_DATA)


def every(batch: Batch) -> Tensor:
    return torch.arange(len(batch.labels))


def assert_equal(net: nn.Module, found: Tensor, expected: Tensor) -> None:
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    parameters = list(net.parameters())
    ours = torch.autograd.grad(found, parameters)
    naive = torch.autograd.grad(expected, parameters)
    for a, b in zip(ours, naive, strict=True):
        assert b.abs().max() > 0
        assert (a - b).abs().max() <= 1e-12 * max(1.0, b.abs().max().item())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", RUNS)
def test_it_is_its_formula(family: str, name: str) -> None:
    """Row by row; one sample has lost its label."""
    nets = toy(family)
    batch = nets.batch(LABELS)
    found = RUNS[name](nets.predictions(), batch, every(batch))
    assert_equal(nets.policy, found.value, written_out(nets, name, batch))
    own = nets.library(nets.policy)(batch.x, batch.labels, batch.draw).mean().item()
    assert found.terms == {"log_likelihood": pytest.approx(own, rel=1e-14)}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", RUNS)
def test_losses_of_parts_add_up(family: str, name: str) -> None:
    nets = toy(family)
    batch, run = nets.batch(LABELS), RUNS[name]
    parts = [torch.tensor([5, 0]), torch.tensor([1, 2, 6]), torch.tensor([3]), torch.tensor([4])]
    whole = run(nets.predictions(), batch, every(batch))
    shares = [run(nets.predictions(), batch, part) for part in parts]
    assert_equal(nets.policy, torch.stack([s.value for s in shares]).sum(), whole.value)
    summed = sum(float(share.terms["log_likelihood"]) for share in shares)
    assert summed == pytest.approx(float(whole.terms["log_likelihood"]), rel=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_guidance_they_are_likelihood_training(family: str) -> None:
    """GFT at β = 1; and a teacher that is not guided is copied at its own loss 0."""
    nets = toy(family)
    batch = nets.batch(LABELS)
    own = -nets.library(nets.policy)(batch.x, batch.labels, batch.draw).mean()
    found = gft_loss(Gft(name="gft", beta=1), nets.predictions(), batch, every(batch))
    assert_equal(nets.policy, found.value, own)
    same = toy(family, same=True)
    barely = Distill(name="distill", gamma=1e-12)
    value = distill_loss(barely, same.predictions(), batch, every(batch)).value.item()
    assert value == pytest.approx(0, abs=1e-12)


def test_no_gradient_reaches_what_is_not_the_policy_under_its_label() -> None:
    nets = toy("diffusion")
    nets.reference.requires_grad_(True)
    batch = nets.batch([0, 1, 2])  # nobody has the null label
    for run in RUNS.values():
        nets.policy.zero_grad()
        run(nets.predictions(), batch, every(batch)).value.backward()
        assert all(p.grad is None for p in nets.reference.parameters())
        assert nets.policy.c.grad is not None  # type: ignore[union-attr]
        assert torch.equal(nets.policy.c.grad[NULL], torch.zeros(4, dtype=torch.float64))  # type: ignore


def test_mg_moves_the_target_by_the_average() -> None:
    nets, other = toy("diffusion"), toy("diffusion").reference
    batch = nets.batch(LABELS)
    said = nets.predictions()
    by_average = Predictions(said.policy, nets.predict(other), said.reference, NULL)
    found = RUNS["mg"](by_average, batch, every(batch)).value
    assert found.item() != pytest.approx(RUNS["mg"](said, batch, every(batch)).value.item())
    (gradient,) = torch.autograd.grad(found, [nets.policy.w])  # type: ignore[list-item]
    assert gradient.abs().max() > 0


def test_a_network_that_guides_the_base_guides_the_teacher() -> None:
    """With its labels, and without dropout, as samplers ask it; GFT and MG never ask it."""
    nets, other = toy("diffusion"), toy("diffusion").policy
    batch = nets.batch(LABELS)
    batch = replace(batch, draw=replace(batch.draw, masks=Masks(torch.arange(7), 0.5)))
    said, asked = nets.predictions(), []

    def guide(x: Tensor, labels: Tensor, draw: Draw) -> Prediction:
        asked.append((labels, draw.masks))
        return nets.predict(other)(x, labels, draw)

    guided = replace(said, guide=guide)
    found = RUNS["distill"](guided, batch, every(batch)).value
    assert len(asked) == 1 and torch.equal(asked[0][0], batch.labels) and asked[0][1] is None
    own, theirs = (p(batch.x, batch.labels, batch.draw) for p in (said.reference, guide))
    teacher = own.values + GAMMA * (own.values - theirs.values)
    policy = said.policy(batch.x, batch.labels, batch.draw)
    expected = policy.divergence(replace(policy, values=teacher)).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    assert found.item() != pytest.approx(RUNS["distill"](said, batch, every(batch)).value.item())
    for name in ("gft", "mg"):
        values = [RUNS[name](p, batch, every(batch)).value.item() for p in (said, guided)]
        assert values[0] == values[1]
    assert len(asked) == 2  # the second one was this test's


def test_to_adam_mg_without_an_average_is_gft_at_one_noise_weight() -> None:
    """Of a denoiser MG's gradient at w is GFT's at β = 1 − w, divided by β."""
    nets = toy("diffusion")
    batch, parameters = nets.batch(LABELS), list(nets.policy.parameters())
    gft, mg = (
        torch.autograd.grad(RUNS[name](nets.predictions(), batch, every(batch)).value, parameters)
        for name in ("gft", "mg")
    )
    for a, b in zip(gft, mg, strict=True):
        torch.testing.assert_close(a / BETA, b, rtol=1e-12, atol=1e-14)


# ------------------------------------------------------------------ at the optimum


class Table(nn.Module):
    """Denoised values (C + 1, Y), or logits (C + 1, prefixes, V): a number for each place."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(values.clone())


@dataclass(frozen=True)
class Exact:
    """An enumerated world: a batch of all that happens, the exact model, its CFG at γ.

    predict: of a table; the batch holds every sample once with and once without its label.
    """

    batch: Batch
    model: Tensor
    guided: Tensor
    predict: Callable[[Table], Predict]

    def predictions(self, policy: Table) -> Predictions:
        said = self.predict(policy)
        base = self.predict(Table(self.model).requires_grad_(False))
        return Predictions(said, said, base, len(self.model) - 1)

    def distance(self, policy: Table) -> float:
        """Mean divergence from CFG under the labels."""
        x, labels, draw = self.batch.x, self.batch.labels, self.batch.draw
        teacher = self.predict(Table(self.guided))(x, labels, draw)
        return self.predict(policy)(x, labels, draw).divergence(teacher).mean().item()


def with_null(labels: Tensor, null: int) -> tuple[Tensor, Tensor]:
    """Rows and labels of all samples with, then without, their labels."""
    rows = torch.arange(len(labels)).repeat(2)
    return rows, torch.cat([labels, torch.full_like(labels, null)])


def integers() -> Exact:
    """x in 0…3 with x + ε, ε in −1, 0, 1; three classes: how often each x is of each class."""
    counts = torch.tensor([[3, 2, 1, 1], [1, 1, 4, 2], [1, 3, 1, 2]])
    samples = [(c, x) for c in range(3) for x in range(4) for _ in range(int(counts[c, x]))]
    every = torch.tensor([(c, x, e) for c, x in samples for e in (-1, 0, 1)])
    labels, x, epsilon = every.unbind(1)
    rows, labels = with_null(labels, 3)
    x, epsilon = x[rows].double(), epsilon[rows].double()
    place = (x + epsilon + 1).long()
    model = torch.zeros(4, 6, dtype=torch.float64)
    for c in range(4):
        for y in range(6):
            model[c, y] = x[(labels == c) & (place == y)].mean()
    draw = Draw(torch.ones(len(x), dtype=torch.float64), epsilon.view(-1, 1, 1, 1))

    def predict(table: Table) -> Predict:
        def said(x: Tensor, labels: Tensor, draw: Draw) -> Prediction:
            assert draw.sigma is not None and draw.epsilon is not None
            y = (x + draw.epsilon + 1).long()
            return Denoised(table.values[labels.view(-1, 1, 1, 1), y], draw.sigma, SIGMA_DATA)

        return said

    batch = Batch(x.view(-1, 1, 1, 1), labels, draw)
    return Exact(batch, model, model + GAMMA * (model - model[3]), predict)


def pairs() -> Exact:
    """Two tokens of three codes, the second after each first; guidance doubles from one to two."""
    generator = torch.Generator().manual_seed(3)
    counts = torch.randint(1, 6, (3, 3, 3), generator=generator)
    places = torch.cartesian_prod(*[torch.arange(3)] * 3)  # class, first, second
    labels, first, second = places.repeat_interleave(counts.flatten(), dim=0).unbind(1)
    tokens = torch.stack([first, second], 1)
    rows, labels = with_null(labels, 3)
    ramp = torch.tensor([[0.5], [1.0]], dtype=torch.float64)
    joint = torch.cat([counts, counts.sum(0, keepdim=True)]).double()
    model = torch.cat([joint.sum(2)[:, None], joint], 1).log()  # place 0, and one per first token
    model = model - model.logsumexp(2, keepdim=True)
    strength = torch.tensor([0.5, 1, 1, 1], dtype=torch.float64)[:, None]

    def predict(table: Table) -> Predict:
        def said(x: Tensor, labels: Tensor, draw: Draw) -> Prediction:
            places = torch.stack([torch.zeros_like(x[:, 0]), 1 + x[:, 0]], 1)
            return Logits(table.values[labels[:, None], places], ramp)

        return said

    guided = model + GAMMA * strength * (model - model[3])
    return Exact(Batch(tokens[rows], labels, Draw()), model, guided, predict)


WORLDS = {"diffusion": integers, "autoregressive": pairs}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", RUNS)
def test_the_gradient_is_zero_at_cfg_and_nowhere_near(family: str, name: str) -> None:
    world = WORLDS[family]()
    run, rows = RUNS[name], every(world.batch)

    def slope(values: Tensor) -> float:
        policy = Table(values)
        (found,) = torch.autograd.grad(
            run(world.predictions(policy), world.batch, rows).value, [policy.values]
        )
        return found.abs().max().item()

    assert slope(world.guided) < 1e-14
    assert slope(world.model) > 1e-3
    assert slope(world.model + 0.9 * (world.guided - world.model)) > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", RUNS)
def test_training_goes_from_the_exact_model_to_its_cfg(family: str, name: str) -> None:
    """Down the loss alone; after a few steps nearer, in the end there, and the null label stays."""
    world = WORLDS[family]()
    policy, rows = Table(world.model), every(world.batch)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.05)
    distances = [world.distance(policy)]
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 600)
        optimizer.zero_grad()
        RUNS[name](world.predictions(policy), world.batch, rows).value.backward()
        optimizer.step()
        distances.append(world.distance(policy))
    assert distances[5] < 0.9 * distances[0]
    assert distances[-1] < 1e-4 * distances[0]


# ------------------------------------------------------------------ β as an input

BETAS = torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64)


def along_the_dial(world: Exact, values: Tensor) -> tuple[Exact, Tensor]:
    """The world with every sample at every β, and CFG at γ = 1/β − 1 for each, (B, …).

    values (B, …): what a network says at each β; without a value at β = 1.
    """
    n, many = len(world.batch.labels), len(BETAS)
    batch = world.batch.take(torch.arange(n).repeat(many))
    draw = replace(batch.draw, dial=BETAS.repeat_interleave(n))
    strength = (world.guided - world.model) / GAMMA

    def predict(table: Table) -> Predict:
        def said(x: Tensor, labels: Tensor, draw: Draw) -> Prediction:
            if draw.dial is None:
                return world.predict(Part(table.values[-1]))(x, labels, draw)  # type: ignore[arg-type]
            rows = [draw.dial == beta for beta in BETAS]
            found = torch.zeros(())
            for k, chosen in enumerate(rows):
                part = world.predict(Part(table.values[k]))  # type: ignore[arg-type]
                own = part(x[chosen], labels[chosen], draw.take(chosen.nonzero()[:, 0]))
                if found.ndim == 0:
                    found = own.values.new_zeros(len(x), *own.values.shape[1:])
                found = found.index_put((chosen.nonzero()[:, 0],), own.values)
            whole = world.predict(Part(table.values[0]))(x, labels, draw)  # type: ignore[arg-type]
            return replace(whole, values=found)

        return said

    guided = torch.stack([world.model + (1 / beta - 1) * strength for beta in BETAS])
    return Exact(replace(batch, draw=draw), values, guided, predict), guided


@dataclass(frozen=True)
class Part:
    """What a network says at one β, as a table."""

    values: Tensor


@pytest.mark.parametrize("family", FAMILIES)
def test_with_a_dial_the_gradient_is_zero_at_cfg_for_every_value(family: str) -> None:
    exact = WORLDS[family]()
    everywhere = exact.model.expand(len(BETAS), *exact.model.shape)
    world, guided = along_the_dial(exact, everywhere)
    dialled, rows = Gft(name="gft", beta="input"), every(world.batch)

    def slopes(values: Tensor) -> Tensor:
        policy = Table(values)
        said = world.predict(policy)
        given = Predictions(said, said, said, len(exact.model) - 1)
        value = gft_loss(dialled, given, world.batch, rows).value
        (found,) = torch.autograd.grad(value, [policy.values])
        return found.abs().flatten(1).max(1).values

    assert (slopes(guided) < 1e-14).all()
    assert (slopes(everywhere)[:-1] > 1e-4).all()
    assert slopes(everywhere)[-1] < 1e-14  # at β = 1 the model of the data is the optimum
    mixed = torch.stack([guided[1], guided[0], guided[2]])  # each at the other's β
    assert (slopes(mixed)[:-1] > 1e-4).all()


def test_with_a_dial_every_sample_has_its_own_mix() -> None:
    """The same loss as with β fixed, sample by sample; what is said without a label is at rest."""
    nets = toy("diffusion")
    batch = nets.batch(LABELS)
    betas = torch.linspace(0.1, 1, len(LABELS), dtype=torch.float64)
    dialled = replace(batch, draw=replace(batch.draw, dial=betas))
    asked: list[Tensor | None] = []
    said = nets.predict(nets.policy)

    def policy(x: Tensor, labels: Tensor, draw: Draw) -> Prediction:
        asked.append(draw.dial)
        return said(x, labels, draw)

    given = Predictions(policy, policy, policy, NULL)
    found = gft_loss(Gft(name="gft", beta="input"), given, dialled, every(batch)).value
    parts = [
        gft_loss(Gft(name="gft", beta=beta), nets.predictions(), batch, torch.tensor([i])).value
        for i, beta in enumerate(betas.tolist())
    ]
    assert_equal(nets.policy, found, torch.stack(parts).sum())
    assert asked[0] is None and torch.equal(asked[1], betas)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="value of the dial for every sample"):
        gft_loss(Gft(name="gft", beta="input"), given, batch, every(batch))

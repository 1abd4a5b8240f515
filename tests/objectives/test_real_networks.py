"""The objectives on the real networks: tiny EDM2, DiT (float32) and VAR (float64)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_folders import dit_folder, loaded
from naive import (
    LOG2,
    OneRow,
    OneSaid,
    algorithm_1,
    algorithm_2,
    distillation,
    guidance_free,
    model_guidance,
)
from tiny import Trained
from torch import Tensor, nn

from mclr.data.load import Manifest, step_generator
from mclr.likelihood import Draw
from mclr.models.diffusers.family import DiffusersFamily
from mclr.models.families import make_family
from mclr.models.family import Family, load_network
from mclr.objectives import CcDpo, Distill, Gft, Mclr, Mg
from mclr.objectives.ccdpo import ccdpo_loss
from mclr.objectives.contrast import draw_partners
from mclr.objectives.distill import distill_loss
from mclr.objectives.gft import gft_loss
from mclr.objectives.loss import Batch, LogLikelihood, Predictions
from mclr.objectives.mclr import mclr_loss
from mclr.objectives.mg import mg_loss
from mclr.planning.plan import Plan

LABELS = torch.tensor([3, 1, 1, 0])
EVERY = torch.arange(4)


def one_row(family: Family, net: nn.Module) -> OneRow:
    def value(x: Tensor, c: int, draw: Draw, row: int) -> Tensor:
        one = draw.take(torch.tensor([row]))
        return family.log_likelihood(net, x[None], torch.tensor([c]), one)[0]

    return value


def whole(family: Family, net: nn.Module) -> LogLikelihood:
    return lambda x, labels, draw: family.log_likelihood(net, x, labels, draw)


@pytest.fixture(params=["edm2", "var", "dit"])
def case(
    request: Any, trained: Trained, tiny_plan: Plan, manifest: Manifest, tmp_path: Path
) -> Any:
    """Family, reference, a policy beside it, a minibatch, and the tolerance of the dtype."""
    model = request.param
    family: Family
    reference: nn.Module
    if model == "dit":
        family, reference = loaded(dit_folder(tmp_path), manifest)
        reference.requires_grad_(False)
    else:
        family = make_family(tiny_plan.base_spec(model), manifest, trained.tokenizer_of(model))
        reference = load_network(family, trained.base(model))
    policy = copy.deepcopy(reference).requires_grad_(True)
    with torch.no_grad():
        for i, p in enumerate(policy.parameters()):
            p.add_(0.05 * torch.randn(p.shape, generator=step_generator(i)))
    images = torch.randint(256, (4, 1, 8, 8), generator=step_generator(1)).to(torch.uint8)
    x = family.from_encoded(family.encode(images), step_generator(6))
    if model == "var":
        for net in (reference, policy, family.vqvae):  # type: ignore[attr-defined]
            net.double()
    batch = Batch(x, LABELS, family.draw(x, step_generator(2)))
    return family, reference, policy, batch, 1e-12 if model == "var" else 2e-4


def assert_close(net: nn.Module, found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert found.item() == pytest.approx(expected.item(), rel=tolerance, abs=tolerance)
    parameters = [p for p in net.parameters() if p.requires_grad]
    pairs = zip(
        torch.autograd.grad(found, parameters, allow_unused=True),
        torch.autograd.grad(expected, parameters, allow_unused=True),
        strict=True,
    )
    known = [(a, b) for a, b in pairs if b is not None]
    largest = max(b.abs().max().item() for _, b in known)
    assert largest > 0
    assert max((a - b).abs().max().item() for a, b in known) <= tolerance * max(largest, 1)


def test_mclr(case: Any) -> None:
    family, _, policy, batch, tolerance = case
    contrast = draw_partners(batch.labels, 4, step_generator(5))
    found = mclr_loss(Mclr(name="mclr", K=4), whole(family, policy), batch, contrast, EVERY)
    expected = algorithm_1(one_row(family, policy), batch, contrast.index, 0.0)
    assert_close(policy, found.value, expected, tolerance)


def test_ccdpo(case: Any) -> None:
    family, reference, policy, batch, tolerance = case
    beta = 0.01
    objective = CcDpo(name="ccdpo", beta=beta, K=2)
    likelihoods = whole(family, policy), whole(family, reference)
    contrast = draw_partners(batch.labels, 2, step_generator(5))
    found = ccdpo_loss(objective, *likelihoods, batch, contrast, EVERY)
    expected = algorithm_2(
        one_row(family, policy), one_row(family, reference), batch, contrast.index, beta, None
    )
    assert_close(policy, found.value, expected, tolerance)
    at_start = ccdpo_loss(objective, likelihoods[1], likelihoods[1], batch, contrast, EVERY)
    assert at_start.value.item() == pytest.approx(LOG2, rel=1e-6)


def one_said(family: Any, net: Any) -> OneSaid:
    """The network itself: denoised image, or logits."""

    def value(x: Tensor, c: int, draw: Draw, row: int) -> Tensor:
        if draw.sigma is None or draw.epsilon is None:
            logits: Tensor = net(torch.tensor([c]), family.vqvae.tokens_to_input(x[None]))[0]
            return logits
        sigma, one_hot = draw.sigma[row], torch.zeros(1, 11)
        noisy = (x + sigma * draw.epsilon[row])[None]
        if isinstance(family, DiffusersFamily):
            said: Tensor = family.denoiser(net)(noisy, sigma[None], torch.tensor([c]))[0]
            return said
        one_hot[0, c] = 1
        denoised: Tensor = net(noisy, sigma, one_hot[:, :10])[0]
        return denoised

    return value


@pytest.mark.parametrize("name", ["distill", "gft", "mg"])
def test_imitations_of_guidance(case: Any, name: str) -> None:
    """The last sample has lost its label. VAR's scales are guided by 0, γ/2 and γ."""
    family, reference, policy, whole_batch, tolerance = case
    labels = torch.tensor([3, 1, 1, 10])
    batch = Batch(whole_batch.x, labels, whole_batch.draw)
    ramp, data = torch.ones(()), getattr(family, "sigma_data", 0.5)
    if batch.draw.sigma is None:
        spans = [torch.full((p * p, 1), share) for p, share in ((1, 0.0), (2, 0.5), (4, 1.0))]
        ramp = torch.cat(spans).double()
    says, base = one_said(family, policy), one_said(family, reference)
    said = Predictions(
        *(lambda *given, net=net: family.predict(net, *given) for net in (policy, policy)),
        lambda *given: family.predict(reference, *given),
        10,
    )
    if name == "distill":
        found = distill_loss(Distill(name="distill", gamma=1.5), said, batch, EVERY)
        expected = distillation(says, base, batch, 10, 1.5, ramp, data)
    elif name == "gft":
        found = gft_loss(Gft(name="gft", beta=0.4), said, batch, EVERY)
        expected = guidance_free(says, batch, 10, 0.4, ramp, data)
    else:
        found = mg_loss(Mg(name="mg", w=0.6), said, batch, EVERY)
        expected = model_guidance(says, batch, 10, 0.6, ramp, data)
    assert_close(policy, found.value, expected, tolerance)


def test_what_a_family_predicts_has_its_likelihood(case: Any) -> None:
    family, _, policy, batch, tolerance = case
    arguments = batch.x, batch.labels, batch.draw
    found = family.predict(policy, *arguments).log_likelihood(batch.x)
    torch.testing.assert_close(
        found, family.log_likelihood(policy, *arguments), rtol=tolerance, atol=0
    )


def test_five_rows_for_four_partners(case: Any) -> None:
    """MCLR with K = 4: the network sees each sample five times, in one pass."""
    family, _, policy, batch, _ = case
    rows: list[int] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        rows.append(len(getattr(output, "sample", output)))

    policy.register_forward_hook(note)
    contrast = draw_partners(batch.labels, 4, step_generator(5))
    mclr_loss(Mclr(name="mclr", K=4), whole(family, policy), batch, contrast, EVERY)
    assert rows == [5 * len(LABELS)]

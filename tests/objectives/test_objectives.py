"""Every objective equals the paper's algorithm, written out tuple by tuple, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from naive import LOG2, Toy, algorithm_1, algorithm_2, ddo, toy
from torch import Tensor, nn

from mclr.likelihood import Draw
from mclr.objectives import Cca, CcDpo, Ddo, Mclr
from mclr.objectives.cca import cca_loss
from mclr.objectives.ccdpo import ccdpo_loss
from mclr.objectives.contrast import Contrast, draw_partners
from mclr.objectives.ddo import ddo_loss
from mclr.objectives.loss import Batch, LogLikelihood, Loss
from mclr.objectives.mclr import mclr_loss

FAMILIES = ("diffusion", "autoregressive")
LABELS = [0, 1, 1, 2, 0, 4, 1]
Run = Callable[..., Loss]
"""(toy, batch, K, part) -> loss."""


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def cca(K: int, lam: float = 0.7) -> Cca:
    return Cca.model_validate({"name": "cca", "beta": 0.3, "lambda": lam, "K": K})


def both(toy: Toy) -> tuple[LogLikelihood, LogLikelihood]:
    return toy.library(toy.policy), toy.library(toy.reference)


def whole(batch: Batch, part: Tensor | None = None) -> Tensor:
    return torch.arange(len(batch.labels)) if part is None else part


def partners_of(batch: Batch, K: int) -> Contrast:
    return draw_partners(batch.labels, K, rng())


def run_mclr(toy: Toy, batch: Batch, K: int, part: Tensor | None = None, dsm: float = 0.0) -> Loss:
    contrast, policy = partners_of(batch, K), toy.library(toy.policy)
    return mclr_loss(Mclr(name="mclr", K=K, dsm=dsm), policy, batch, contrast, whole(batch, part))


def run_ccdpo(toy: Toy, batch: Batch, K: int, part: Tensor | None = None) -> Loss:
    contrast, objective = partners_of(batch, K), CcDpo(name="ccdpo", beta=0.3, K=K)
    return ccdpo_loss(objective, *both(toy), batch, contrast, whole(batch, part))


def run_cca(toy: Toy, batch: Batch, K: int, part: Tensor | None = None) -> Loss:
    contrast = partners_of(batch, K)
    return cca_loss(cca(K), *both(toy), batch, contrast, whole(batch, part))


def run_ddo(
    toy: Toy, batch: Batch, negatives: Batch, part: Tensor | None = None, alpha: float = 4
) -> Loss:
    objective = Ddo(name="ddo", alpha=alpha, beta=0.3, n_negatives=10)
    return ddo_loss(objective, *both(toy), batch, negatives, whole(batch, part))


RUNS: dict[str, Run] = {"mclr": run_mclr, "ccdpo": run_ccdpo, "cca": run_cca}


def assert_equal(net: nn.Module, found: Tensor, expected: Tensor) -> None:
    """Losses and gradients agree to 1e-12, relative to the largest gradient."""
    assert found.item() == pytest.approx(expected.item(), rel=1e-12, abs=1e-12)
    parameters = list(net.parameters())
    ours = torch.autograd.grad(found, parameters)
    naive = torch.autograd.grad(expected, parameters)
    for a, b in zip(ours, naive, strict=True):
        assert b.abs().max() > 0
        assert (a - b).abs().max() <= 1e-12 * max(1.0, b.abs().max().item())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("K", [1, 4])
@pytest.mark.parametrize("dsm", [0.0, 2.5])
def test_mclr_is_algorithm_1(family: str, K: int, dsm: float) -> None:
    """With dsm > 0 it is Eq. (160)."""
    nets = toy(family)
    batch = nets.batch(LABELS)
    partners = draw_partners(batch.labels, K, rng()).index
    expected = algorithm_1(nets.one_row(nets.policy), batch, partners, dsm)
    assert_equal(nets.policy, run_mclr(nets, batch, K, dsm=dsm).value, expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("K", [1, 4])
@pytest.mark.parametrize("lam", [None, 0.7])
def test_ccdpo_and_cca_are_algorithm_2(family: str, K: int, lam: float | None) -> None:
    nets = toy(family)
    batch = nets.batch(LABELS)
    partners = draw_partners(batch.labels, K, rng()).index
    ell, ell_ref = nets.one_row(nets.policy), nets.one_row(nets.reference)
    expected = algorithm_2(ell, ell_ref, batch, partners, 0.3, lam)
    run = run_ccdpo if lam is None else run_cca
    assert_equal(nets.policy, run(nets, batch, K).value, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_ddo_is_its_formula(family: str) -> None:
    nets = toy(family)
    batch, negatives = nets.batch(LABELS), nets.batch([3, 0, 2, 2, 1, 1, 0], seed=3)
    found = run_ddo(nets, batch, negatives)
    ell, ell_ref = nets.one_row(nets.policy), nets.one_row(nets.reference)
    assert_equal(nets.policy, found.value, ddo(ell, ell_ref, batch, negatives, 0.3, 4))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("labels", [LABELS, [3, 3, 3, 3, 3, 3, 0], [2] * 7])
def test_losses_of_parts_add_up(family: str, labels: list[int]) -> None:
    """Value, gradient and every term of disjoint parts sum to those of the minibatch."""
    parts = [torch.tensor([5, 0]), torch.tensor([1, 2, 6]), torch.tensor([3]), torch.tensor([4])]
    nets = toy(family)
    batch = nets.batch(labels)

    def run_both(part: Tensor | None = None) -> list[Loss]:
        made = [run(nets, batch, 4, part) for run in RUNS.values()]
        return [
            *made, run_mclr(nets, batch, 3, part, dsm=2), run_ddo(nets, batch, batch, part)
        ]  # fmt: skip

    for whole, *shares in zip(run_both(), *map(run_both, parts), strict=True):
        total = torch.stack([share.value for share in shares]).sum()
        if whole.value.item() != 0:
            assert_equal(nets.policy, total, whole.value)
        for name, value in whole.terms.items():
            summed = sum(share.terms[name] for share in shares)
            assert summed == pytest.approx(float(value), rel=1e-12)


def test_negatives_of_another_size() -> None:
    nets = toy("diffusion")
    with pytest.raises(ValueError, match="3 negatives for 7 samples"):
        run_ddo(nets, nets.batch(LABELS), nets.batch([1, 2, 3]))


# ------------------------------------------------------------------ known values


@pytest.mark.parametrize("family", FAMILIES)
def test_values_where_policy_is_reference(family: str) -> None:
    """r = 0: CC-DPO log 2, CCA (1 + λ) log 2, DDO (1 + α) log 2."""
    nets = toy(family, same=True)
    batch = nets.batch(LABELS)
    for loss, value in (
        (run_ccdpo(nets, batch, 2), LOG2),
        (run_cca(nets, batch, 2), 1.7 * LOG2),
        (run_ddo(nets, batch, batch), 5 * LOG2),
    ):
        assert loss.value.item() == pytest.approx(value, rel=1e-14)
        for term in ("reward_preferred", "reward_other", "margin"):
            assert loss.terms[term] == 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_mclr_of_a_network_blind_to_classes(family: str) -> None:
    """ℓ(x, c) = ℓ(x, c̃): the contrast is 0, and with dsm only the likelihood is left."""
    nets = toy(family)
    with torch.no_grad():
        nets.policy.c.copy_(nets.policy.c[:1].expand_as(nets.policy.c))  # type: ignore
    batch = nets.batch(LABELS)
    assert run_mclr(nets, batch, 3).value.item() == 0.0
    own = nets.library(nets.policy)(batch.x, batch.labels, batch.draw).mean().item()
    found = run_mclr(nets, batch, 3, dsm=2.0)
    assert found.value.item() == pytest.approx(-2 * own, rel=1e-14)
    assert found.terms["log_likelihood"] == pytest.approx(own, rel=1e-14)


def fixed(values: list[float]) -> LogLikelihood:
    return lambda x, labels, draw: torch.tensor(values, dtype=torch.float64)


def test_terms_by_hand() -> None:
    """Two samples of two classes, K = 1: rows are positives, then negatives."""
    batch = Batch(torch.zeros(2, 1), torch.tensor([0, 1]), Draw())
    policy, zero = fixed([1.0, 2.0, 4.0, -1.0]), fixed([0.0] * 4)
    contrast, both = draw_partners(batch.labels, 1, rng()), torch.arange(2)
    mclr = mclr_loss(Mclr(name="mclr"), policy, batch, contrast, both)
    assert mclr.value.item() == 0.0  # −mean(1 − 4, 2 + 1)
    assert mclr.terms == {"log_likelihood": 1.5, "log_ratio": 0.0, "accuracy": 0.5}
    dpo = ccdpo_loss(CcDpo(name="ccdpo", beta=2), policy, zero, batch, contrast, both)
    assert dpo.terms == {
        "reward_preferred": 3.0, "reward_other": 3.0, "margin": 0.0, "accuracy": 0.5,
    }  # fmt: skip
    objective = Cca.model_validate({"name": "cca", "beta": 2, "lambda": 1})
    nce = cca_loss(objective, policy, zero, batch, contrast, both)
    assert nce.terms == dpo.terms
    ddo = Ddo(name="ddo", alpha=1, beta=2, n_negatives=2)
    made = ddo_loss(ddo, policy, zero, batch, batch, both)
    assert made.terms == {
        "reward_preferred": 3.0, "reward_other": 3.0, "margin": 0.0, "accuracy": 0.75,
    }  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_raises_the_contrast(family: str) -> None:
    """A small step down each loss makes x likelier under c than under c̃."""
    for run in RUNS.values():
        nets = toy(family)
        batch = nets.batch(LABELS)
        before = run(nets, batch, 4)
        before.value.backward()
        with torch.no_grad():
            for p in nets.policy.parameters():
                assert p.grad is not None
                p.sub_(1e-3 * p.grad)
        after = run(nets, batch, 4)
        assert after.value < before.value
        name = "margin" if "margin" in after.terms else "log_ratio"
        assert after.terms[name] > before.terms[name]


@pytest.mark.parametrize("K", [1, 4])
@pytest.mark.parametrize("beta", [2.0, 4.0])
def test_anchored_mclr_is_at_rest_where_theorem_1_says(K: int, beta: float) -> None:
    """h = p(x|c) + η (p(x|c) − p(x)) with η = C/((C − 1) β): exact, every sample enumerated."""
    counts = torch.tensor([[3, 3, 2, 2, 2], [2, 3, 3, 2, 2], [2, 2, 2, 3, 3]])
    places = torch.cartesian_prod(torch.arange(3), torch.arange(5))
    labels, x = places.repeat_interleave(counts.flatten(), dim=0).unbind(1)
    p = counts.double() / 12
    h = p + 1.5 / beta * (p - p.mean(0))
    assert h.min() > 0
    others = torch.stack([(labels != c).nonzero().flatten() for c in labels])  # all 24 of each
    logits = h.log().requires_grad_()

    def policy(x: Tensor, c: Tensor, draw: Draw) -> Tensor:
        return logits.log_softmax(1)[c, x]

    total = torch.zeros((), dtype=torch.float64)
    for first in range(0, 24, K):
        contrast = Contrast(others[:, first : first + K], torch.ones(36, dtype=torch.bool))
        objective = Mclr(name="mclr", K=K, dsm=beta)
        total = (
            total
            + mclr_loss(
                objective, policy, Batch(x, labels, Draw()), contrast, torch.arange(36)
            ).value
        )
    (slope,) = torch.autograd.grad(total / (24 / K), logits)
    assert slope.abs().max() < 1e-15
    (moved,) = torch.autograd.grad(-policy(x, labels, Draw()).mean(), logits)
    assert moved.abs().max() > 1e-3  # of the likelihood alone


# ------------------------------------------------------------------ awkward minibatches


def test_partners_always_have_another_label() -> None:
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1])
    contrast = draw_partners(labels, 50, rng())
    assert contrast.index.shape == (8, 50) and contrast.valid.all()
    assert (labels[contrast.index] != labels[:, None]).all()
    assert (contrast.index[:7] == 7).all()  # K far above the number of other samples


def test_partners_are_uniform_over_the_other_samples() -> None:
    """Labels are then drawn as often as they occur in the minibatch (Appendix E.2)."""
    labels = torch.tensor([0, 1, 2, 2])
    index = draw_partners(labels, 12_000, rng()).index
    shares = torch.bincount(index[0], minlength=4) / 12_000
    assert shares[0] == 0
    torch.testing.assert_close(shares[1:], torch.full((3,), 1 / 3), rtol=0, atol=0.02)
    assert not torch.equal(index[2], index[3])  # each sample draws for itself


def test_partners_depend_on_the_generator_alone() -> None:
    labels = torch.tensor(LABELS)
    first = draw_partners(labels, 4, rng()).index
    torch.manual_seed(3)
    assert torch.equal(draw_partners(labels, 4, rng()).index, first)
    other = torch.Generator().manual_seed(8)
    assert not torch.equal(draw_partners(labels, 4, other).index, first)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", RUNS)
def test_minibatch_of_one_class(family: str, name: str) -> None:
    """No tuple exists: loss 0, gradient 0, everything finite."""
    nets = toy(family)
    loss = RUNS[name](nets, nets.batch([3, 3, 3]), 4)
    loss.value.backward()
    assert loss.value.item() == 0.0
    for p in nets.policy.parameters():
        assert p.grad is not None and torch.equal(p.grad, torch.zeros_like(p))
    assert all(torch.isfinite(torch.tensor(v)) for v in loss.terms.values())


def test_minibatch_of_one_class_still_has_its_dsm_term() -> None:
    nets = toy("diffusion")
    batch = nets.batch([3, 3, 3])
    own = nets.library(nets.policy)(batch.x, batch.labels, batch.draw).mean().item()
    found = run_mclr(nets, batch, 4, dsm=0.5).value.item()
    assert found == pytest.approx(-0.5 * own, rel=1e-14)


# ------------------------------------------------------------------ cost


class Rows:
    """Counts the rows a network sees, with and without gradients."""

    def __init__(self, net: nn.Module) -> None:
        self.calls: list[tuple[int, bool]] = []
        net.register_forward_hook(
            lambda module, inputs, output: self.calls.append(
                (len(inputs[0]), torch.is_grad_enabled())
            )
        )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("K", [1, 4])
def test_rows_of_each_objective(family: str, K: int) -> None:
    """MCLR: (1 + K)·N and no reference; CC-DPO, CCA: as many again without gradients; DDO: 2·N."""
    nets = toy(family)
    batch, N = nets.batch(LABELS), len(LABELS)
    policy, reference = Rows(nets.policy), Rows(nets.reference)
    run_mclr(nets, batch, K)
    assert (policy.calls, reference.calls) == ([((1 + K) * N, True)], [])
    for run in (run_ccdpo, run_cca):
        policy.calls.clear()
        reference.calls.clear()
        run(nets, batch, K)
        assert policy.calls == [((1 + K) * N, True)]
        assert reference.calls == [((1 + K) * N, False)]
    policy.calls.clear()
    reference.calls.clear()
    run_ddo(nets, batch, batch)
    assert (policy.calls, reference.calls) == ([(2 * N, True)], [(2 * N, False)])


@pytest.mark.parametrize("name", ["ccdpo", "cca"])
def test_no_gradient_reaches_the_reference(name: str) -> None:
    nets = toy("diffusion")
    nets.reference.requires_grad_(True)
    RUNS[name](nets, nets.batch(LABELS), 2).value.backward()
    assert all(p.grad is None for p in nets.reference.parameters())

"""Fine-tuning with a contrastive objective, from the base model and against it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from mclr.config.objectives import Cca, CcDpo, Ddo, FineTuning, Mclr, Wmclr
from mclr.data.load import minibatch, step_generator
from mclr.device import fused, move
from mclr.errors import UserError
from mclr.likelihood import LevelDraw, draw_levels
from mclr.models.family import Family
from mclr.objectives.base import Batch, LogLikelihood, Loss
from mclr.objectives.cca import cca_loss
from mclr.objectives.ccdpo import ccdpo_loss
from mclr.objectives.contrast import Contrast, draw_partners
from mclr.objectives.ddo import ddo_loss
from mclr.objectives.mclr import mclr_loss
from mclr.objectives.wmclr import NoisyLikelihood, wmclr_loss
from mclr.training.share import WHOLE, Share
from mclr.training.trainee import Trainee


@dataclass(frozen=True)
class Samples:
    """What to fine-tune on: x (N, …) and labels (N,) of classes 0 to ``classes`` − 1.

    x is what ``Family.encode`` gives of images; if ``generated``, what the network models.
    """

    x: Tensor
    labels: Tensor
    classes: int
    generated: bool = False

    @property
    def priors(self) -> Tensor:
        """p(c) of each class, (classes,): its share of the samples."""
        return self.labels.bincount(minlength=self.classes) / len(self.labels)


def finetune_trainee(
    family: Family,
    base: nn.Module,
    settings: FineTuning,
    seed: int,
    data: Samples,
    negatives: Samples | None = None,
    share: Share = WHOLE,
) -> Trainee:
    """A copy of ``base`` to fine-tune on ``data``; ``base`` stays as the reference.

    ``negatives`` are samples of the base model, needed by DDO alone. ``base`` is on the family's
    device, where a minibatch at a time goes; the samples stay where they are.
    """
    device = family.device
    net = copy.deepcopy(base).train().requires_grad_(True)
    family.after_step(net)
    share.prepare(net)
    frozen = family.frozen(base)
    share.prepare(frozen)
    policy, reference = _log_likelihood(family, net), _log_likelihood(family, frozen)
    priors = data.priors.to(device)

    def batch_of(source: Samples, step: int, stream: int) -> Batch:
        rows = minibatch(len(source.x), settings.batch, step, seed + (stream << 16))
        x, rng = source.x[rows], step_generator(seed, step, stream)
        if not source.generated:
            x = family.from_encoded(x, rng)
        return Batch(x, source.labels[rows], family.draw(x, rng))

    def partners(batch: Batch, K: int, rng: torch.Generator) -> Contrast:
        return draw_partners(batch.labels, K, rng).to(device)

    def loss_of_step(step: int) -> Callable[[Tensor], Loss]:
        drawn, rng = batch_of(data, step, 3), step_generator(seed, step, 4)
        batch = drawn.to(device)
        match settings.objective:
            case Mclr() as objective:
                contrast = partners(drawn, objective.K, rng)
                return partial(mclr_loss, objective, policy, batch, contrast)
            case Wmclr() as objective:
                contrast = partners(drawn, objective.K, rng)
                noisy = _noisy_likelihood(family, frozen, batch, objective.draws, rng)
                return partial(wmclr_loss, objective, policy, noisy, priors, batch, contrast)
            case CcDpo() as objective:
                contrast = partners(drawn, objective.K, rng)
                return partial(ccdpo_loss, objective, policy, reference, batch, contrast)
            case Cca() as objective:
                contrast = partners(drawn, objective.K, rng)
                dropped = torch.rand(len(batch.labels), generator=rng) < objective.uncond_ratio
                dropped = move(dropped, device)
                labels = torch.where(dropped, data.classes, batch.labels)
                batch = replace(batch, labels=labels)
                return partial(
                    cca_loss, objective, policy, reference, batch, contrast, unconditional=dropped
                )
            case Ddo() as objective:
                if negatives is None:
                    raise UserError("DDO needs samples of the base model: give --negatives")
                made = batch_of(negatives, step, 5).to(device)
                return partial(ddo_loss, objective, policy, reference, batch, made)

    def losses(step: int) -> Iterator[Loss]:
        return map(loss_of_step(step), share.parts(settings.batch, device))

    # Adam as EDM2 trains; the paper does not publish its optimiser.
    optimizer = torch.optim.Adam(net.parameters(), betas=(0.9, 0.99), fused=fused(device))
    return Trainee(
        net,
        optimizer,
        lambda step: settings.lr,
        losses,
        family.after_step,
        pass_size=share.pass_size(settings.batch),
    )


def _log_likelihood(family: Family, net: nn.Module) -> LogLikelihood:
    return lambda x, labels, draw: family.log_likelihood(net, x, labels, draw)


def _noisy_likelihood(
    family: Family, frozen: nn.Module, batch: Batch, draws: int, rng: torch.Generator
) -> NoisyLikelihood:
    """log p_t(x_t|c) of the noisy minibatch by the base model; all labels share the draws."""
    sigma, epsilon = batch.draw.sigma, batch.draw.epsilon
    if not family.has_noise_levels or sigma is None or epsilon is None:
        raise UserError("wmclr needs a diffusion model; fine-tune this one with mclr")
    x_t = batch.x + sigma.view(-1, 1, 1, 1) * epsilon
    levels = draw_levels(x_t, draws, rng)

    def values(candidates: Tensor, part: Tensor) -> Tensor:
        rows = part.repeat_interleave(candidates.shape[1])
        drawn = LevelDraw(levels.u[:, rows], levels.epsilon[:, rows])
        labels = candidates.flatten()
        found = family.noisy_log_likelihood(frozen, x_t[rows], sigma[rows], labels, drawn)
        return found.view_as(candidates)

    return values

"""Fine-tuning with a contrastive objective, from the base model and against it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from mclr.config import Cca, CcDpo, Ddo, FineTuning, Mclr
from mclr.data.load import minibatch, step_generator
from mclr.errors import UserError
from mclr.models.family import Family
from mclr.objectives.base import Batch, LogLikelihood, Loss
from mclr.objectives.cca import cca_loss
from mclr.objectives.ccdpo import ccdpo_loss
from mclr.objectives.contrast import draw_partners
from mclr.objectives.ddo import ddo_loss
from mclr.objectives.mclr import mclr_loss
from mclr.training.loop import Trainee
from mclr.training.share import WHOLE, Share


@dataclass(frozen=True)
class Samples:
    """What to fine-tune on: x (N, …) and labels (N,) of classes 0 to ``classes`` − 1."""

    x: Tensor
    labels: Tensor
    classes: int


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

    ``negatives`` are samples of the base model, needed by DDO alone.
    """
    net = copy.deepcopy(base).train().requires_grad_(True)
    family.after_step(net)
    policy, reference = _log_likelihood(family, net), _log_likelihood(family, base)

    def batch_of(source: Samples, step: int, stream: int) -> Batch:
        rows = minibatch(len(source.x), settings.batch, step, seed + (stream << 16))
        draw = family.draw(source.x[rows], step_generator(seed, step, stream))
        return Batch(source.x[rows], source.labels[rows], draw)

    def loss_of_step(step: int) -> Callable[[Tensor], Loss]:
        batch, rng = batch_of(data, step, 3), step_generator(seed, step, 4)
        match settings.objective:
            case Mclr() as objective:
                contrast = draw_partners(batch.labels, objective.K, rng)
                return partial(mclr_loss, objective, policy, batch, contrast)
            case CcDpo() as objective:
                contrast = draw_partners(batch.labels, objective.K, rng)
                return partial(ccdpo_loss, objective, policy, reference, batch, contrast)
            case Cca() as objective:
                contrast = draw_partners(batch.labels, objective.K, rng)
                batch, dropped = _drop_labels(batch, objective.uncond_ratio, data.classes, rng)
                return partial(
                    cca_loss, objective, policy, reference, batch, contrast, unconditional=dropped
                )
            case Ddo() as objective:
                if negatives is None:
                    raise UserError("DDO needs samples of the base model: give --negatives")
                made = batch_of(negatives, step, 5)
                return partial(ddo_loss, objective, policy, reference, batch, made)

    def losses(step: int) -> Iterator[Loss]:
        return map(loss_of_step(step), share.parts(settings.batch))

    # Adam as EDM2 trains; the paper does not publish its optimiser.
    optimizer = torch.optim.Adam(net.parameters(), betas=(0.9, 0.99))
    return Trainee(net, optimizer, lambda step: settings.lr, losses, family.after_step)


def _log_likelihood(family: Family, net: nn.Module) -> LogLikelihood:
    return lambda x, labels, draw: family.log_likelihood(net, x, labels, draw)


def _drop_labels(
    batch: Batch, ratio: float, null_label: int, rng: torch.Generator
) -> tuple[Batch, Tensor]:
    """The batch with each label replaced by the null label with probability ``ratio``; which."""
    dropped = torch.rand(len(batch.labels), generator=rng) < ratio
    return replace(batch, labels=torch.where(dropped, null_label, batch.labels)), dropped

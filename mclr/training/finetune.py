"""Fine-tuning with a contrastive objective, from the base model and against it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mclr.config import Cca, CcDpo, Ddo, FineTuning, Mclr
from mclr.data.load import minibatch, step_generator
from mclr.errors import UserError
from mclr.models.family import Family
from mclr.objectives.base import Batch, LogLikelihood, Loss
from mclr.objectives.cca import cca_loss
from mclr.objectives.ccdpo import ccdpo_loss
from mclr.objectives.ddo import ddo_loss
from mclr.objectives.mclr import mclr_loss
from mclr.training.loop import Trainee


def finetune_trainee(
    family: Family,
    base: nn.Module,
    settings: FineTuning,
    seed: int,
    data: tuple[Tensor, Tensor],
    negatives: tuple[Tensor, Tensor] | None,
) -> Trainee:
    """A copy of ``base`` to fine-tune on data (x, labels); ``base`` stays as the reference.

    ``negatives`` are samples of the base model with their labels, needed by DDO alone.
    """
    net = copy.deepcopy(base).train().requires_grad_(True)
    family.after_step(net)
    policy, reference = _log_likelihood(family, net), _log_likelihood(family, base)

    def batch_of(source: tuple[Tensor, Tensor], step: int, stream: int) -> Batch:
        x, labels = source
        rows = minibatch(len(x), settings.batch, step, seed + (stream << 16))
        draw = family.draw(x[rows], step_generator(seed, step, stream))
        return Batch(x[rows], labels[rows], draw)

    def loss(step: int) -> Loss:
        batch, rng = batch_of(data, step, 3), step_generator(seed, step, 4)
        match settings.objective:
            case Mclr() as objective:
                return mclr_loss(objective, policy, reference, batch, rng)
            case CcDpo() as objective:
                return ccdpo_loss(objective, policy, reference, batch, rng)
            case Cca() as objective:
                return cca_loss(objective, policy, reference, batch, rng)
            case Ddo() as objective:
                if negatives is None:
                    raise UserError("DDO needs samples of the base model: give --negatives")
                return ddo_loss(objective, policy, reference, batch, batch_of(negatives, step, 5))

    # Adam as EDM2 trains; the paper does not publish its optimiser.
    optimizer = torch.optim.Adam(net.parameters(), betas=(0.9, 0.99))
    return Trainee(net, optimizer, lambda step: settings.lr, loss, family.after_step)


def _log_likelihood(family: Family, net: nn.Module) -> LogLikelihood:
    return lambda x, labels, draw: family.log_likelihood(net, x, labels, draw)

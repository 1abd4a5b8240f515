"""Fine-tuning with a contrastive objective, from the base model and against it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor, nn

from mclr.config.objectives import FineTuning
from mclr.models.family import Family
from mclr.objectives.loss import LogLikelihood, Loss
from mclr.training.given import Samples, Steps
from mclr.training.optimizer import make_optimizer
from mclr.training.own_loss import checked_loss
from mclr.training.share import WHOLE, Share
from mclr.training.trainee import Trainee


def finetune_trainee(
    family: Family,
    base: nn.Module,
    settings: FineTuning,
    seed: int,
    data: Samples,
    negatives: Samples | None = None,
    share: Share = WHOLE,
    guide: nn.Module | None = None,
) -> Trainee:
    """A copy of ``base`` to fine-tune on ``data``; ``base`` stays as the reference.

    ``negatives`` are samples of the base model, for objectives that need them. ``guide`` guides it
    in the place of its null label, for objectives that learn from its guidance; as it is sampled
    with, frozen. ``base`` is on the family's device, where a minibatch at a time goes; the samples
    stay where they are.
    """
    device, objective = family.device, settings.objective.loaded()
    # In evaluation mode, as the reference: dropout is the draws' affair, shared by both.
    net = copy.deepcopy(base).eval().requires_grad_(True)
    family.after_step(net)
    net = family.with_dial(net) if objective.needs.dial else net
    share.prepare(net)
    how, last = settings.how, settings.checkpoints[-1]
    # What imitates guidance may learn from the average, whether that is kept or not.
    profile = how.ema if True in how.evaluated or objective.needs.predictions else None
    average = copy.deepcopy(net).requires_grad_(False) if profile else None
    frozen = family.frozen(base)
    share.prepare(frozen)
    policy, reference = _log_likelihood(family, net), _log_likelihood(family, frozen)
    loss = checked_loss(objective)
    steps = Steps(family, net, frozen, settings, seed, data, negatives, average, guide)

    def loss_of_step(step: int) -> Callable[[Tensor], Loss]:
        return partial(loss, steps.given(step, objective.needs, policy, reference))

    def losses(step: int) -> Iterator[Loss]:
        return map(loss_of_step(step), share.parts(settings.batch, device))

    # Adam as EDM2 trains, unless told otherwise; the paper does not publish its optimiser.
    return Trainee(
        net,
        make_optimizer(family, net, how),
        lambda step: settings.lr * how.rate(step, last),
        losses,
        family.after_step,
        average,
        (profile and profile.std) or 0.0,
        pass_size=share.pass_size(settings.batch),
        half_life=((profile and profile.half_life) or 0.0) / settings.batch,
        kept=how.evaluated,
        clip=how.clip,
        weight_decay=lambda step: how.decay(step, last),
    )


def _log_likelihood(family: Family, net: nn.Module) -> LogLikelihood:
    return lambda x, labels, draw: family.log_likelihood(net, x, labels, draw)

"""Base models, trained from scratch: denoising score matching, or maximum likelihood."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from mclr.data.load import minibatch, step_generator
from mclr.models.diffusers.config import DiffusersBase
from mclr.models.edm2.config import Edm2Base
from mclr.models.family import Family
from mclr.models.own.config import OwnBase
from mclr.models.var.config import VarBase
from mclr.objectives.loss import Batch, Loss
from mclr.training.share import WHOLE, Share
from mclr.training.trainee import Trainee

BaseSettings = Edm2Base | VarBase | DiffusersBase | OwnBase


# Eq. (18): with balanced classes p_ref(x|c) = (1 − η) p(x|c) + η p(x), so the mixture weight is η.
# A label drawn anew is right by chance: a share η (1 − 1/C) of all labels is wrong in the end.
def redraw_labels(labels: Tensor, classes: int, eta: float, seed: int) -> Tensor:
    """Labels (N,), each drawn anew with probability ``eta``, uniformly from all classes."""
    if eta == 0:
        return labels
    generator = step_generator(seed, 8)
    redrawn = torch.rand(len(labels), generator=generator) < eta
    drawn = torch.randint(classes, labels.shape, generator=generator)
    return torch.where(redrawn, drawn, labels)


def base_trainee(
    family: Family,
    settings: BaseSettings,
    x: Tensor,
    labels: Tensor,
    classes: int,
    share: Share = WHOLE,
) -> Trainee:
    """A base model to train on images with labels (N,), of which some are dropped at random.

    x (N, …) is what ``family.encode`` gave. A dropped label is the null label ``classes``: this is
    what makes an unconditional score.
    The data stay where they are; a minibatch at a time goes to the family's device.
    """
    device = family.device
    net = family.build(step_generator(settings.seed, 1)).to(device).train()
    family.after_step(net)
    share.prepare(net)
    recipe = family.recipe(net, settings)
    labels = redraw_labels(labels, classes, recipe.label_noise, settings.seed)

    def losses(step: int) -> Iterator[Loss]:
        rows = minibatch(len(x), settings.batch, step, settings.seed)
        generator = step_generator(settings.seed, step, 2)
        dropped = torch.rand(len(rows), generator=generator) < settings.label_dropout
        conditions = torch.where(dropped, classes, labels[rows])
        values = family.from_encoded(x[rows], generator)
        batch = Batch(values, conditions, family.draw(values, generator)).to(device)
        for part in share.parts(len(rows), device):
            value = family.base_loss(net, batch.x[part], batch.labels[part], batch.draw.take(part))
            yield Loss(value * (len(part) / len(rows)), {})

    averaged = recipe.average_std is not None
    return Trainee(
        net,
        recipe.optimizer,
        recipe.learning_rate,
        losses,
        family.after_step,
        copy.deepcopy(net).eval().requires_grad_(False) if averaged else None,
        recipe.average_std or 0.0,
        pass_size=share.pass_size(settings.batch),
    )

"""What an objective is given at each step: a minibatch, and what it asked for beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from mclr.config.objectives import FineTuning
from mclr.data.load import minibatch, step_generator
from mclr.device import move
from mclr.errors import UserError
from mclr.likelihood import LevelDraw, draw_levels
from mclr.likelihood.masks import Masks
from mclr.models.family import Family
from mclr.objectives.contrast import draw_partners
from mclr.objectives.loss import Batch, LogLikelihood, NoisyLikelihood, Predictions
from mclr.objectives.objective import Given, Needs


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


@dataclass(frozen=True)
class Steps:
    """The minibatches of a fine-tuning run: each depends on its seed and step alone.

    ``negatives`` are samples of the network ``frozen``, for objectives that need them. ``average``
    is that of the weights of ``net``, where one is kept. ``guide`` is the network that guides
    ``frozen``, where that is not its null label.
    """

    family: Family
    net: nn.Module
    frozen: nn.Module
    settings: FineTuning
    seed: int
    data: Samples
    negatives: Samples | None
    average: nn.Module | None = None
    guide: nn.Module | None = None

    def given(
        self, step: int, needs: Needs, policy: LogLikelihood, reference: LogLikelihood
    ) -> Given:
        """What an objective with these needs gets at a step, on the device of the family.

        Raises:
            UserError: there are no negatives, or the family has not what is asked for.
        """
        device = self.family.device
        drawn, rng = self._batch(self.data, step, 3), step_generator(self.seed, step, 4)
        given = Given(policy, reference, drawn.to(device), self._priors)
        if needs.partners:
            contrast = draw_partners(drawn.labels, needs.partners, rng).to(device)
            given = replace(given, partners=contrast)
        if needs.noisy:
            noisy = noisy_likelihood(self.family, self.frozen, given.batch, needs.noisy, rng)
            given = replace(given, noisy=noisy)
        if needs.dropped is not None:
            dropped = move(torch.rand(len(drawn.labels), generator=rng) < needs.dropped, device)
            labels = torch.where(dropped, self.data.classes, given.batch.labels)
            batch = replace(given.batch, labels=labels)
            given = replace(given, batch=batch, without_label=dropped)
        if needs.dial:
            given = replace(given, batch=_with_values(given.batch, rng))
        if needs.negatives:
            if self.negatives is None:
                name = self.settings.objective.method.upper()
                raise UserError(f"{name} needs samples of the base model: give --negatives")
            given = replace(given, made=self._batch(self.negatives, step, 5).to(device))
        if needs.predictions:
            given = replace(given, said=self._predictions)
        return given

    @cached_property
    def _predictions(self) -> Predictions:
        policy, average, reference = (
            partial(self.family.predict, net)
            for net in (self.net, self.average or self.net, self.frozen)
        )
        guide = partial(self.family.predict, self.guide) if self.guide else None
        return Predictions(policy, average, reference, self.data.classes, guide)

    @cached_property
    def _priors(self) -> Tensor:
        return self.data.priors.to(self.family.device)

    def _batch(self, source: Samples, step: int, stream: int) -> Batch:
        seed = self.seed + (stream << 16)
        rows = minibatch(len(source.x), self.settings.batch, step, seed)
        x, rng = source.x[rows], step_generator(self.seed, step, stream)
        if not source.generated:
            x = self.family.from_encoded(x, rng)
        draw = replace(self.family.draw(x, rng), masks=self._masks(step, stream))
        return Batch(x, source.labels[rows], draw)

    def _masks(self, step: int, stream: int) -> Masks | None:
        """Of dropout, for each sample of the minibatch of a step; None without dropout."""
        if not self.settings.optimizer or not self.settings.optimizer.dropout:
            return None
        if not self.family.has_masks:
            raise UserError(
                "optimizer.dropout: this family's class does not heed draw.masks; remove it, or do "
                "so in log_likelihood and say has_masks = True"
            )
        rng = step_generator(self.seed, step, stream, 6)
        seeds = torch.randint(2**31, (self.settings.batch,), generator=rng)
        return Masks(seeds, self.settings.optimizer.dropout)


def _with_values(batch: Batch, rng: torch.Generator) -> Batch:
    """The minibatch with a value of the network's dial for each sample: uniform in (0, 1]."""
    values = move(1 - torch.rand(len(batch.labels), generator=rng), batch.labels.device)
    return replace(batch, draw=replace(batch.draw, dial=values))


def noisy_likelihood(
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

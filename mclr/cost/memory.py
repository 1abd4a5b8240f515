"""Memory of a GPU that trains or samples a model, and how many samples fit at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mclr.cost.passes import BASE, Passes, objective_passes
from mclr.cost.work import Workload, training_of
from mclr.models.cost import Cost

RESERVED = 2e9
"""Bytes: CUDA's context, libraries' workspaces."""

MARGIN = 1.3
"""On the tensors of a pass, for what libraries take beside them (docs/cost.md)."""

SIZES = (24, 40, 80)
"""Gigabytes of GPUs to report on."""


@dataclass(frozen=True)
class Memory:
    """Bytes that jobs of a kind hold whatever they do, and for each sample of a pass."""

    model: str
    kind: str
    fixed: float
    sample: float
    batch: int

    def total(self, samples: int) -> float:
        return RESERVED + self.fixed + MARGIN * self.sample * samples

    def fits(self, size: float) -> int:
        """Samples at a time, at most the whole minibatch, on a GPU of ``size`` bytes; 0: none."""
        room = size - self.total(0)
        return max(0, min(self.batch, int(room // (MARGIN * self.sample))))


def memory_of(load: Workload) -> list[Memory]:
    """Training of base and guide, fine-tuning by the rows of a sample, sampling; of each model."""
    found = []
    for name, settings in load.plan.tier.models.items():
        network, guide = load.networks[name], load.guides.get(name)
        if name in load.subjects("base"):
            batch = training_of(settings, "base").batch
            found.append(_training(name, "base", network, BASE, batch))
        if name in load.subjects("guide") and guide:
            batch = training_of(settings, "guide").batch
            found.append(_training(name, "guide", guide, BASE, batch))
        batches: dict[int, int] = {}
        averages: set[int] = set()
        for run in load.runs:
            if run.model == name and run.settings:
                rows = objective_passes(run.settings.objective).trained
                batches[rows] = max(batches.get(rows, 0), run.settings.batch)
                averages |= {rows} if True in run.evaluated else set()
        for rows in sorted(batches):
            kind = f"fine-tuning, {rows} rows"
            need = _training(name, kind, network, Passes(rows), batches[rows])
            average = 4 * network.parameters if rows in averages else 0
            found.append(replace(need, fixed=need.fixed + average))
        if any(point.run.model == name for point in load.points.values()):
            found.append(_sampling(name, network, guide, load.plan.tier.evaluation.batch))
    return found


def _training(name: str, kind: str, network: Cost, passes: Passes, batch: int) -> Memory:
    """Weights, gradients, Adam's two moments in float32; average or frozen base beside them."""
    average = 4 if network.has_average else 0
    beside = average if kind in ("base", "guide") else _item(network)
    always, row = network.training_bytes()
    fixed = (16 + beside) * network.parameters + always
    return Memory(name, kind, fixed, passes.trained * row, batch)


def _sampling(name: str, network: Cost, guide: Cost | None, batch: int) -> Memory:
    """Guided, from the weights of the files and fixed ones.

    That is two rows for each image, or one row of each of two networks, whose recorded passes keep
    their memory.
    """
    size = network.parameters + (guide.parameters if guide else 0)
    row = network.sampling_bytes() + (guide or network).sampling_bytes()
    return Memory(name, "sampling", (4 + _item(network)) * size, row, batch)


def _item(network: Cost) -> int:
    return 2 if network.half else 4

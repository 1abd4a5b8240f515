"""The cost of a tier, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mclr.config.tier import Tier
from mclr.cost.cuts import cuts_of
from mclr.cost.disk import disk_of
from mclr.cost.downloads import Download, released_downloads, source_bytes
from mclr.cost.fd_error import bias_constants
from mclr.cost.hardware import CPU_RATE, GPUS, START_SECONDS, Gpu, Work
from mclr.cost.images import Images, images_of
from mclr.cost.memory import SIZES, Memory, memory_of
from mclr.cost.schedule import Schedule, Task, schedule
from mclr.cost.work import Workload
from mclr.errors import UserError
from mclr.planning.job import Job
from mclr.planning.plan import Plan
from mclr.terminal import Tell, silent

HOUR = 3600.0


@dataclass(frozen=True)
class Machines:
    """What the jobs run on: a kind of GPU, how many, the share of their peak that is reached."""

    gpu: str
    gpus: int
    utilisation: float
    core: Gpu | None = None
    """A processor core in the place of a GPU; every job then holds one."""

    @property
    def device(self) -> Gpu:
        """What the jobs run on."""
        return self.core or GPUS[self.gpu]

    @property
    def compared(self) -> dict[str, Gpu]:
        """What computing is told for."""
        return {"core": self.core} if self.core else GPUS

    def hours(self, work: Work, gpu: str | None = None) -> float:
        """GPU-hours of computing, or core-hours."""
        device = self.compared[gpu] if gpu else self.device
        return work.gpu_seconds(device, self.utilisation) / HOUR


@dataclass(frozen=True)
class RuleCost:
    """All jobs of a rule."""

    rule: str
    jobs: int
    work: Work


@dataclass(frozen=True)
class Effect:
    """What a cut saves: jobs, GPU-hours, seconds of makespan; FD's bias before and after."""

    name: str
    effect: str
    jobs: int
    gpu_hours: float
    makespan: float
    bias: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Estimate:
    """What a tier costs on some machines."""

    tier: str
    machines: Machines
    rules: list[RuleCost]
    total: RuleCost
    schedule: Schedule
    slowest: tuple[str, float]
    """The job of the longest chain that takes most of it, and its seconds."""
    memory: list[Memory]
    disk: dict[str, float]
    released: list[Download]
    download: float
    bias: dict[str, float]
    cuts: list[Effect]


def estimate(
    tier: Tier,
    machines: Machines,
    results: Path,
    count: int | None = None,
    targets: Sequence[str] = (),
    tell: Tell = silent,
) -> Estimate:
    """The cost of a tier and of each of its cuts, the one that saves most first.

    results: folder of the tier's results, for the bias of FD if its feature nets exist. count: of
    one's own images. targets: results or evaluations to make; all if there are none. tell: is
    told what is computed, for people who wait.

    Raises:
        UserError: unknown target; nothing is known of the images.
    """
    tell("jobs and networks")
    whole = _Costed(tier, machines, images_of(tier, count), targets)
    tell(f"memory and disk of {whole.total.jobs:,} jobs")
    constants = bias_constants(whole.load.plan, results)
    released = released_downloads(whole.load)
    return Estimate(
        tier.tier,
        machines,
        whole.rules,
        whole.total,
        whole.schedule,
        max(((n, whole.tasks[n].seconds) for n in whole.schedule.path), key=lambda job: job[1]),
        memory_of(whole.load),
        disk_of(whole.load, machines.gpus),
        released,
        source_bytes(tier.data.source) + sum(file.bytes for file in released),
        {model: c / tier.evaluation.n_samples for model, c in constants.items()},
        _effects(whole, tier, constants, targets, tell),
    )


def _effects(
    whole: _Costed,
    tier: Tier,
    constants: dict[str, float],
    targets: Sequence[str],
    tell: Tell,
) -> list[Effect]:
    n, machines, effects = tier.evaluation.n_samples, whole.machines, []
    for cut in cuts_of(tier):
        tell(f"what to cut: {cut.name}")
        try:
            smaller = _Costed(cut.tier, machines, whole.load.images, targets)
        except UserError:  # a target is among what is cut
            continue
        ratio = cut.sample_ratio(tier)
        text = cut.effect or f"bias × {ratio:.3g}, deviation × {ratio**0.5:.2g}"
        effect = Effect(
            cut.name,
            text,
            whole.total.jobs - smaller.total.jobs,
            machines.hours(whole.total.work) - machines.hours(smaller.total.work),
            whole.schedule.makespan - smaller.schedule.makespan,
            {m: (c / n, ratio * c / n) for m, c in constants.items()} if ratio != 1 else {},
        )
        if effect.jobs or effect.gpu_hours:
            effects.append(effect)
    return sorted(effects, key=lambda e: (-e.gpu_hours, -e.makespan))


class _Costed:
    """Jobs, work and schedule of a tier."""

    def __init__(
        self, tier: Tier, machines: Machines, images: Images, targets: Sequence[str]
    ) -> None:
        self.machines = machines
        self.load = Workload(Plan(tier), images, targets)
        self.works = [(job, self.load.of(job)) for job in self.load.jobs]
        self.rules = _by_rule(self.works)
        self.total = RuleCost(
            "total", len(self.works), sum((w for _, w in self.works), start=Work())
        )
        device, every = machines.device, machines.core is not None
        dag = self.load.dag
        seconds = {w: w.seconds(device, machines.utilisation) for w in {w for _, w in self.works}}
        self.tasks = {
            job.name: Task(seconds[work], every or work.needs_gpu, dag.needs(job))
            for job, work in self.works
        }
        self.schedule = schedule(self.tasks, machines.gpus)


def _by_rule(works: list[tuple[Job, Work]]) -> list[RuleCost]:
    """Rules in the order of the workflow."""
    found: dict[str, RuleCost] = {}
    for job, work in works:
        one = found.get(job.rule, RuleCost(job.rule, 0, Work()))
        found[job.rule] = RuleCost(job.rule, one.jobs + 1, one.work + work)
    return list(found.values())


def numbers(found: Estimate) -> dict[str, Any]:
    """All numbers, in operations, hours, seconds and bytes, with the assumptions they rest on."""
    machines = found.machines

    def rule(cost: RuleCost) -> dict[str, Any]:
        hours = {name: machines.hours(cost.work, name) for name in machines.compared}
        return {
            "jobs": cost.jobs,
            "multiply_adds": asdict(cost.work),
            "gpu_hours": hours,
            "cpu_hours": 2 * cost.work.cpu / CPU_RATE / HOUR,
        }

    return {
        "tier": found.tier,
        "assumptions": {k: v for k, v in asdict(machines).items() if k != "core"}
        | {"start_seconds": START_SECONDS, "cpu_rate": CPU_RATE}
        | {"hardware": {name: asdict(gpu) for name, gpu in machines.compared.items()}},
        "rules": {cost.rule: rule(cost) for cost in found.rules},
        "total": rule(found.total),
        "schedule": asdict(found.schedule) | {"bound": found.schedule.bound},
        "slowest": {"job": found.slowest[0], "seconds": found.slowest[1]},
        "memory": [
            asdict(row) | {"micro_batch": {f"{s} GB": row.fits(s * 1e9) for s in SIZES}}
            for row in found.memory
        ],
        "disk": found.disk,
        "download": found.download,
        "released": [asdict(file) for file in found.released],
        "fd_bias": found.bias,
        "cuts": [asdict(effect) for effect in found.cuts],
    }

"""The largest of a few experiments that this machine finishes in the time given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import yaml

from mclr.config.reading import parse_tier
from mclr.config.tier import Tier
from mclr.cost.hardware import CPU_RATE, START_SECONDS
from mclr.cost.images import images_of
from mclr.cost.memory import memory_of
from mclr.cost.passes import BASE
from mclr.cost.schedule import Task, schedule
from mclr.cost.table import duration
from mclr.cost.work import Workload
from mclr.errors import UserError
from mclr.new.given import GivenBase
from mclr.new.machine import Machine, rate
from mclr.new.sizes import MOST_PASSES, Size, grids_for, sizes_for
from mclr.new.write import Case, Choice, images_fit, n_reference_of, render
from mclr.planning.plan import Plan
from mclr.terminal import Tell, silent

HOUR = 3600.0
LONGER = (64, 32, 16, 8, 4, 2)
"""Times the least base training, from which the longest that fits is taken."""


@dataclass(frozen=True)
class Proposal:
    """A configuration: its text, what it says, the choice it comes from, seconds it takes."""

    text: str
    tier: Tier
    choice: Choice
    seconds: float


def propose(case: Case, base: GivenBase | None = None, tell: Tell = silent) -> Proposal:
    """The configuration for a case: trained from nothing, or from a base model that is there.

    Of the networks that fit the images, the largest whose least base training and one of the two
    larger grids are done in time; then as long a base training as the time allows. If there is
    none, the largest with the smallest grid. ``tell`` gets what is timed and planned at the moment.

    Raises:
        UserError: the images are too small, or nothing is done in time.
    """
    networks = sizes_for(case.found.sides[1], case.resolution)
    sizes: list[Size | GivenBase] = [base] if base else [*networks]
    if not sizes:
        raise UserError(
            f"{case.found.path}: the median short side is {case.found.sides[1]} pixels, "
            "expected at least 8; give larger images"
        )
    shortest = math.inf
    choices = list(_choices(case, sizes))
    _check_floor(case, choices[-1])
    for number, choice in enumerate(choices, start=1):
        tell(f"timing this machine and planning, experiment {number}")
        seconds = reckon(case, choice)
        if seconds <= case.hours * HOUR:
            tell(f"planning a longer base training of experiment {number}")
            return _finished(case, _longest(case, choice))
        shortest = min(shortest, seconds)
    if shortest == math.inf:
        raise UserError(
            "--cores: no network fits into the memory of as many jobs at a time; give fewer"
        )
    raise UserError(
        f"--hours {case.hours:g}: the smallest experiment takes about {duration(shortest)} on "
        f"{case.machine.text}; give --hours {math.ceil(shortest / 36) / 100:g} or more"
    )


def _check_floor(case: Case, smallest: Choice) -> None:
    """UserError if the jobs take too long even on a machine whose networks take no time."""
    tier = _tier(case, render(case, smallest))
    load = Workload(Plan(tier), images_of(tier, case.found.count))
    if (seconds := makespan(load, case.machine, math.inf)) > case.hours * HOUR:
        raise UserError(
            f"--hours {case.hours:g}: the jobs of the smallest experiment take {duration(seconds)} "
            f"on {case.machine.text}, even if networks took no time; give more than "
            f"--hours {math.ceil(seconds / 36) / 100:g} (the default is 8)"
        )


def _choices(case: Case, sizes: list[Size | GivenBase]) -> Iterator[Choice]:
    """Networks with one of the two larger grids; then with the smallest, all with least bases."""
    for grids in (slice(0, 2), slice(2, 3)):
        for size in sizes:
            images = _capped(case, size.least_images) if isinstance(size, Size) else 0
            yield from (Choice(size, grid, images) for grid in grids_for(size)[grids])


def _capped(case: Case, images: int) -> int:
    trained = (case.found.count - n_reference_of(case.found)) * (2 if case.flip else 1)
    return min(images, MOST_PASSES * trained)


def _longest(case: Case, choice: Choice) -> Choice:
    """The same with the longest base training that is done in time."""
    if not isinstance(choice.size, Size):
        return choice
    for factor in LONGER:
        longer = replace(choice, images=_capped(case, factor * choice.size.least_images))
        if reckon(case, longer) <= case.hours * HOUR:
            return longer
    return choice


def _finished(case: Case, choice: Choice) -> Proposal:
    seconds = reckon(case, choice)
    text = render(case, choice, duration(seconds))
    return Proposal(text, _tier(case, text), choice, seconds)


def _tier(case: Case, text: str) -> Tier:
    return parse_tier(yaml.safe_load(text), case.output)


def reckon(case: Case, choice: Choice) -> float:
    """Seconds that all jobs of a choice take on the machine; infinite if memory does not do.

    Work and DAG are those of ``mclr plan``, the speed of the network was timed here.
    """
    tier = _tier(case, render(case, choice))
    images = images_of(tier, case.found.count)
    (model,) = tier.models.values()
    speed = rate(model, images, case.machine)
    load = Workload(Plan(tier), images)
    if isinstance(choice.size, Size):
        (network,) = load.networks.values()
        alone = network.evaluation * BASE.evaluations * choice.images / speed
        if alone > case.hours * HOUR:
            return alone
        held = not choice.size.levels or images_fit(case, choice.size)  # by its autoencoder
        if not held or not _has_room(load, case.machine):
            return math.inf
    return makespan(load, case.machine, speed)


def _has_room(load: Workload, machine: Machine) -> bool:
    """Whether as many jobs at a time as are to run fit into memory with whole minibatches."""
    room = machine.memory / machine.jobs
    return all(row.fits(room) >= row.batch for row in memory_of(load))


def makespan(load: Workload, machine: Machine, speed: float) -> float:
    """Seconds until all jobs are done; ``speed``: multiply-adds a second of a core, or the GPU.

    Without a GPU a job holds a core. With one, its jobs follow one another, the others do not wait.
    """
    tasks = {}
    for job in load.jobs:
        work = load.of(job)
        seconds = START_SECONDS + (work.half + work.single) / speed + 2 * work.cpu / CPU_RATE
        waits = work.needs_gpu if machine.gpu else True
        tasks[job.name] = Task(seconds, waits, load.dag.needs(job))
    return schedule(tasks, 1 if machine.gpu else machine.cores).makespan

"""The command that tells what a tier costs before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mclr.commands.options import json_option
from mclr.commands.people import InCheckout
from mclr.cost.hardware import GPUS, UTILISATION
from mclr.errors import UserError, printable
from mclr.planning.collection import no_collection
from mclr.terminal import waiting

if TYPE_CHECKING:
    from mclr.config.tier import Tier
    from mclr.cost.estimate import Machines


@click.command(cls=InCheckout)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--hardware",
    type=click.Choice(["gpu", "cpu"]),
    default="gpu",
    show_default=True,
    help="cpu: on processor cores alone, as fast as this machine's are on the tier's networks.",
)
@click.option("--cores", type=click.IntRange(min=1), help="With cpu; default: those of here.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="With cpu: Gflop/s of a core, in place of a few seconds of timing here.",
)
@click.option("--gpus", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--gpu", type=click.Choice(list(GPUS)), default="h100", show_default=True)
@click.option(
    "--utilisation",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=UTILISATION,
    show_default=True,
    help="Share of the GPU's peak rate that the jobs reach.",
)
@click.option(
    "--images",
    "count",
    type=click.IntRange(min=1),
    help="How many your own images are, before they are indexed; ImageNet's number is known.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    help="Not all: a result (table1, claims, ...) or an evaluation (a row, such as edm2-mclr).",
)
@json_option
def plan(
    config: Path,
    hardware: str,
    cores: int | None,
    rate: float | None,
    gpus: int,
    gpu: str,
    utilisation: float,
    count: int | None,
    targets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Tell what the tier of CONFIG costs: jobs, GPU-hours, memory, disk, time, what to cut.

    Nothing is run or fetched; docs/cost.md says how the numbers are made.

    \b
    Examples:
      mclr plan config/imagenet.yaml --gpus 16 --target edm2-s-mclr
      mclr plan config/fashion.yaml --hardware cpu
    """
    from mclr.config.reading import load_tier
    from mclr.cost.estimate import Machines, estimate, numbers
    from mclr.cost.table import as_text
    from mclr.planning.own import check_own
    from mclr.planning.plan import Plan

    tier = load_tier(config)
    check_own(Plan(tier), config)
    machines, results = Machines(gpu, gpus, utilisation), Path("results", tier.tier)
    if hardware == "cpu":
        machines = _of_cores(tier, count, cores, rate)
    elif cores or rate:
        raise UserError("--cores, --rate: are of processors; add --hardware cpu, or leave them out")
    with waiting("mclr plan") as tell, no_collection():
        found = estimate(tier, machines, results, count, targets, tell)
    click.echo(json.dumps(numbers(found), indent=2) if as_json else printable(as_text(found)))


def _of_cores(tier: Tier, count: int | None, cores: int | None, gflops: float | None) -> Machines:
    """Cores of this machine, as fast as on the slowest of the tier's networks, or as told."""
    from mclr.cost.estimate import Machines
    from mclr.cost.hardware import core
    from mclr.cost.images import images_of
    from mclr.new.machine import rate, this_machine

    machine = this_machine(cores, "cpu")
    if gflops is None:
        images = images_of(tier, count)
        rates = {name: 2 * rate(model, images, machine) for name, model in tier.models.items()}
        slowest = min(rates, key=lambda name: rates[name])
        speed, source = rates[slowest], f"timed here, on training steps of {slowest}"
    else:
        speed, source = gflops * 1e9, "as told"
    return Machines("", machine.cores, 1.0, core(speed, machine.memory, source))

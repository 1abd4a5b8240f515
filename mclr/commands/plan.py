"""The command that tells what a tier costs before it runs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mclr.commands.options import json_option
from mclr.cost.hardware import GPUS, UTILISATION
from mclr.errors import printable
from mclr.waiting import no_collection, waiting


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
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
    Example:
      mclr plan config/imagenet.yaml --gpus 16 --target edm2-s-mclr
    """
    from mclr.config.reading import load_tier
    from mclr.cost.estimate import Machines, estimate, numbers
    from mclr.cost.table import as_text
    from mclr.planning.own import check_own
    from mclr.planning.plan import Plan

    tier = load_tier(config)
    check_own(Plan(tier), config)
    machines, results = Machines(gpu, gpus, utilisation), Path("results", tier.tier)
    with waiting("mclr plan") as tell, no_collection():
        found = estimate(tier, machines, results, count, targets, tell)
    click.echo(json.dumps(numbers(found), indent=2) if as_json else printable(as_text(found)))

"""The command that reads DVC's stores again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mclr.commands.people import InCheckout

if TYPE_CHECKING:
    from mclr.operations.store_check import Fault


@click.command(cls=InCheckout)
@click.option("--remote", help="Check this DVC remote too, by downloading all of it.")
@click.option("--heal", is_flag=True, help="Replace what is damaged by good copies.")
@click.option("--jobs", type=click.IntRange(min=1), default=4, show_default=True)
def check_store(remote: str | None, heal: bool, jobs: int) -> None:
    """Read the DVC cache (and a remote) again and compare every object with its name.

    Files of the working directory are compared with what DVC, the job that wrote them, or the
    manifest of the data has recorded of them; they are named, with the way to heal each.

    Damaged objects are listed with the files that are in them. With --heal, those of the cache
    come from the working directory, else from the remote (the default one without --remote), and
    those of the remote from the cache; and DVC forgets what a killed push or pull left undone, so
    that the next one is complete. Exit status 1: something is damaged and not healed.
    """
    from mclr.operations.store_check import Stores

    stores = Stores(Path.cwd())
    if remote:
        stores.remote(remote)  # a wrong name is told at once
    if heal:
        stores.drop_lists()
    number, faults = stores.check_cache(jobs)
    click.echo(f"cache: {number} objects, {len(faults)} damaged")
    left = stores.heal_cache(faults, remote) if heal and faults else []
    advice = "no good copy here; run `snakemake` to make the files again"
    if route := stores.route(remote):
        advice += f", or, where the remote is damaged too, {route}"
    bad = _tell(faults, left, heal, advice)
    number, wrong, others = stores.check_workspace(jobs)
    made = f", {others} others not as published: `dvc status` names them" if others else ""
    click.echo(f"workspace: {number} files, {len(wrong)} damaged{made}")
    for words in wrong:
        click.echo(f"  {words}")
    bad += len(wrong)
    if remote:
        number, faults = stores.check_remote(remote, jobs)
        click.echo(f"remote {remote}: {number} objects, {len(faults)} damaged or absent")
        left = stores.heal_remote(faults, remote) if heal and faults else []
        advice = route or "heal from a checkout that has it"
        bad += _tell(faults, left, heal, f"not in this cache; {advice}")
        if faults and route and not heal:
            click.echo(f"remote {remote} is in git: {route}")
    sys.exit(1 if bad else 0)


def _tell(faults: list[Fault], left: list[Fault], heal: bool, advice: str) -> int:
    """Print each fault and what became of it; the number of those that remain."""
    for fault in faults:
        if not heal:
            click.echo(f"  {fault.words}")
        else:
            click.echo(f"  {fault.words}: {advice if fault in left else 'healed'}")
    if faults and not heal:
        click.echo("run `mclr check-store` again with --heal to replace them")
    return len(left if heal else faults)

"""The command that looks at a site before the workflow does."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from mclr.commands.options import json_option
from mclr.commands.people import InCheckout


@click.command(cls=InCheckout)
@click.option("--jobs/--no-jobs", default=True, show_default=True, help="Start a job per class.")
@click.option("--wait", default=120, show_default=True, help="Seconds to wait for such a job.")
@json_option
def doctor(jobs: bool, wait: int, as_json: bool) -> None:
    """Check that this site can run the workflow; exit status 1 if something is wrong.

    Slurm, partitions, accounts and GPUs of config/site.yaml; a shared filesystem; the MLflow
    store; the DVC remote. Run it in the checkout, on a login node.
    """
    from mclr.operations.doctor import examine

    found = []
    for finding in examine(Path.cwd(), jobs=jobs, wait=wait):
        found.append(finding)
        if not as_json:
            click.echo(finding)
    if as_json:
        click.echo(json.dumps([{**asdict(finding), "ok": finding.ok} for finding in found]))
    sys.exit(any(not finding.ok for finding in found))

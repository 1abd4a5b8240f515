"""The command that looks at a site before the workflow does."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--jobs/--no-jobs", default=True, show_default=True, help="Start a job per class.")
@click.option("--wait", default=120, show_default=True, help="Seconds to wait for such a job.")
def doctor(jobs: bool, wait: int) -> None:
    """Check that this site can run the workflow; exit status 1 if something is wrong.

    Slurm, partitions, accounts and GPUs of config/site.yaml; a shared filesystem; the MLflow
    store; the DVC remote. Run it in the top folder of the checkout, on a login node.
    """
    from mclr.doctor import examine

    problems = 0
    for finding in examine(Path.cwd(), jobs=jobs, wait=wait):
        click.echo(finding)
        problems += not finding.ok
    sys.exit(problems > 0)

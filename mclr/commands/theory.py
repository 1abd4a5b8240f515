"""Commands of the theory lab."""

from __future__ import annotations

from pathlib import Path

import click

from mclr.commands.options import version_option
from mclr.theory.lab.run import TOPICS

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("topic", metavar="TOPIC")
@click.option("--output", type=PATH, required=True, help="Folder to write.")
def theory(topic: str, output: Path) -> None:
    """Check one topic of the paper's theory by computation."""
    from mclr.theory.lab.run import run_topic

    run_topic(topic, output)


theory.help = f"{theory.help}\n\nTOPIC is one of {', '.join(TOPICS)}."


@click.command()
@click.option("--results", type=PATH, required=True, help="Folder of the topics' results.")
@version_option
def theory_page(results: Path, version: str) -> None:
    """Gather all topics into theory.json and a page, theory.html."""
    from mclr.theory.lab.run import gather

    summary = gather(results, version)
    click.echo(f"{results / 'theory.html'}: {summary['holding']} of {summary['count']} hold")

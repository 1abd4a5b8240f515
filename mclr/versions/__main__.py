"""``python -m mclr.versions check`` and ``bump KIND``: for ``make check`` and ``make bump``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mclr.errors import UserError
from mclr.versions.check import digests, explanation, moved
from mclr.versions.record import load_versions

ROOT = Path(__file__).resolve().parents[2]


@click.group()
def main() -> None:
    """Result versions of this checkout."""


@main.command("check")
def check() -> None:
    """Fail if the code of a kind is not that of its recorded digest."""
    if found := moved(load_versions(ROOT), digests(ROOT)):
        raise UserError(explanation(found))


@main.command("digests")
def print_digests() -> None:
    """Print the digest of every kind's code, as JSON."""
    click.echo(json.dumps(digests(ROOT)))


@main.command("bump")
@click.argument("kinds", nargs=-1, required=True)
def bump(kinds: tuple[str, ...]) -> None:
    """Raise the version of KINDS (sample.var, or sample for every family): they are made again."""
    versions, found = load_versions(ROOT), digests(ROOT)
    labels = dict.fromkeys(label for kind in kinds for label in versions.bump(kind, found))
    versions.save(ROOT)
    for label in labels:
        click.echo(label)
    click.echo(
        "`snakemake -n all` shows what is stale now. Commit workflow/versions.yaml.", err=True
    )


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except UserError as error:
        sys.exit(f"mclr: error: {error}")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)

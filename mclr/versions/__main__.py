"""``python -m mclr.versions check`` and ``bump KIND``: for ``make check`` and ``make bump``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mclr.errors import UserError
from mclr.versions.check import digests, explanation, moved
from mclr.versions.stored import load_versions

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
@click.argument("kind")
def bump(kind: str) -> None:
    """Raise the version of a kind, or of all of a command: its results are made again."""
    versions = load_versions(ROOT)
    for label in versions.bump(kind, digests(ROOT)):
        click.echo(label)
    versions.save(ROOT)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except UserError as error:
        sys.exit(f"mclr: error: {error}")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)

"""What commands for people have in common; jobs of the workflow have none of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mclr.errors import UserError
from mclr.events import LOG


class Written(click.Path):
    """The path of a file or folder that a command writes."""


def output_option(help: str, *older: str, required: bool = True) -> Callable[..., Any]:
    """The option ``--output``, which goes by its ``older`` names, too."""
    kind = Written(path_type=Path)
    return click.option("--output", *older, "output", type=kind, required=required, help=help)


class Writes(click.Command):
    """A command that writes where it is told to, but into folders that exist."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        left = super().parse_args(ctx, args)
        self.place(ctx)
        for parameter in self.params:
            path = ctx.params.get(str(parameter.name))
            if path and isinstance(parameter.type, Written) and not path.parent.is_dir():
                raise UserError(
                    f"{parameter.opts[0]} {path}: there is no folder {path.parent}; make it first "
                    f"(`mkdir -p {path.parent}`), or give another path"
                )
        return left

    def place(self, ctx: click.Context) -> None:
        """Where the command works: here."""


class InCheckout(Writes):
    """A command that works in the checkout: called in a folder below it, it goes there."""

    def place(self, ctx: click.Context) -> None:
        checkout = _checkout_above(Path.cwd())
        if checkout is None or ctx.resilient_parsing:
            return
        for parameter in self.params:
            path = ctx.params.get(str(parameter.name))
            if path and isinstance(parameter.type, click.Path) and _is_of_here(parameter, path):
                moved = os.path.relpath(path, checkout)
                ctx.params[str(parameter.name)] = type(path)(moved)
        os.chdir(checkout)
        LOG.info("mclr: works in %s, the checkout that this folder is in", checkout)


def _checkout_above(folder: Path) -> Path | None:
    """The checkout that a folder is in; None for its top, and where a workflow has worked."""
    if any((folder / name).exists() for name in ("Snakefile", "results")):
        return None
    return next(filter(_is_checkout, folder.parents), None)


def _is_checkout(folder: Path) -> bool:
    return (folder / "Snakefile").is_file() and (folder / "config").is_dir()


def _is_of_here(parameter: click.Parameter, path: str | Path) -> bool:
    """Whether a path means one from this folder; else it is from the top of the checkout."""
    if os.path.isabs(path) or str(path).startswith("$"):
        return False
    place = Path(path)
    return place.parent.is_dir() if isinstance(parameter.type, Written) else place.exists()

"""What commands for people have in common; jobs of the workflow have none of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class Written(click.Path):
    """The path of a file or folder that a command writes."""


def output_option(help: str, *older: str, required: bool = True) -> Callable[..., Any]:
    """The option ``--output``, which goes by its ``older`` names, too."""
    kind = Written(path_type=Path)
    return click.option("--output", *older, "output", type=kind, required=required, help=help)

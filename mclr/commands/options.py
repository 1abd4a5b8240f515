"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


class Spec(click.ParamType[Any]):
    """A job's specification: JSON text."""

    name = "json"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(f"not valid JSON: {error}", param, ctx)


PATH = click.Path(path_type=Path)


def path_option(name: str, help: str, required: bool = True) -> Callable[..., Any]:
    """A command-line option that is a path."""
    return click.option(f"--{name}", type=PATH, required=required, help=help)


spec_option = click.option(
    "--spec", type=Spec(), required=True, help="Specification of the job (JSON, see mclr.plan)."
)
config_option = click.option(
    "--config",
    type=PATH,
    default="config/digits.yaml",
    show_default=True,
    help="Configuration of the tier.",
)

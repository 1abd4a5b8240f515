"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mclr.errors import UserError

if TYPE_CHECKING:
    import torch
    from pydantic import TypeAdapter


class Named(click.ParamType[tuple[str, Path]]):
    """NAME=PATH."""

    name = "name=path"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Path]:
        name, separator, path = str(value).partition("=")
        if not separator:
            self.fail(f"expected NAME=PATH, got {value!r}", param, ctx)
        return name, Path(path)


PATH = click.Path(path_type=Path)


def path_option(name: str, help: str, required: bool = True) -> Callable[..., Any]:
    """A command-line option that is a path."""
    return click.option(f"--{name}", type=PATH, required=required, help=help)


spec_option = click.option(
    "--spec",
    required=True,
    metavar="JSON",
    help="Specification of the job, see mclr.planning.specs.",
)
config_option = click.option(
    "--config",
    type=PATH,
    default="config/digits.yaml",
    show_default=True,
    help="Configuration of the tier.",
)
data_option = path_option("data", "Folder of prepared data (with manifest.json).")
tokenizer_option = path_option(
    "tokenizer", "Weights of the tokenizer (VAR) or autoencoder (latents).", required=False
)
encoded_option = path_option(
    "encoded", "What `mclr encode` made of the training images.", required=False
)
version_option = click.option(
    "--result-version",
    "version",
    default="",
    help="What the results depend on in the place of the code, see workflow/versions.yaml.",
)
state_option = path_option("state", "Private folder for resumable state.")
micro_batch_option = click.option(
    "--micro-batch",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Samples per forward pass, to save memory; 0: the whole minibatch. Same gradient.",
)
nets_option = click.option(
    "--features",
    "nets",
    type=Named(),
    multiple=True,
    required=True,
    help="NAME=FOLDER of a feature net; may be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


S = TypeVar("S")


def parsed(kind: type[S] | TypeAdapter[S], text: str) -> S:
    """The specification that ``--spec`` gives as JSON; UserError names the key that is wrong."""
    from pydantic import TypeAdapter, ValidationError

    adapter: TypeAdapter[S] = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        item = error.errors()[0]
        where = ".".join(str(key) for key in item["loc"])
        problem = item["msg"].replace("Invalid JSON", "not valid JSON")
        place = f"--spec: {where}" if where else "--spec"
        raise UserError(f"{place}: {problem}; see mclr.planning.specs") from None


def set_up_device(threads: int) -> torch.device:
    """Same machine, same bits; the device that the user chose with `mclr --device`."""
    from mclr.device import set_up

    return set_up(threads, click.get_current_context().find_root().params["device"])

"""Commands that use a finished model: put it into a folder, draw images with it."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mclr.commands.options import config_option, json_option, set_up_device
from mclr.commands.people import InCheckout, Writes, Written, output_option

if TYPE_CHECKING:
    from mclr.models.own.family import OwnFamily


class _Setting(click.ParamType[tuple[str, float]]):
    """NAME=NUMBER."""

    name = "name=number"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, float]:
        name, _, number = str(value).partition("=")
        try:
            return name, float(number)
        except ValueError:
            self.fail(f"expected NAME=NUMBER, got {value!r}", param, ctx)


class _Classes(click.ParamType[list[str]]):
    """Words with commas; a word with a comma in it stands in double quotes."""

    name = "class,class,…"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[str]:
        (words,) = csv.reader([str(value)], skipinitialspace=True)
        return [word.strip() for word in words if word.strip()]


@click.command(cls=InCheckout)
@config_option
@click.option("--experiment", required=True, help="An entry of `runs`, or <model>-base.")
@output_option("Folder to write; it must be new.")
@click.option("--push", metavar="ORG/NAME", help="Also put it onto the Hugging Face Hub.")
@click.option("--private", is_flag=True, help="With --push: a model that others do not see.")
@click.option(
    "--licence",
    metavar="ID",
    help="Of the weights, by its id on the hub, such as mit. Default: that of a released base.",
)
@click.option(
    "--despite-licence",
    is_flag=True,
    help="Push what the licence of the base model forbids, or does not tell: you may all the same.",
)
def export_model(
    config: Path,
    experiment: str,
    output: Path,
    push: str | None,
    private: bool,
    licence: str | None,
    despite_licence: bool,
) -> None:
    """Write an experiment's best checkpoint as a model folder, ready to use and to share.

    The folder has the weights, a configuration and a model card. `mclr draw` and
    mclr.inference.ClassConditionalPipeline load it.

    \b
    Example:
      mclr export-model --experiment edm2-mclr --output my-model
      mclr export-model --experiment edm2-mclr --output my-model --push me/my-model --licence mit
    """
    from mclr.config.reading import load_tier
    from mclr.inference.export import export_model as run
    from mclr.inference.folder import FILES
    from mclr.inference.hub import check_name
    from mclr.inference.hub import push as upload

    if push:
        check_name(push)
    elif private or despite_licence:
        raise click.UsageError("--private and --despite-licence are of --push ORG/NAME")
    if licence and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", licence):
        raise click.UsageError(f"--licence {licence!r}: expected an id such as mit or cc-by-4.0")
    sharing = push is not None
    for path in run(load_tier(config), experiment, output, licence, sharing, despite_licence):
        click.echo(path)
    if push:
        commit = upload(output, list(FILES), push, private=private)
        click.echo(
            f"{push}@{commit}: on the hub; `mclr draw --model {push}@{commit}` draws with it"
        )


def own_class(implementation: str | None) -> type[OwnFamily] | None:
    """The class that the user names; UserError if there is none."""
    if implementation is None:
        return None
    from mclr.models.own.family import family_class

    return family_class(implementation)


@click.command(cls=Writes)
@click.option("--model", required=True, help="Model folder, or an id of the Hugging Face Hub.")
@click.option("--revision", help="Branch, tag or commit on the hub.")
@click.option(
    "--classes",
    type=_Classes(),
    help="Numbers or names, such as 0,3,trouser; quote a name with a comma: '\"a, b\",c'. "
    "Default: the first 10.",
)
@click.option("--per-class", type=click.IntRange(min=1), default=8, show_default=True)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="Of the first column; the next ones follow. A column has the same noise in all rows.",
)
@click.option(
    "--dial",
    type=float,
    help="Where the dial of a model that has one stands: above 0 (most guidance) and up to 1 "
    "(none). Default: what its config.json says.",
)
@click.option("--guidance", default=0.0, show_default=True, help="CFG scale γ; 0 is none.")
@click.option(
    "--sampler",
    type=_Setting(),
    multiple=True,
    help="NAME=NUMBER of a sampler setting, such as num_steps=32; may be repeated.",
)
@click.option("--batch", type=click.IntRange(min=1), help="Images drawn at once.")
@click.option(
    "--family",
    metavar="FILE.py:CLASS",
    help="The class of a model of one's own family, which runs; a model folder never has code.",
)
@output_option("PNG to write: a row per class.", "--out")
@click.option(
    "--npz", type=Written(path_type=Path), help="Also write images, labels and seeds (NumPy)."
)
@json_option
@click.pass_obj
def draw(
    threads: int,
    model: str,
    revision: str | None,
    classes: list[str] | None,
    per_class: int,
    seed: int,
    dial: float | None,
    guidance: float,
    sampler: tuple[tuple[str, float], ...],
    batch: int | None,
    family: str | None,
    output: Path,
    npz: Path | None,
    as_json: bool,
) -> None:
    """Draw images of some classes with a model folder, as one labelled picture.

    \b
    Example:
      mclr draw --model my-model --classes 0,3 --per-class 8 --output grid.png
    """
    from mclr.inference.draw import Request, draw_grid
    from mclr.inference.folder import find_folder
    from mclr.inference.pipeline import ClassConditionalPipeline

    device = set_up_device(threads)
    pipeline = ClassConditionalPipeline(find_folder(model, revision), device, own_class(family))
    request = Request(
        classes if classes is not None else pipeline.class_names[:10],
        per_class,
        seed,
        guidance,
        dict(sampler),
        batch,
        dial,
    )
    total = len(request.classes) * per_class
    with click.progressbar(length=total, label="drawing", file=sys.stderr) as bar:
        written = draw_grid(pipeline, request, output, npz, bar.update)
    if as_json:
        click.echo(json.dumps(written | {"model": model}, ensure_ascii=False, indent=2))
        return
    stands = "" if written["dial"] is None else f"; dial at {written['dial']:g}"
    click.echo(f"{output}: {total} images, a row per class, a column per seed from {seed}{stands}")
    if npz:
        click.echo(f"{npz}: the same images, with their labels and seeds")

"""The command that makes a configuration for one's own images."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mclr.commands.options import PATH, json_option
from mclr.commands.people import InCheckout, output_option


@click.command(cls=InCheckout)
@click.argument("name")
@click.option(
    "--images",
    type=click.Path(),
    required=True,
    help="Folder with a sub-folder per class, or a .tar or .zip of one; $VARIABLES stay variables.",
)
@output_option("File to write; default: config/NAME.yaml.", required=False)
@click.option(
    "--base",
    type=PATH,
    help="Start from this base model: an EDM2 pickle, a VAR .pth, a .safetensors of mclr, or a "
    "folder in diffusers' layout.",
)
@click.option("--tokenizer", type=PATH, help="Of a VAR base, if it is not the released one.")
@click.option(
    "--hours",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
    show_default=True,
    help="Time that all jobs together may take on this machine.",
)
@click.option(
    "--cores", type=click.IntRange(min=1), help="Cores for Snakemake; default: all there are."
)
@click.option(
    "--resolution",
    type=int,
    metavar="PIXELS",
    help="Side of the square that images are brought to: 8, 16, 32, 64, 128, 256 or 512; default: "
    "the largest power of 2 that images have and that is done in time.",
)
@click.option(
    "--flip",
    is_flag=True,
    help="Train on the mirror images, too: for things that have no left and right, not for text.",
)
@click.option("--force", is_flag=True, help="Write over a file that exists.")
@json_option
@click.pass_context
def new(
    context: click.Context,
    name: str,
    images: str,
    output: Path | None,
    base: Path | None,
    tokenizer: Path | None,
    hours: float,
    cores: int | None,
    resolution: int | None,
    flip: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Look at your images and write a configuration for them: the tier NAME.

    Every image is read once (mclr --threads N new … takes N processes). What is odd is said;
    unusable files are left out. Network, length of training and grid are the largest that this
    machine, its GPU if it has one, finishes in --hours.

    \b
    Examples:
      mclr new flowers --images pictures/flowers
      mclr new flowers --images flowers.zip --hours 24 --cores 16
      mclr new flowers --images '$PHOTOS/flowers' --base edm2-flowers.pkl
      mclr new flowers --images '$PHOTOS/flowers' --base models/dit-flowers
    """
    from mclr.new.make import Wanted, as_numbers, as_text, make

    wanted = Wanted(name, images, output, base, tokenizer, hours, cores, force, resolution, flip)
    device = context.find_root().params["device"]
    made = make(wanted, context.obj, device, (lambda _: None) if as_json else click.echo)
    click.echo(
        json.dumps(as_numbers(made), indent=2, ensure_ascii=False) if as_json else as_text(made)
    )

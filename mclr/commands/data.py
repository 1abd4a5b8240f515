"""Jobs on data: fetch, prepare, encode."""

from __future__ import annotations

from pathlib import Path

import click

from mclr.commands.options import (
    data_option,
    parsed,
    path_option,
    set_up_device,
    spec_option,
    state_option,
    tokenizer_option,
    version_option,
)


@click.command()
@click.option("--source", required=True, help="Name in data/versions.csv.")
@path_option("output", "Raw file to write.")
def fetch(source: str, output: Path) -> None:
    """Get a raw data file and check its sha256."""
    from mclr.data.sources import fetch as run

    run(source, output)


@click.command()
@spec_option
@path_option("raw", "Raw data file.")
@path_option("output", "Folder to write.")
@click.option("--resolution", type=click.IntRange(min=1), help="Average images down to this side.")
def prepare(spec: str, raw: Path, output: Path, resolution: int | None) -> None:
    """Check raw data, split it, write Parquet and its manifest."""
    from mclr.data.prepare import prepare as run
    from mclr.settings.data import Data

    run(parsed(Data, spec), raw, output, resolution)


@click.command()
@spec_option
@path_option("output", "Folder to write.")
@path_option("prepared", "Folder of the tier's own resolution, already indexed.", required=False)
@click.option("--resolution", type=click.IntRange(min=1), help="Index for this side instead.")
@click.pass_obj
def prepare_images(
    threads: int,
    spec: str,
    output: Path,
    prepared: Path | None,
    resolution: int | None,
) -> None:
    """Check one's own images, split them, write an index and its manifest."""
    from mclr.data.images.prepare import prepare_at
    from mclr.data.images.prepare import prepare_images as run
    from mclr.settings.data import OwnImages

    if prepared and resolution:
        prepare_at(resolution, prepared, output)
    else:
        run(parsed(OwnImages, spec), output, threads)


@click.command()
@spec_option
@data_option
@tokenizer_option
@path_option("output", "File to write.")
@state_option
@version_option
@click.pass_obj
def encode(
    threads: int,
    spec: str,
    data: Path,
    tokenizer: Path | None,
    output: Path,
    state: Path,
    version: str,
) -> None:
    """Encode the training images once: tokens, means and deviations of latents, or pixels."""
    from mclr.jobs.encoding import encode as run
    from mclr.jobs.inputs import Data
    from mclr.planning.specs import ENCODING

    told = parsed(ENCODING, spec)
    prepared = Data(data, told.transform)
    run(told, prepared, tokenizer, output, state, set_up_device(threads), version)

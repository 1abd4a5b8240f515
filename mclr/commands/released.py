"""Commands that take over what others published: files, networks, feature nets."""

from __future__ import annotations

from pathlib import Path

import click

from mclr.commands.options import parsed, path_option, set_up_device, spec_option, version_option


@click.command()
@click.option("--file", required=True, help="Name of the file in data/versions.csv.")
@path_option("output", "Where to put it.")
def fetch_released(file: str, output: Path) -> None:
    """Download a published file of data/versions.csv, going on where it stopped before."""
    from mclr.data.releases import fetch_released as run

    run(file, output)


@click.command()
@spec_option
@path_option("manifest", "Manifest of the prepared data.")
@path_option("source", "Released file (EDM2 .pkl, VAR .pth, .safetensors).")
@path_option("tokenizer", "Weights of the tokenizer or autoencoder.", required=False)
@path_option("run", "Folder of the run to write.")
@version_option
def import_base(
    spec: str,
    manifest: Path,
    source: Path,
    tokenizer: Path | None,
    run: Path,
    version: str,
) -> None:
    """Take released weights over as a base model, or as the network that guides one."""
    from mclr.data.releases import check_released
    from mclr.jobs.take_over import import_base as run_job
    from mclr.planning.specs import BaseSpec

    check_released(source)
    run_job(parsed(BaseSpec, spec), manifest, source, tokenizer, run, version)


@click.command()
@spec_option
@path_option("manifest", "Manifest of the prepared data.")
@path_option("source", "Released file (VAR's .pth), or folder of Stable Diffusion's autoencoder.")
@path_option("output", "File to write.")
def import_tokenizer(spec: str, manifest: Path, source: Path, output: Path) -> None:
    """Take a released tokenizer (VAR) or autoencoder (latents) over."""
    from mclr.data.releases import check_released
    from mclr.jobs.take_over import import_tokenizer as run
    from mclr.planning.specs import EncodeSpec

    check_released(source)
    run(parsed(EncodeSpec, spec), manifest, source, output)


@click.command()
@spec_option
@path_option("data", "Folder of prepared data (with manifest.json).")
@path_option("weights", "Published weights of Inception or DINOv2.")
@path_option("statistics", "Published moments of real images, for FD.", required=False)
@click.option("--most", type=click.IntRange(min=1), required=True, help="Training images to see.")
@path_option("output", "Folder to write.")
@click.pass_obj
def published_net(
    threads: int,
    spec: str,
    data: Path,
    weights: Path,
    statistics: Path | None,
    most: int,
    output: Path,
) -> None:
    """Take a published feature net over, and compute the features of real images."""
    from mclr.data.releases import check_released
    from mclr.jobs.inputs import Data
    from mclr.jobs.published_net import take_over
    from mclr.metrics.features import SETTINGS

    for source in filter(None, (weights, statistics)):
        check_released(source)
    told, device = parsed(SETTINGS, spec), set_up_device(threads)
    take_over(told, Data(data), weights, statistics, output, most, device)

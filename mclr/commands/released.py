"""Commands that take over what others published: files, networks, feature nets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)
_spec = click.option("--spec", required=True, help="Specification of the job (JSON).")


def _path(name: str, help: str, required: bool = True) -> Callable[..., Any]:
    return click.option(f"--{name}", type=PATH, required=required, help=help)


@click.command()
@click.option("--file", required=True, help="Name of the file in data/versions.csv.")
@_path("output", "Where to put it.")
def fetch_released(file: str, output: Path) -> None:
    """Download a published file of data/versions.csv, going on where it stopped before."""
    from mclr.data.released import fetch_released as run

    run(file, output)


@click.command()
@_spec
@_path("manifest", "Manifest of the prepared data.")
@_path("source", "Released file (EDM2 .pkl, VAR .pth, .safetensors).")
@_path("tokenizer", "Weights of the tokenizer or autoencoder.", required=False)
@_path("run", "Folder of the run to write.")
def import_base(spec: str, manifest: Path, source: Path, tokenizer: Path | None, run: Path) -> None:
    """Take released weights over as a base model, or as the network that guides one."""
    from mclr.jobs.released import import_base as run_job

    run_job(json.loads(spec), manifest, source, tokenizer, run)


@click.command()
@_spec
@_path("manifest", "Manifest of the prepared data.")
@_path("source", "Released file (VAR's .pth), or folder of Stable Diffusion's autoencoder.")
@_path("output", "File to write.")
def import_tokenizer(spec: str, manifest: Path, source: Path, output: Path) -> None:
    """Take a released tokenizer (VAR) or autoencoder (latents) over."""
    from mclr.jobs.released import import_tokenizer as run

    run(json.loads(spec), manifest, source, output)


@click.command()
@_spec
@_path("data", "Folder of prepared data (with manifest.json).")
@_path("weights", "Published weights of Inception or DINOv2.")
@_path("statistics", "Published moments of real images, for FD.", required=False)
@click.option("--most", type=click.IntRange(min=1), required=True, help="Training images to see.")
@_path("output", "Folder to write.")
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
    from mclr.device import set_up
    from mclr.jobs.inputs import Data
    from mclr.jobs.published_net import take_over

    device = set_up(threads, click.get_current_context().find_root().params["device"])
    take_over(json.loads(spec), Data(data), weights, statistics, output, most, device)

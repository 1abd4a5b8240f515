"""Commands that look at finished results: claims, similarity, separation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)


def _path(name: str, help: str, required: bool = True) -> Callable[..., Any]:
    return click.option(f"--{name}", type=PATH, required=required, help=help)


_config = click.option(
    "--config",
    type=PATH,
    default="config/digits.yaml",
    show_default=True,
    help="Configuration of the tier.",
)


@click.command()
@_config
@_path("metrics", "metrics.parquet of the tier.")
@_path("output", "Folder to write.")
def claims(config: Path, metrics: Path, output: Path) -> None:
    """Judge every claim of the paper by the tier's metrics (claims.json, claims.md)."""
    from mclr.jobs.claims import claims as run
    from mclr.read_config import load_tier

    run(load_tier(config), metrics, output)


@click.command()
@_config
@_path("metrics", "metrics.parquet of the tier.")
@_path("samples", "Folder of the points' feature files.")
@_path("output", "JSON file to write.")
@_path("figures", "Folder for the heat map of each model.")
def similarity(config: Path, metrics: Path, samples: Path, output: Path, figures: Path) -> None:
    """Compare what MCLR and CFG do to the same images, in feature space."""
    from mclr.jobs.similarity import similarity as run
    from mclr.read_config import load_tier

    run(load_tier(config), metrics, samples, output, figures)


@click.command()
@click.option("--spec", required=True, help="Specification of the job (JSON).")
@_path("data", "Folder of prepared data (with manifest.json).")
@_path("metrics", "metrics.parquet of the tier.")
@_path("base", "Checkpoint of the base model.")
@_path("tuned", "Checkpoint that MCLR made.", required=False)
@_path("tokenizer", "Weights of the tokenizer or autoencoder.", required=False)
@_path("output", "JSON file to write.")
@click.pass_obj
def separation(threads: int, /, spec: str, **paths: Path | None) -> None:
    """Measure how far the base model tells the classes of real and generated images apart."""
    import torch

    from mclr.jobs.separation import separation as run

    torch.set_num_threads(threads)
    run(json.loads(spec), **paths)  # type: ignore[arg-type]

"""Commands that look at finished results: claims, similarity, separation."""

from __future__ import annotations

from pathlib import Path

import click

from mclr.commands.options import config_option, parsed, path_option, spec_option


@click.command()
@config_option
@path_option("metrics", "metrics.parquet of the tier.")
@path_option("output", "Folder to write.")
def claims(config: Path, metrics: Path, output: Path) -> None:
    """Judge every claim of the paper by the tier's metrics (claims.json, .md, .csv)."""
    from mclr.config.reading import load_tier
    from mclr.jobs.claims import claims as run

    run(load_tier(config), metrics, output)


@click.command()
@config_option
@path_option("metrics", "metrics.parquet of the tier.")
@path_option("samples", "Folder of the points' feature files.")
@path_option("output", "JSON file to write.")
@path_option("figures", "Folder for the heat map of each model.")
def similarity(config: Path, metrics: Path, samples: Path, output: Path, figures: Path) -> None:
    """Compare what MCLR and CFG do to the same images, in feature space."""
    from mclr.config.reading import load_tier
    from mclr.jobs.similarity import similarity as run

    run(load_tier(config), metrics, samples, output, figures)


@click.command()
@spec_option
@path_option("data", "Folder of prepared data (with manifest.json).")
@path_option("metrics", "metrics.parquet of the tier.")
@path_option("base", "Checkpoint of the base model.")
@path_option("tuned", "Checkpoint that MCLR made.", required=False)
@path_option("tokenizer", "Weights of the tokenizer or autoencoder.", required=False)
@path_option("output", "JSON file to write.")
@click.pass_obj
def separation(threads: int, /, spec: str, **paths: Path | None) -> None:
    """Measure how far the base model tells the classes of real and generated images apart."""
    import torch

    from mclr.jobs.separation import separation as run
    from mclr.planning.specs import SeparationSpec

    torch.set_num_threads(threads)
    run(parsed(SeparationSpec, spec), **paths)  # type: ignore[arg-type]

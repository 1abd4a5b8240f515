"""Jobs that sample checkpoints, measure the samples and choose by what was measured."""

from __future__ import annotations

from pathlib import Path

import click

from mclr.commands.options import (
    PATH,
    nets_option,
    parsed,
    path_option,
    set_up_device,
    spec_option,
    tokenizer_option,
)


@click.command()
@spec_option
@click.option("--shard", type=int, default=0, show_default=True)
@path_option("manifest", "Manifest of the prepared data.")
@path_option("weights", "Checkpoint to sample.")
@tokenizer_option
@path_option("base", "Base model, where it guides or is mixed in.", required=False)
@path_option("selection", "Selected point, for its guidance.", required=False)
@nets_option
@path_option("output", "Feature file to write.")
@path_option("grid", "Image grid to write.")
@click.pass_obj
def sample(
    threads: int,
    spec: str,
    shard: int,
    manifest: Path,
    weights: Path,
    tokenizer: Path | None,
    base: Path | None,
    selection: Path | None,
    nets: tuple[tuple[str, Path], ...],
    output: Path,
    grid: Path,
) -> None:
    """Sample one shard of a checkpoint: features of all images and a small grid of images."""
    from mclr.jobs.sampling import sample as run
    from mclr.operations.site import load_site
    from mclr.planning.specs import SampleSpec
    from mclr.training.processes import joined

    told, device = parsed(SampleSpec, spec), set_up_device(threads)
    weights_of = {name: folder / "net.safetensors" for name, folder in nets}
    with joined(device=device, compiled=load_site().sample.compile) as share:
        run(
            told, shard, manifest, weights, tokenizer, weights_of, output, grid,
            base=base, selection=selection, device=device, share=share,
        )  # fmt: skip


@click.command()
@spec_option
@path_option("manifest", "Manifest of the prepared data.")
@nets_option
@path_option("samples", "Folder of the points' feature files.")
@path_option("selection", "Selected point of the experiment.", required=False)
@path_option("output", "JSON file to write.")
@click.pass_obj
def evaluate(
    threads: int,
    spec: str,
    manifest: Path,
    nets: tuple[tuple[str, Path], ...],
    samples: Path,
    selection: Path | None,
    output: Path,
) -> None:
    """FD, IS, precision and recall of all points of an evaluation."""
    from mclr.jobs.evaluation import evaluate as run
    from mclr.planning.specs import EvaluateSpec

    told, device = parsed(EvaluateSpec, spec), set_up_device(threads)
    run(told, manifest, dict(nets), samples, output, selection, device)


@click.command()
@spec_option
@path_option("manifest", "Manifest of the prepared data.")
@nets_option
@path_option("output", "JSON file to write.")
@click.pass_obj
def floors(
    threads: int,
    spec: str,
    manifest: Path,
    nets: tuple[tuple[str, Path], ...],
    output: Path,
) -> None:
    """FD, IS, precision and recall of real training images."""
    from mclr.jobs.floors import floors as run
    from mclr.planning.specs import FloorsSpec

    run(parsed(FloorsSpec, spec), manifest, dict(nets), output, set_up_device(threads))


@click.command()
@path_option("evaluation", "Evaluation of the experiment.")
@click.option("--by", required=True, help="Feature net whose FD decides.")
@path_option("output", "JSON file to write.")
def select(evaluation: Path, by: str, output: Path) -> None:
    """Write which point of an experiment has the lowest FD."""
    from mclr.jobs.selection import select as run

    run(evaluation, by, output)


@click.command()
@path_option("evaluation", "Evaluation of the experiment.")
@click.option("--by", required=True, help="Feature net whose FD decides.")
@path_option("output", "Checkpoint to write.")
def best(evaluation: Path, by: str, output: Path) -> None:
    """Copy the checkpoint of lowest FD of an experiment."""
    from mclr.jobs.selection import copy_best

    copy_best(evaluation, by, output)


@click.command()
@path_option("runs", "Folder of all runs.")
@path_option("output", "metrics.parquet to write.")
@path_option("protocols", "protocols.json to write.")
@click.argument("evaluations", nargs=-1, required=True, type=PATH)
def metrics(runs: Path, output: Path, protocols: Path, evaluations: tuple[Path, ...]) -> None:
    """Gather the evaluations of a tier into one table."""
    from mclr.jobs.selection import gather

    gather(list(evaluations), runs, output, protocols)

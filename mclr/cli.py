"""The command line: one subcommand per job of the workflow, and commands for people.

Heavy imports happen inside the commands, so that ``mclr --help`` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mclr.commands.analysis import claims, separation, similarity
from mclr.commands.doctor import doctor
from mclr.commands.models import draw, export_model
from mclr.commands.new import new
from mclr.commands.options import PATH, config_option, path_option, spec_option
from mclr.commands.plan import plan
from mclr.commands.released import fetch_released, import_base, import_tokenizer, published_net
from mclr.commands.store import check_store
from mclr.commands.theory import theory, theory_page
from mclr.commands.weights import export_weights, import_weights, reconstruct_ema
from mclr.errors import UserError
from mclr.events import LOG, set_up_logging

if TYPE_CHECKING:
    import torch


class _Named(click.ParamType[tuple[str, Path]]):
    """NAME=PATH."""

    name = "name=path"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Path]:
        name, separator, path = str(value).partition("=")
        if not separator:
            self.fail(f"expected NAME=PATH, got {value!r}", param, ctx)
        return name, Path(path)


data_option = path_option("data", "Folder of prepared data (with manifest.json).")
tokenizer_option = path_option(
    "tokenizer", "Weights of the tokenizer (VAR) or autoencoder (latents).", required=False
)
encoded_option = path_option(
    "encoded", "What `mclr encode` made of the training images.", required=False
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
    type=_Named(),
    multiple=True,
    required=True,
    help="NAME=FOLDER of a feature net; may be repeated.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    envvar="MCLR_DEVICE",
    show_default=True,
    show_envvar=True,
    help="Where networks compute; auto: on this process's GPU if there is one.",
)
@click.option("--log", type=PATH, help="Also write messages to this file.")
@click.pass_context
def cli(context: click.Context, debug: bool, threads: int, device: str, log: Path | None) -> None:
    """Reproduce the MCLR paper: the jobs of the workflow, one by one.

    The workflow calls these commands; people run `snakemake`, and here mostly `mclr track`.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
    context.obj = threads
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    set_up_logging(log if first else None, progress=first)


def _deterministic(threads: int) -> torch.device:
    """Same machine, same bits; the device that the user chose."""
    from mclr.device import set_up

    return set_up(threads, click.get_current_context().find_root().params["device"])


@cli.command()
@click.option("--source", required=True, help="Name in data/versions.csv.")
@path_option("output", "Raw file to write.")
def fetch(source: str, output: Path) -> None:
    """Get a raw data file and check its sha256."""
    from mclr.data.sources import fetch as run

    run(source, output)


@cli.command()
@spec_option
@path_option("raw", "Raw data file.")
@path_option("output", "Folder to write.")
@click.option("--resolution", type=click.IntRange(min=1), help="Average images down to this side.")
def prepare(spec: dict[str, Any], raw: Path, output: Path, resolution: int | None) -> None:
    """Check raw data, split it, write Parquet and its manifest."""
    from mclr.config.data import Data
    from mclr.data.prepare import prepare as run

    run(Data.model_validate(spec), raw, output, resolution)


@cli.command()
@spec_option
@path_option("output", "Folder to write.")
@path_option("prepared", "Folder of the tier's own resolution, already indexed.", required=False)
@click.option("--resolution", type=click.IntRange(min=1), help="Index for this side instead.")
@click.pass_obj
def prepare_images(
    threads: int,
    spec: dict[str, Any],
    output: Path,
    prepared: Path | None,
    resolution: int | None,
) -> None:
    """Check one's own images, split them, write an index and its manifest."""
    from mclr.config.data import OwnImages
    from mclr.data.images.prepare import prepare_at
    from mclr.data.images.prepare import prepare_images as run

    if prepared and resolution:
        prepare_at(resolution, prepared, output)
    else:
        run(OwnImages.model_validate(spec), output, threads)


@cli.command()
@spec_option
@data_option
@path_option("output", "Folder to write.")
@state_option
@click.pass_obj
def feature_net(threads: int, spec: dict[str, Any], data: Path, output: Path, state: Path) -> None:
    """Train a feature net on the training split."""
    from mclr.jobs.feature_net import train_feature_net
    from mclr.jobs.inputs import Data

    _deterministic(threads)
    train_feature_net(spec, Data(data), output, state)


@cli.command()
@spec_option
@data_option
@path_option("output", "Weights to write.")
@state_option
@click.pass_obj
def tokenizer(threads: int, spec: dict[str, Any], data: Path, output: Path, state: Path) -> None:
    """Train the VQ-VAE of an autoregressive model, or the autoencoder of a model of latents."""
    from mclr.jobs.inputs import Data
    from mclr.jobs.tokenizer import train_tokenizer

    train_tokenizer(spec, Data(data), output, state, _deterministic(threads))


@cli.command()
@spec_option
@data_option
@tokenizer_option
@path_option("output", "File to write.")
@state_option
@click.pass_obj
def encode(
    threads: int,
    spec: dict[str, Any],
    data: Path,
    tokenizer: Path | None,
    output: Path,
    state: Path,
) -> None:
    """Encode the training images once: tokens, means and deviations of latents, or pixels."""
    from mclr.jobs.encoding import encode as run
    from mclr.jobs.inputs import Data

    run(spec, Data(data), tokenizer, output, state, _deterministic(threads))


@cli.command()
@spec_option
@data_option
@tokenizer_option
@encoded_option
@path_option("run", "Folder of the run to write.")
@state_option
@micro_batch_option
@click.pass_obj
def base(
    threads: int, /, spec: dict[str, Any], data: Path, micro_batch: int, **paths: Path | None
) -> None:
    """Train a base model from scratch."""
    from mclr.jobs.inputs import Data
    from mclr.jobs.training import train_base
    from mclr.site import load_site
    from mclr.training.processes import joined

    device = _deterministic(threads)
    with joined(micro_batch, device, load_site().train.checkpointing) as share:
        train_base(spec, Data(data), **paths, share=share, device=device)  # type: ignore[arg-type]


@cli.command()
@spec_option
@path_option("manifest", "Manifest of the prepared data.")
@path_option("weights", "Checkpoint of the base model.")
@tokenizer_option
@path_option("output", "File to write.")
@click.pass_obj
def negatives(
    threads: int,
    spec: dict[str, Any],
    manifest: Path,
    weights: Path,
    tokenizer: Path | None,
    output: Path,
) -> None:
    """Sample the frozen base model, for DDO."""
    from mclr.jobs.sampling import sample_negatives
    from mclr.training.processes import joined

    device = _deterministic(threads)
    with joined(device=device):
        sample_negatives(spec, manifest, weights, tokenizer, output, device)


@cli.command()
@spec_option
@data_option
@path_option("base", "Checkpoint of the base model.")
@tokenizer_option
@encoded_option
@path_option("negatives", "Samples of the base model (DDO).", required=False)
@path_option("selection", "Selected point, whose hyperparameters and step to take.", required=False)
@path_option("run", "Folder of the run to write.")
@state_option
@micro_batch_option
@click.pass_obj
def finetune(
    threads: int, /, spec: dict[str, Any], data: Path, micro_batch: int, **paths: Path | None
) -> None:
    """Fine-tune a base model with MCLR, CC-DPO, CCA or DDO."""
    from mclr.jobs.inputs import Data
    from mclr.jobs.training import finetune as run_job
    from mclr.site import load_site
    from mclr.training.processes import joined

    device = _deterministic(threads)
    with joined(micro_batch, device, load_site().train.checkpointing) as share:
        run_job(spec, Data(data), **paths, share=share, device=device)  # type: ignore[arg-type]


@cli.command()
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
    spec: dict[str, Any],
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
    from mclr.training.processes import joined

    device = _deterministic(threads)
    weights_of = {name: folder / "net.safetensors" for name, folder in nets}
    with joined(device=device):
        run(
            spec, shard, manifest, weights, tokenizer, weights_of, output, grid,
            base=base, selection=selection, device=device,
        )  # fmt: skip


@cli.command()
@spec_option
@path_option("manifest", "Manifest of the prepared data.")
@nets_option
@path_option("samples", "Folder of the points' feature files.")
@path_option("selection", "Selected point of the experiment.", required=False)
@path_option("output", "JSON file to write.")
@click.pass_obj
def evaluate(
    threads: int,
    spec: dict[str, Any],
    manifest: Path,
    nets: tuple[tuple[str, Path], ...],
    samples: Path,
    selection: Path | None,
    output: Path,
) -> None:
    """FD, IS, precision and recall of all points of an evaluation."""
    from mclr.jobs.evaluation import evaluate as run

    _deterministic(threads)
    run(spec, manifest, dict(nets), samples, output, selection)


@cli.command()
@spec_option
@path_option("manifest", "Manifest of the prepared data.")
@nets_option
@path_option("output", "JSON file to write.")
@click.pass_obj
def floors(
    threads: int,
    spec: dict[str, Any],
    manifest: Path,
    nets: tuple[tuple[str, Path], ...],
    output: Path,
) -> None:
    """FD, IS, precision and recall of real training images."""
    from mclr.jobs.floors import floors as run

    _deterministic(threads)
    run(spec, manifest, dict(nets), output)


@cli.command()
@path_option("evaluation", "Evaluation of the experiment.")
@click.option("--by", required=True, help="Feature net whose FD decides.")
@path_option("output", "JSON file to write.")
def select(evaluation: Path, by: str, output: Path) -> None:
    """Write which point of an experiment has the lowest FD."""
    from mclr.jobs.selection import select as run

    run(evaluation, by, output)


@cli.command()
@path_option("evaluation", "Evaluation of the experiment.")
@click.option("--by", required=True, help="Feature net whose FD decides.")
@path_option("output", "Checkpoint to write.")
def best(evaluation: Path, by: str, output: Path) -> None:
    """Copy the checkpoint of lowest FD of an experiment."""
    from mclr.jobs.selection import copy_best

    copy_best(evaluation, by, output)


@cli.command()
@path_option("runs", "Folder of all runs.")
@path_option("output", "metrics.parquet to write.")
@path_option("protocols", "protocols.json to write.")
@click.argument("evaluations", nargs=-1, required=True, type=PATH)
def metrics(runs: Path, output: Path, protocols: Path, evaluations: tuple[Path, ...]) -> None:
    """Gather the evaluations of a tier into one table."""
    from mclr.jobs.selection import gather

    gather(list(evaluations), runs, output, protocols)


@cli.command()
@spec_option
@path_option("output", "YAML file to write.")
def effective_config(spec: dict[str, Any], output: Path) -> None:
    """Write the configuration as it was understood, defaults included."""
    import yaml

    from mclr.files import write_text

    write_text(output, yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))


@cli.command()
@config_option
@path_option("metrics", "metrics.parquet of the tier.")
@path_option("output", "Folder to write.")
def table(config: Path, metrics: Path, output: Path) -> None:
    """Write Table 1 (csv, md, tex, json), and every point as points.csv."""
    from mclr.jobs.report import table as run
    from mclr.read_config import load_tier

    run(load_tier(config), metrics, output)


@cli.command()
@config_option
@path_option("metrics", "metrics.parquet of the tier.")
@path_option("manifest", "Manifest of the prepared data.")
@path_option("grids", "Folder of the points' image grids.")
@path_option("output", "Folder to write.")
def figures(config: Path, metrics: Path, manifest: Path, grids: Path, output: Path) -> None:
    """Draw every figure of a tier."""
    from mclr.jobs.report import figures as run
    from mclr.read_config import load_tier

    run(load_tier(config), metrics, manifest, grids, output)


@cli.command()
@config_option
@path_option("results", "Folder of the tier's results.")
@path_option("manifest", "Manifest of the prepared data.")
@path_option("output", "HTML file to write.")
def report(config: Path, results: Path, manifest: Path, output: Path) -> None:
    """Write the self-contained report page."""
    from mclr.jobs.report import report as run
    from mclr.read_config import load_tier

    run(load_tier(config), results, manifest, output)


@cli.command()
@config_option
@path_option("results", "Folder of the tier's results.", required=False)
@path_option("record", "JSON file to write: what was published.", required=False)
@click.option("--watch", is_flag=True, help="Keep publishing until all runs are finished.")
@click.option("--interval", default=5.0, show_default=True, help="Seconds between two looks.")
def track(
    config: Path, results: Path | None, record: Path | None, watch: bool, interval: float
) -> None:
    """Publish a tier's runs to MLflow; running it twice changes nothing.

    The store is $MLFLOW_TRACKING_URI, or sqlite:///mlflow.db in this directory.
    """
    from mclr.files import write_json
    from mclr.read_config import load_tier
    from mclr.tracking import publish
    from mclr.tracking import watch as keep_publishing

    tier = load_tier(config)
    folder = results or Path("results", tier.tier)
    if watch:
        keep_publishing(tier, folder, interval, lambda: False)
        return
    counts = publish(tier, folder)
    if record:
        write_json(record, {"published": sum(counts.values())})


@cli.command()
def schema() -> None:
    """Print the JSON schema of a configuration file (`config/schema.json`)."""
    from mclr.read_config import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@cli.command()
@config_option
def show(config: Path) -> None:
    """Print Table 1, the report's path and how to open the MLflow UI."""
    import pandas as pd

    from mclr.read_config import load_tier
    from mclr.report.table import terminal_table
    from mclr.tracking.views import how_to_look

    tier = load_tier(config)
    folder = Path("results", tier.tier)
    if not (folder / "metrics.parquet").is_file():
        raise UserError(f"{folder}/metrics.parquet: no results yet; run `make demo` or `dvc pull`")
    click.echo(terminal_table(pd.read_parquet(folder / "metrics.parquet"), tier))
    command, *links = how_to_look(tier)
    click.echo(f"\nReport:  {folder / 'report.html'}\nMLflow:  {command}")
    for link in links:
        click.echo(f"         {link}")


cli.add_command(import_weights)
cli.add_command(export_weights)
cli.add_command(export_model)
cli.add_command(draw)
cli.add_command(new)
cli.add_command(reconstruct_ema)
cli.add_command(theory)
cli.add_command(check_store)
cli.add_command(doctor)
cli.add_command(plan)
cli.add_command(theory_page)
cli.add_command(claims)
cli.add_command(similarity)
cli.add_command(separation)
cli.add_command(fetch_released)
cli.add_command(import_base)
cli.add_command(import_tokenizer)
cli.add_command(published_net)


def main() -> None:
    """Entry point: user errors are one line on standard error and exit status 2."""
    debug = "--debug" in sys.argv[1:]
    try:
        cli(standalone_mode=False)
    except UserError as error:
        if debug:
            raise
        LOG.error("mclr: error: %s", error)
        sys.exit(2)
    except ValueError as error:
        from pydantic import ValidationError

        if debug or not isinstance(error, ValidationError):
            raise
        LOG.error("mclr: error: --spec: %s", " ".join(str(error).split()))
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)


if __name__ == "__main__":
    main()

"""Commands that show results: table, figures, report, MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mclr.commands.options import config_option, json_option, parsed, path_option, spec_option
from mclr.commands.people import InCheckout
from mclr.errors import UserError, printable
from mclr.events import LOG
from mclr.terminal import waiting

if TYPE_CHECKING:
    from mclr.config.tier import Tier


@click.command()
@spec_option
@path_option("output", "YAML file to write.")
def effective_config(spec: str, output: Path) -> None:
    """Write the configuration as it was understood, defaults included."""
    from mclr.files import write_yaml

    write_yaml(output, parsed(dict[str, Any], spec))


@click.command()
@config_option
@path_option("metrics", "metrics.parquet of the tier.")
@path_option("output", "Folder to write.")
def table(config: Path, metrics: Path, output: Path) -> None:
    """Write Table 1 (csv, md, tex, json), and every point as points.csv."""
    from mclr.config.reading import load_tier
    from mclr.jobs.report import table as run
    from mclr.report.methods import with_entries

    run(with_entries(load_tier(config), metrics.parent), metrics, output)


@click.command()
@config_option
@path_option("metrics", "metrics.parquet of the tier.")
@path_option("manifest", "Manifest of the prepared data.")
@path_option("grids", "Folder of the points' image grids.")
@path_option("output", "Folder to write.")
def figures(config: Path, metrics: Path, manifest: Path, grids: Path, output: Path) -> None:
    """Draw every figure of a tier."""
    from mclr.config.reading import load_tier
    from mclr.jobs.report import figures as run
    from mclr.report.methods import with_entries

    run(with_entries(load_tier(config), metrics.parent), metrics, manifest, grids, output)


@click.command()
@config_option
@path_option("results", "Folder of the tier's results.")
@path_option("manifest", "Manifest of the prepared data.")
@path_option("output", "HTML file to write.")
def report(config: Path, results: Path, manifest: Path, output: Path) -> None:
    """Write the self-contained report page."""
    from mclr.config.reading import load_tier
    from mclr.jobs.report import report as run
    from mclr.report.methods import with_entries

    run(with_entries(load_tier(config), results), results, manifest, output)


@click.command(cls=InCheckout)
@config_option
@path_option("results", "Folder of the tier's results.", required=False)
@path_option("record", "JSON file to write: what was published.", required=False)
@click.option("--watch", is_flag=True, help="Keep publishing until all runs are finished.")
@click.option("--interval", default=5.0, show_default=True, help="Seconds between two looks.")
@json_option
def track(
    config: Path,
    results: Path | None,
    record: Path | None,
    watch: bool,
    interval: float,
    as_json: bool,
) -> None:
    """Publish a tier's runs to MLflow; running it twice changes nothing.

    The store is $MLFLOW_TRACKING_URI, or sqlite:///mlflow.db in this directory.

    \b
    Example, while the workflow runs in another terminal:
      mclr track --config config/fashion.yaml --watch
    """
    from mclr.config.reading import load_tier
    from mclr.files import write_json
    from mclr.tracking import publish, what_was_published
    from mclr.tracking import watch as keep_publishing

    tier = load_tier(config)
    folder = results or Path("results", tier.tier)
    if watch:
        keep_publishing(tier, folder, interval, lambda: False)
        return
    with waiting("mclr track") as tell:
        counts = publish(tier, folder, tell=tell)
    if record:
        write_json(record, {"published": sum(counts.values())})
    if as_json:
        click.echo(json.dumps(counts))
    elif not record:
        click.echo(printable(what_was_published(tier, counts)))


@click.command()
def schema() -> None:
    """Print the JSON schema of a configuration file (`config/schema.json`)."""
    from mclr.config.reading import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@click.command(cls=InCheckout)
@config_option
@json_option
def show(config: Path, as_json: bool) -> None:
    """Print Table 1, the report's path and how to open the MLflow UI.

    Before there is a Table 1: what is measured or trained already, and how to use it.

    \b
    Examples:
      mclr show
      mclr show --config config/fashion.yaml --json
    """
    from mclr.config.reading import load_tier
    from mclr.files import read_table
    from mclr.report.methods import with_entries
    from mclr.report.partial import edited
    from mclr.report.rows import make_table
    from mclr.report.table import terminal_table
    from mclr.tracking.views import how_to_look

    tier = load_tier(config)
    folder = Path("results", tier.tier)
    if changes := edited(tier, folder):
        LOG.warning(
            "%s was edited since these results were made (%s); `snakemake` makes them again",
            config,
            printable(changes),
        )
    if not (folder / "metrics.parquet").is_file():
        _show_what_there_is(tier, folder, config, as_json)
        return
    tier = with_entries(tier, folder)
    metrics = read_table(folder / "metrics.parquet")
    command, links = how_to_look(tier)
    if as_json:
        rows = json.loads(make_table(metrics, tier).rows.to_json(orient="records"))
        names = ("model", "view", "url")
        found = {"rows": rows, "report": str(folder / "report.html"), "mlflow": command}
        found["links"] = [dict(zip(names, link, strict=True)) for link in links]
        click.echo(json.dumps(found))
        return
    click.echo(printable(terminal_table(metrics, tier)))
    report = folder / "report.html"
    place = report if report.is_file() else f"{report} is not made yet; run `snakemake`'s `all`"
    click.echo(f"\nReport:  {place}\nMLflow:  {command}")
    for model, view, link in links:
        click.echo(printable(f"         {model}, {view}: {link}"))


def _show_what_there_is(tier: Tier, folder: Path, config: Path, as_json: bool) -> None:
    """Of a tier without Table 1; UserError where nothing has begun, or for programs."""
    from mclr.report.partial import what_there_is

    make = f"snakemake --configfile {config} --cores 2 -- table1"
    lines = [] if as_json else what_there_is(tier, folder, config)
    if not lines:
        raise UserError(
            f"{folder}/metrics.parquet: no results yet; run `{make}`, or `dvc pull` for "
            "published ones"
        )
    click.echo(f"{tier.tier}: no Table 1 yet, but there is\n")
    click.echo(printable("\n".join(f"  {line}" for line in lines)))
    click.echo(f"\nTable 1:  {make}")

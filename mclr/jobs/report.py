"""Jobs that show: figures and the report page, from files that other jobs wrote.

Each imports its own drawing libraries, which take longer to load than a table takes to write.
"""

from __future__ import annotations

import math
from pathlib import Path

from mclr.config.tier import Tier
from mclr.data.load import load_manifest
from mclr.files import read_json, read_table, write_json, write_text
from mclr.planning.plan import Plan
from mclr.report.summary import METRICS, summarise, table_rows

FIRST_SHARD = "shard-000.png"


def table(tier: Tier, metrics: Path, folder: Path) -> None:
    """Table 1 for people, and the same numbers for ``dvc metrics`` and ``dvc plots``."""
    from mclr.report.making import equal_cost_csv
    from mclr.report.table import write_tables

    rows, net = read_table(metrics), tier.report.features
    write_tables(rows, tier, folder)
    best = table_rows(rows, net, net)
    nested: dict[str, dict[str, dict[str, float]]] = {}
    for row in best.to_dict("records"):
        measured = [name for name in METRICS if math.isfinite(row[name])]
        numbers = {name: round(float(row[name]), 6) for name in measured}
        nested.setdefault(str(row["model"]), {})[str(row["method"])] = numbers
    write_json(folder / "table1.json", nested)
    points = summarise(rows, net).drop(columns=["n_samples", "protocol"])
    write_text(folder / "points.csv", points.to_csv(index=False, float_format="%.6g"))
    write_text(folder / "equal_cost.csv", equal_cost_csv(rows, tier))


def figures(tier: Tier, metrics: Path, manifest: Path, grids: Path, output: Path) -> None:
    """Curves from the metrics, and progressive grids from the points' stored images."""
    from mclr.report.curves import write_figures
    from mclr.report.grids import write_grids

    rows = read_table(metrics)
    write_figures(rows, tier, output)
    write_grids(rows, tier, images_of(tier, grids), shown_classes(tier, manifest), output)


def report(tier: Tier, results: Path, manifest: Path, output: Path) -> None:
    """One self-contained page of everything a tier has to show.

    ``similarity.json``, ``separation/<model>.json`` and benchmarks are shown if they are there.
    """
    from mclr.claims.render import shown
    from mclr.report.cost import costs
    from mclr.report.page import Sources, write_report

    plan = Plan(tier)
    optional = results / "similarity.json"
    separation = {name: results / "separation" / f"{name}.json" for name in tier.models}
    sources = Sources(
        provenance=[
            read_json(results / "runs" / run_id / "provenance.json", "git_commit")
            | {"run_id": run_id}
            for run_id in plan.runs
        ],
        features={
            name: read_json(results / "feature-nets" / name / "info.json", "settings")
            for name in plan.nets
        },
        claims=shown(read_json(results / "claims.json"), list(tier.models)),
        similarity=read_json(optional) if optional.is_file() else {},
        separation={n: read_json(path) for n, path in separation.items() if path.is_file()},
        grids=images_of(tier, results / "grids"),
        class_names=shown_classes(tier, manifest),
        shared_images=len(read_json(manifest).get("shared_images", [])),
        costs=costs(results / "benchmarks", tier),
    )
    metrics = read_table(results / "metrics.parquet")
    write_report(metrics, tier, results / "figures", sources, output)


def images_of(tier: Tier, grids: Path) -> dict[str, Path]:
    """The image grid of each point, by ``Point.path``; ``grids`` is ``results/<tier>/grids``."""
    evaluations = Plan(tier).evaluations.values()
    points = [point for points in evaluations for point in points]
    return {point.path: grids / point.path / FIRST_SHARD for point in points}


def shown_classes(tier: Tier, manifest: Path) -> list[str]:
    """Names of the classes that the image grids have columns for, without control characters."""
    names = load_manifest(manifest).class_names
    return [_printable(names[label]) for label in tier.evaluation.shown(len(names))]


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)

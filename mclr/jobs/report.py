"""Jobs that show: figures and the report page, from files that other jobs wrote.

Each imports its own drawing libraries, which take longer to load than a table takes to write.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mclr.config import Tier
from mclr.files import read_json, write_json, write_text
from mclr.plan import Plan
from mclr.report.summary import METRICS, best_rows, summarise


def table(tier: Tier, metrics: Path, folder: Path) -> None:
    """Table 1 for people, and the same numbers for ``dvc metrics`` and ``dvc plots``."""
    from mclr.report.table import write_table

    rows = pd.read_parquet(metrics)
    write_table(rows, tier, folder)
    best = best_rows(rows, tier.report.features)
    nested: dict[str, dict[str, dict[str, float]]] = {}
    for row in best.to_dict("records"):
        numbers = {name: round(float(row[name]), 6) for name in METRICS}
        nested.setdefault(str(row["model"]), {})[str(row["method"])] = numbers
    write_json(folder / "table1.json", nested)
    points = summarise(rows, tier.report.features).drop(columns=["n_samples", "protocol"])
    write_text(folder / "points.csv", points.to_csv(index=False, float_format="%.6g"))


def figures(tier: Tier, metrics: Path, manifest: Path, grids: Path, output: Path) -> None:
    """Curves from the metrics, and progressive grids from the points' stored images."""
    from mclr.data.load import load_manifest
    from mclr.report.curves import write_figures
    from mclr.report.grids import write_grids

    rows, plan = pd.read_parquet(metrics), Plan(tier)
    write_figures(rows, tier, output)
    points = [point for experiment in plan.experiments for point in plan.points(experiment)]
    images = {point.path: grids / point.path / "shard-000.png" for point in points}
    write_grids(rows, tier, images, load_manifest(manifest).class_names, output)


def report(tier: Tier, results: Path, output: Path) -> None:
    """One self-contained page of everything a tier has to show."""
    from mclr.report.page import write_report

    write_report(
        pd.read_parquet(results / "metrics.parquet"),
        tier,
        results / "figures",
        [
            read_json(results / "runs" / run_id / "provenance.json") | {"run_id": run_id}
            for run_id in Plan(tier).runs
        ],
        {name: read_json(results / "feature-nets" / name / "info.json") for name in tier.features},
        output,
    )

"""Jobs that show: figures and the report page, from files that other jobs wrote."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mclr.config import Tier
from mclr.data.load import load_manifest
from mclr.files import read_json
from mclr.plan import Plan
from mclr.report.curves import write_figures
from mclr.report.grids import write_grids
from mclr.report.page import write_report


def figures(tier: Tier, metrics: Path, manifest: Path, grids: Path, output: Path) -> None:
    """Curves from the metrics, and progressive grids from the points' stored images."""
    rows, plan = pd.read_parquet(metrics), Plan(tier)
    write_figures(rows, tier, output)
    points = [point for experiment in plan.experiments for point in plan.points(experiment)]
    images = {point.path: grids / point.path / "shard-000.png" for point in points}
    write_grids(rows, tier, images, load_manifest(manifest).class_names, output)


def report(tier: Tier, results: Path, output: Path) -> None:
    """One self-contained page of everything a tier has to show."""
    write_report(
        pd.read_parquet(results / "metrics.parquet"),
        tier,
        results / "figures",
        [
            read_json(results / "runs" / run_id / "provenance.json") | {"run_id": run_id}
            for run_id in Plan(tier).runs
        ],
        {
            name: read_json(results / "feature-nets" / name / "info.json") for name in tier.features
        },
        output,
    )

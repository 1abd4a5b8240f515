"""Jobs over finished evaluations: an experiment's best checkpoint, all metrics of a tier.

They import neither torch nor, for the best checkpoint, pandas: they are done in a moment.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

from mclr.errors import UserError
from mclr.files import atomic, read_json, write_json
from mclr.files.checksums import check
from mclr.provenance import other_packages
from mclr.settings.section import canonical

SELECTED = ("run_id", "method", "hyperparameters", "step", "guidance", "checkpoint")


def best_point(evaluation: Path, features: str) -> dict[str, Any]:
    """The row of lowest FD in the evaluation of an experiment: the paper's rule for Table 1.

    Hyperparameters, step and guidance are those of the lowest mean over seeds; of their seeds,
    the one with the lowest FD. Of a base model, the best guidance scale is sought.
    """
    fd = f"fd_{features}"
    rows = read_json(evaluation, "rows")["rows"]
    candidates = [row for row in rows if row["method"] == "cfg"] or rows
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in candidates:
        named = {name: row[name] for name in ("hyperparameters", "step", "guidance")}
        groups.setdefault(canonical(named), []).append(row)
    winners = min(groups.values(), key=lambda rows: fmean(row[fd] for row in rows))
    return min(winners, key=lambda row: float(row[fd]))


def select(evaluation: Path, features: str, output: Path) -> None:
    """Write which point of an experiment is the best, for the jobs that go on from it."""
    best = best_point(evaluation, features)
    chosen = {key: best[key] for key in SELECTED}
    about = {"by": f"fd_{features}", "value": best[f"fd_{features}"]}
    write_json(output, chosen | about, noted=True)


def copy_best(evaluation: Path, features: str, output: Path) -> None:
    """Copy the checkpoint of an experiment with the lowest FD, see ``best_point``."""
    checkpoint = Path(best_point(evaluation, features)["checkpoint"])
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: checkpoint is missing; run `snakemake` to make it again")
    check(checkpoint)
    with atomic(output, noted=True) as temporary:
        shutil.copyfile(checkpoint, temporary)


def gather(evaluations: list[Path], runs: Path, metrics: Path, protocols: Path) -> None:
    """Collect the rows of all experiments into ``metrics.parquet``."""
    contents = [read_json(path, "rows", "protocol") for path in evaluations]
    rows = [row for content in contents for row in content["rows"]]
    for row in rows:
        row["hyperparameters"] = canonical(row["hyperparameters"])
        # Real images come from no run.
        made_by = runs / row["run_id"] / "provenance.json"
        made = read_json(made_by, "git_commit") if row["run_id"] else {}
        row["git_commit"] = made.get("git_commit", "")
        trained_with = other_packages(made.get("packages", {}))
        if packages := {trained_with, row.get("packages", "")} - {""}:
            row["packages"] = "; ".join(sorted(packages))
    import pandas as pd

    table = pd.DataFrame(rows).drop(columns="path")
    with atomic(metrics, noted=True) as temporary:
        table.to_parquet(temporary, index=False)
    found = [p for c in contents for p in (c["protocol"], *c.get("other_protocols", []))]
    write_json(protocols, {protocol["id"]: protocol for protocol in found})

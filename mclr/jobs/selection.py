"""Jobs over finished evaluations: an experiment's best checkpoint, all metrics of a tier.

They import neither torch nor, for the best checkpoint, pandas: they are done in a moment.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

from mclr.config import canonical
from mclr.errors import UserError
from mclr.files import atomic, read_json, write_json


def copy_best(evaluation: Path, features: str, output: Path) -> None:
    """Copy the checkpoint of an experiment with the lowest FD.

    The step and hyperparameters are those of the lowest mean over seeds, as in Table 1; of their
    seeds, the one with the lowest FD.
    """
    fd = f"fd_{features}"
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in read_json(evaluation)["rows"]:
        if row["guidance"] == 0:
            key = canonical(row["hyperparameters"]) + str(row["step"])
            groups.setdefault(key, []).append(row)
    winners = min(groups.values(), key=lambda rows: fmean(row[fd] for row in rows))
    checkpoint = Path(min(winners, key=lambda row: row[fd])["checkpoint"])
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: checkpoint is missing; run `snakemake` to make it again")
    with atomic(output) as temporary:
        shutil.copyfile(checkpoint, temporary)


def gather(evaluations: list[Path], runs: Path, metrics: Path, protocols: Path) -> None:
    """Collect the rows of all experiments into ``metrics.parquet``."""
    contents = [read_json(path) for path in evaluations]
    rows = [row for content in contents for row in content["rows"]]
    for row in rows:
        row["hyperparameters"] = canonical(row["hyperparameters"])
        row["git_commit"] = read_json(runs / row["run_id"] / "provenance.json")["git_commit"]
    import pandas as pd

    table = pd.DataFrame(rows).drop(columns="path")
    with atomic(metrics) as temporary:
        table.to_parquet(temporary, index=False)
    write_json(protocols, {c["protocol"]["id"]: c["protocol"] for c in contents})

"""What a tier cost, from benchmark files as Snakemake writes them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mclr.config.tier import Tier
from mclr.report.cost import Cost, costs, duration, evaluations_per_image, total

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"
POINT = "sample/edm2-base/edm2-base/step-000400/guidance-0/seed-0/shard-000"


def write(folder: Path, name: str, seconds: float, cores: str) -> None:
    path = folder / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEADER}\n{seconds}\t0:00:01\t1\t1\t1\t1\t1\t1\t50\t{cores}\n")


def test_jobs_are_added_up_by_rule_in_the_order_of_the_pipeline(tier: Tier, tmp_path: Path) -> None:
    write(tmp_path, POINT, 8, "4")
    write(tmp_path, "base/edm2", 60, "50.5")
    write(tmp_path, "base/var", 30, "-")  # too short to be measured: one core, all the time
    write(tmp_path, "figures", 10, "9")
    assert costs(tmp_path, tier) == [
        Cost("train base models", 2, 90, 80.5),
        Cost("sample images, compute features", 1, 8, 4),
        Cost("draw figures", 1, 10, 9),
    ]
    assert total(costs(tmp_path, tier)) == Cost("all", 4, 108, 93.5)


def test_old_runs_and_the_report_itself_do_not_count(tier: Tier, tmp_path: Path) -> None:
    write(tmp_path, "report", 2, "1")
    write(tmp_path, "finetune/edm2-mclr-lr7-seed0", 100, "100")
    write(tmp_path, POINT.replace("000400", "000300"), 100, "100")
    assert costs(tmp_path, tier) == costs(tmp_path / "nowhere", tier) == []


def test_words() -> None:
    assert [duration(s) for s in (9.4, 61, 3599, 36_000_000)] == [
        *("9 s", "1.0 min", "60.0 min", "10,000.0 h")
    ]


def test_guidance_doubles_the_evaluations(metrics: pd.DataFrame, tier: Tier) -> None:
    assert evaluations_per_image(metrics, tier) == [("EDM2", "31", "62"), ("VAR", "3", "6")]
    plain = metrics[metrics["method"] != "cfg"]
    assert evaluations_per_image(plain, tier)[0] == ("EDM2", "31", "–")

"""The DAG end to end: what it makes, and what it makes again after a change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import yaml
from checkout import MICRO, Checkout
from safetensors import safe_open

from mclr.config.reading import load_tier
from mclr.planning.plan import Plan

METRIC_COLUMNS = {
    *("tier", "model", "method", "hyperparameters", "seed", "step", "guidance", "nfe"),
    *("stage", "dial"),
    *("n_samples", "protocol", "checkpoint", "run_id", "git_commit"),
    *("fd_cnn", "precision_cnn", "recall_cnn", "is_mean", "is_std"),
}


def test_every_contract_file_is_made(finished: Checkout) -> None:
    results = finished.results
    names = ("table1.csv", "table1.md", "table1.tex", "report.html", "config.yaml", "claims.json")
    for name in (*names, "claims.md", "similarity.json"):
        assert (results / name).stat().st_size > 0, name
    runs = {folder.name for folder in (results / "runs").iterdir()}
    assert runs == {
        *("edm2-base", "var-base", "edm2-mclr-seed0", "edm2-ddo-seed0"),
        *("var-mclr-seed0", "var-ddo-seed0"),
    }
    for run in runs:
        folder = results / "runs" / run
        events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        assert [events[0]["event"], events[-1]["event"]] == ["start", "end"]
        assert yaml.safe_load((folder / "config.yaml").read_text())["identity"]["seed"] == 0
        assert {"git_commit", "hardware", "data_sha256"} <= set(
            json.loads((folder / "provenance.json").read_text())
        )
        for checkpoint in (folder / "checkpoints").glob("step-*"):
            with safe_open(checkpoint, framework="pt") as stored:
                assert len(list(stored.keys())) > 10


def test_the_written_configuration_plans_the_same_runs(finished: Checkout) -> None:
    given, written = finished.folder / MICRO, finished.results / "config.yaml"
    for section in ("models", "runs"):
        order = [list(yaml.safe_load(path.read_text())[section]) for path in (given, written)]
        assert order[0] == order[1]
    assert order[0] != sorted(order[0])
    assert list(Plan(load_tier(written)).runs) == list(Plan(load_tier(given)).runs)


def test_metrics_have_a_row_per_point(finished: Checkout) -> None:
    metrics = pd.read_parquet(finished.results / "metrics.parquet")
    assert set(metrics.columns) >= METRIC_COLUMNS
    generated = metrics[metrics["method"] != "real"]
    assert set(generated["stage"]) == {"grid"}
    points = generated.groupby(["model", "method"]).size().to_dict()
    assert points == {
        ("edm2", "base"): 1,
        ("edm2", "cfg"): 1,
        ("edm2", "mclr"): 2,
        ("edm2", "ddo"): 1,
        ("var", "base"): 1,
        ("var", "cfg"): 1,
        ("var", "mclr"): 1,
        ("var", "ddo"): 1,
    }
    assert generated["protocol"].nunique() == 1
    nfe = generated.set_index(["model", "method"])["nfe"].to_dict()
    assert nfe[("edm2", "base")] == nfe[("edm2", "mclr")] == 3
    assert nfe[("edm2", "cfg")] == 6
    assert nfe[("var", "mclr")] == 3


def test_best_checkpoint_is_the_one_of_lowest_fd(finished: Checkout) -> None:
    metrics = pd.read_parquet(finished.results / "metrics.parquet")
    rows = metrics[metrics["run_id"] == "edm2-mclr-seed0"]
    winner = rows.loc[rows["fd_cnn"].idxmin(), "checkpoint"]
    best = finished.results / "best" / "edm2-mclr.safetensors"
    assert best.read_bytes() == (finished.folder / winner).read_bytes()


def test_every_point_keeps_a_grid(finished: Checkout) -> None:
    grids = sorted(finished.results.glob("grids/edm2-*/*/step-*/guidance-*/seed-0/shard-000.png"))
    assert len(grids) == 5  # base, CFG, two MCLR checkpoints, one DDO checkpoint


def test_progress_is_shown(finished: Checkout) -> None:
    output = (finished.folder / "output.txt").read_text()
    assert "steps (100%) done" in output
    assert "edm2-base: 6/6," in output
    assert "images/s, ETA 0:00" in output
    log = finished.results / "logs" / "finetune" / "edm2-mclr-seed0.log"
    assert "edm2-mclr-seed0: 2/2" in log.read_text()


def test_nothing_to_do_the_second_time(finished: Checkout) -> None:
    assert "Nothing to be done" in finished.snakemake("all").stdout


def test_snakemakes_own_report_has_categories_and_captions(
    finished: Checkout, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    finished.snakemake("--report", str(page), "all")
    text = page.read_text()
    for category in ("Table 1", "Figures", "Claims", "Report page"):
        assert f'"{category}": {{"' in text, category
    for words in ("tier <strong>micro</strong>", "EDM2 micro", "FD against Inception Score"):
        assert words in text, words
    assert finished.planned("all") == {}


def test_one_learning_rate_reruns_what_depends_on_it(
    copy_of_finished: Callable[[], Checkout],
) -> None:
    checkout = copy_of_finished()
    objective = "{name: ddo, alpha: 1, beta: 0.05, n_negatives: 40}"
    checkout.edit(MICRO, f"{objective}\n    lr: 0.0001", f"{objective}\n    lr: 0.0002")
    assert checkout.planned() == {
        "finetune_edm2_ddo_seed0": 1,
        "sample": 2,
        "evaluate": 1,
        "best": 1,
        "effective_config": 1,
        "metrics": 1,
        "claims": 1,
        "table1": 1,
        "figures": 1,
        "report": 1,
        "track": 1,
    }  # and no similarity: that one looks at MCLR and CFG alone


def test_another_guidance_scale_trains_nothing(copy_of_finished: Callable[[], Checkout]) -> None:
    checkout = copy_of_finished()
    checkout.edit(MICRO, "guidance: [0.5]", "guidance: [0.5, 1]")
    planned = checkout.planned()
    assert planned["sample"] == 2
    assert planned["evaluate"] == 1
    assert not [name for name in planned if name.startswith(("base", "finetune", "feature"))]


def test_memory_is_bounded_without_touching_the_experiment(
    copy_of_finished: Callable[[], Checkout],
) -> None:
    """``micro_batch`` reaches the job, and finished runs are not made again for it."""
    checkout = copy_of_finished()
    setting = "--set-resources", "finetune_edm2_mclr_seed0:micro_batch=3"
    assert checkout.planned(*setting) == {}
    forced = "--forcerun", "finetune_edm2_mclr_seed0", "--dry-run", "--printshellcmds"
    assert "--micro-batch 3" in checkout.snakemake(*setting, *forced).stdout
    assert "--micro-batch 0" in checkout.snakemake(*forced).stdout


def test_digits_is_the_default_and_does_not_leak_into_other_tiers(fresh: Checkout) -> None:
    default = fresh.run("snakemake", "--cores", "1", "--dry-run", "--quiet", "rules").stdout
    assert "finetune_edm2_ccdpo_seed1" in default
    assert "finetune_edm2_ccdpo" not in fresh.snakemake("--dry-run").stdout


def test_a_family_of_ones_own_joins_the_dag(fresh: Checkout) -> None:
    """The example's configuration, planned by the real Snakefile; its jobs: test_own_family."""
    fresh.config = "docs/examples/own_family.yaml"
    planned = fresh.planned("all")
    assert planned["base_gaussian"] == planned["finetune_gaussian_mclr_seed0"] == 1
    assert planned["sample"] == 4 + 3


def test_finished_jobs_do_not_wake_the_scheduler_for_ever(fresh: Checkout) -> None:
    topics = [f"results/theory/{topic}.json" for topic in ("cca", "theorem1", "theorem2")]
    output = fresh.snakemake("--verbose", "--cores", "1", *topics).stdout
    jobs = output.count("Finished jobid")
    # Snakemake's own rate limit would look again every second, and after each job more often.
    assert jobs == 3 and output.count("Waiting for running jobs to complete.") <= jobs

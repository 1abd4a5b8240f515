"""Records are read from files alone and change exactly when the content does."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from tracking_files import BATCH, START, append, train, write_evaluations, write_report

from mclr.config.reading import parse_tier
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.objectives.catalogue import METHODS
from mclr.planning.plan import Plan
from mclr.tracking.made import made_with
from mclr.tracking.notes import NOTE, note
from mclr.tracking.records import Record, Value, metrics_digest, read_records, unfinished


def by_key(tier: Tier, results: Path) -> dict[str, Record]:
    return {record.key: record for record in read_records(tier, results)}


def test_a_run_has_few_parameters_and_says_where_it_comes_from(tier: Tier, results: Path) -> None:
    run = by_key(tier, results)["edm-mclr-seed1"]
    assert run.params == {
        "model": "edm", "method": "mclr", "seed": "1",
        "lr": "0.001", "batch": str(BATCH), "K": "1", "dsm": "0.0",
    }  # fmt: skip
    provenance = json.loads((results / "runs" / "edm-mclr-seed1" / "provenance.json").read_text())
    digest = provenance["config_sha256"]
    assert run.tags == {
        "experiment": "edm-mclr", "git_commit": "abc123", "git_dirty": "false",
        "data_sha256": "d" * 64, "config_sha256": digest, "code": "k" * 16,
        "hardware": "a processor", "python": "3.11", "package.torch": "2.14.1",
        "mlflow.note.content": note(METHODS["mclr"]), "mlflow.runColor": METHODS["mclr"].colour,
    }  # fmt: skip
    assert sorted(run.artefacts) == ["config.yaml", "provenance.json"]


def test_a_run_of_unknown_code_says_so(tier: Tier, results: Path) -> None:
    path = results / "runs" / "edm-mclr-seed1" / "provenance.json"
    facts = json.loads(path.read_text()) | {"git_commit": "unknown", "git_dirty": None}
    path.write_text(json.dumps(facts))
    tags = by_key(tier, results)["edm-mclr-seed1"].tags
    assert (tags["git_commit"], tags["git_dirty"]) == ("unknown", "unknown")


def test_runs_and_points_have_names_to_read(tier: Tier, results: Path) -> None:
    records = by_key(tier, results)
    assert records["edm-mclr-seed0"].name == "edm-mclr-seed0"
    names = [point.name for point in records["edm-mclr-seed0"].children]
    assert names == ["edm-mclr-seed0 step 10", "edm-mclr-seed0 step 20"]
    names = [point.name for point in records["edm-base"].children]
    assert names == [f"edm-base{guided} seed {s}" for guided in ("", " γ 2") for s in (0, 1)]


def test_the_note_of_a_run_has_the_papers_equation(tier: Tier, results: Path) -> None:
    records = by_key(tier, results)
    assert "Eq. (7)" in records["edm-base"].tags[NOTE]
    text = records["edm-mclr-seed0"].tags[NOTE]
    assert "Eq. (22)" in text and "\n    min −mean_k [ℓ_θ(x, c) − ℓ_θ(x, c̃_k)]\n" in text
    noted = [method for method in METHODS.values() if method.trained or method.name == "base"]
    assert all("Eq." in note(method) or "arXiv" in note(method) for method in noted)
    assert note(None) == note(METHODS["real"]) == ""


def test_curves_are_drawn_against_images_seen(tier: Tier, results: Path) -> None:
    metrics = by_key(tier, results)["edm-mclr-seed0"].metrics
    loss = [value for value in metrics if value.name == "train/loss"]
    assert [(v.value, v.step) for v in loss] == [(1 / n, n * BATCH) for n in (5, 10, 15, 20)]
    assert loss[0].time_ms == START * 1000 + 1000
    fd = [(v.value, v.step) for v in metrics if v.name == "fd"]
    assert fd == [(40.0, 10 * BATCH), (30.0, 20 * BATCH)]


def test_an_event_without_nimg_counts_steps_times_batch(tier: Tier, results: Path) -> None:
    events = results / "runs" / "edm-mclr-seed0" / "events.jsonl"
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    text = "".join(
        json.dumps({k: v for k, v in line.items() if k != "nimg"}) + "\n" for line in lines
    )
    before = by_key(tier, results)["edm-mclr-seed0"].metrics
    events.write_text(text)
    assert by_key(tier, results)["edm-mclr-seed0"].metrics == before


def test_base_series_is_the_mean_over_image_seeds_without_guidance(
    tier: Tier, results: Path
) -> None:
    metrics = by_key(tier, results)["edm-base"].metrics
    assert [v.value for v in metrics if v.name == "fd"] == [20.5]


def test_best_is_the_checkpoint_of_lowest_fd(tier: Tier, results: Path) -> None:
    metrics = by_key(tier, results)["edm-mclr-seed0"].metrics
    best = {v.name: (v.value, v.step) for v in metrics if v.name.startswith("best_")}
    assert best == {
        "best_fd": (30.0, 20 * BATCH),
        "best_precision": (0.7, 20 * BATCH),
        "best_recall": (0.7, 20 * BATCH),
        "best_is": (4.0, 20 * BATCH),
    }


def test_a_point_has_fixed_names_and_all_columns(tier: Tier, results: Path) -> None:
    points = by_key(tier, results)["edm-base"].children
    assert len(points) == 4
    point = next(p for p in points if p.params["guidance"] == "2.0" and p.params["seed"] == "1")
    assert point.params == {
        "model": "edm", "method": "cfg", "guidance": "2.0", "step": "30", "seed": "1", "nfe": "14",
    }  # fmt: skip
    values = {value.name: value.value for value in point.metrics}
    assert values == {
        "fd": 19.0, "precision": 0.8, "recall": pytest.approx(0.6), "is": 5.0,
        "fd_cnn": 19.0, "precision_cnn": 0.8, "recall_cnn": pytest.approx(0.6),
        "is_mean": 5.0, "is_std": 0.1,
    }  # fmt: skip
    assert point.tags["protocol"] == "p1"
    assert point.tags["checkpoint"].endswith("runs/edm-base/checkpoints/step-000030.safetensors")


def test_a_report_holds_figures_table_and_configuration(tier: Tier, results: Path) -> None:
    names = sorted(by_key(tier, results)["report"].artefacts)
    assert names == [
        "config.yaml",
        "figures/fd-is.png",
        "figures/precision-recall.png",
        "table1.md",
    ]


def test_digest_depends_on_content_alone(
    tier: Tier, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [record.digest() for record in read_records(tier, results)]
    moved = results.parent / "moved"
    shutil.copytree(results, moved)
    for file in moved.rglob("*.*"):
        os.utime(file, (1, 1))
    assert [record.digest() for record in read_records(tier, moved)] == before


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ("report", {"report"}),
        ("evaluation", {"edm-base", "edm-mclr-seed0", "edm-mclr-seed1"}),
        ("event", {"edm-mclr-seed0"}),
        ("config", {"edm-mclr-seed1"}),
    ],
)
def test_digest_changes_with_the_content(
    tier: Tier, results: Path, change: str, changed: set[str]
) -> None:
    before = {key: record.digest() for key, record in by_key(tier, results).items()}
    if change == "report":
        write_report(results, "blue")
    elif change == "evaluation":
        write_evaluations(tier, results, shift=1.0)
    elif change == "event":
        append(results / "runs" / "edm-mclr-seed0", "train", 25, loss=0.5)
    else:
        (results / "runs" / "edm-mclr-seed1" / "config.yaml").write_text("other\n")
    after = {key: record.digest() for key, record in by_key(tier, results).items()}
    assert {key for key in after if after[key] != before[key]} == changed


def test_a_digest_of_the_first_values_recognises_a_series_that_grew() -> None:
    values = [Value("loss", 1.0, 8, 1000), Value("loss", float("nan"), 16, 2000)]
    assert metrics_digest(values[:1]) == metrics_digest(values[:1])
    assert metrics_digest(values[:1]) != metrics_digest(values)
    assert metrics_digest(values) == metrics_digest(list(values))


def test_a_tier_at_work_has_only_what_is_there(tier: Tier, tmp_path: Path) -> None:
    assert read_records(tier, tmp_path) == []
    folder = tmp_path / "runs" / "edm-mclr-seed0"
    append(folder, "start", 0)
    train(folder, 5, 10)
    (record,) = read_records(tier, tmp_path)
    assert (record.key, record.finished, record.end_ms) == ("edm-mclr-seed0", False, None)
    assert record.children == ()
    assert unfinished(tier, tmp_path) == ["edm-base", "edm-mclr-seed0", "edm-mclr-seed1"]
    append(folder, "end", 10)
    assert unfinished(tier, tmp_path) == ["edm-base", "edm-mclr-seed1"]


def test_rows_without_the_features_of_the_report_are_explained(tier: Tier, results: Path) -> None:
    file = results / "evaluations" / "edm-base.json"
    file.write_text(file.read_text().replace("fd_cnn", "fd_other"))
    with pytest.raises(UserError, match=r"evaluations/edm-base.json: .* has no fd_cnn; run"):
        read_records(tier, results)


def test_a_final_run_has_the_settings_that_were_selected(tier: Tier) -> None:
    content = tier.model_dump(by_alias=True)
    content["runs"]["edm-mclr"]["sweep"] = {"lr": [0.001, 0.003]}
    plan = Plan(parse_tier(content | {"final": {"seeds": [5]}}, "small"))
    run = plan.runs["edm-mclr-final-seed5"]
    chosen = {**run.hyperparameters, "lr": 0.003}
    about = {"model": "edm", "method": "mclr", "seed": 5, "config_sha256": "x" * 64}
    made = made_with(plan, run, {**about, "hyperparameters": chosen})
    assert (made.parameters["lr"], made.other) == (0.003, "")
    edited = made_with(plan, run, {**about, "hyperparameters": chosen | {"batch": 64}})
    assert edited.other == "batch 64, now 8"


def test_a_final_run_has_the_weights_that_were_selected(tier: Tier) -> None:
    content = tier.model_dump(by_alias=True)
    content["runs"]["edm-mclr"]["optimizer"] = {"ema": {"std": 0.1, "evaluate": "both"}}
    plan = Plan(parse_tier(content | {"final": {"seeds": [5]}}, "small"))
    run = plan.runs["edm-mclr-final-seed5"]
    about = {"model": "edm", "method": "mclr", "seed": 5, "config_sha256": "x" * 64}
    told = []
    for std, weights in ((0.1, "raw"), (0.1, "average"), (0.05, "average")):
        ema = {"std": std, "evaluate": weights}
        chosen = run.hyperparameters | {"optimizer": {"ema": ema}}
        made = made_with(plan, run, {**about, "hyperparameters": chosen})
        assert made.parameters["optimizer"]["ema"] == ema
        told.append(made.other)
    assert told[:2] == ["", ""] and told[2].startswith("optimizer ")

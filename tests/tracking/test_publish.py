"""Publishing is idempotent: again, after a change, after a crash, and while training goes on."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tracking_files import (
    BATCH,
    Runs,
    append,
    finish,
    train,
    write_evaluations,
    write_report,
    write_runs,
)

from mclr.config.reading import parse_tier
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.planning.plan import Plan
from mclr.tracking import publish, watch
from mclr.tracking.store import open_store, resolve_uri

ALL = 12  # 3 training runs, 8 points, 1 report


def test_twice_is_once(tier: Tier, results: Path, runs: Runs) -> None:
    assert publish(tier, results) == Counter(created=ALL)
    first = {run.info.run_id for run in runs()}
    assert publish(tier, results) == Counter(unchanged=ALL)
    assert {run.info.run_id for run in runs()} == first
    assert len(first) == ALL


def test_every_run_is_told_when_its_turn_comes(tier: Tier, results: Path) -> None:
    told: list[str] = []
    publish(tier, results, tell=told.append)
    assert told[:2] == ["reading the results", "opening the store"]
    *runs, last = told[2:]
    assert [text.partition(" runs, ")[0] for text in runs] == ["1 of 4", "2 of 4", "3 of 4"]
    assert "1 of 4 runs, edm-base" in runs and last.startswith("4 of 4 runs, ")


def test_a_published_tier_reads_back(tier: Tier, results: Path, runs: Runs) -> None:
    publish(tier, results)
    parents = {run.data.tags["mclr.key"]: run for run in runs("run")}
    run = parents["edm-mclr-seed0"]
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 7000
    assert run.data.params["method"] == "mclr"
    assert run.data.tags["git_commit"] == "abc123"
    assert run.data.metrics["best_fd"] == 30.0
    points = [p for p in runs("point") if p.data.tags["mlflow.parentRunId"] == run.info.run_id]
    assert sorted(p.data.metrics["fd"] for p in points) == [30.0, 40.0]
    with open_store(resolve_uri(None)) as client:
        loss = client.get_metric_history(run.info.run_id, "train/loss")
        assert [value.step for value in loss] == [n * BATCH for n in (5, 10, 15, 20)]
        files = [file.path for file in client.list_artifacts(run.info.run_id)]
        assert files == ["config.yaml", "provenance.json"]
        (report,) = runs("report")
        figures = [file.path for file in client.list_artifacts(report.info.run_id, "figures")]
        assert figures == ["figures/fd-is.png", "figures/precision-recall.png"]


def test_a_changed_evaluation_replaces(tier: Tier, results: Path, runs: Runs) -> None:
    publish(tier, results)
    write_evaluations(tier, results, shift=1.0)
    # Points of a replaced run are new points of the new run.
    assert publish(tier, results) == Counter(replaced=3, created=8, unchanged=1)
    assert len(runs()) == ALL
    assert sorted(run.data.metrics["best_fd"] for run in runs("run")) == [21.5, 31.0, 32.0]
    assert publish(tier, results) == Counter(unchanged=ALL)


def test_a_changed_guided_point_replaces_that_point(tier: Tier, results: Path, runs: Runs) -> None:
    publish(tier, results)
    file = results / "evaluations" / "edm-base.json"
    file.write_text(file.read_text().replace('"fd_cnn": 18.0', '"fd_cnn": 17.0'))
    assert publish(tier, results) == Counter(replaced=1, unchanged=ALL - 1)
    assert min(run.data.metrics["fd"] for run in runs("point")) == 17.0
    assert len(runs()) == ALL


def test_changed_figures_replace_the_report(tier: Tier, results: Path, runs: Runs) -> None:
    publish(tier, results)
    write_report(results, "blue")
    (results / "figures" / "precision-recall.png").unlink()
    assert publish(tier, results) == Counter(replaced=1, unchanged=ALL - 1)
    (report,) = runs("report")
    with open_store(resolve_uri(None)) as client:
        files = client.list_artifacts(report.info.run_id, "figures")
        assert [file.path for file in files] == ["figures/fd-is.png"]
        copy = client.download_artifacts(report.info.run_id, "figures/fd-is.png")
    assert Path(copy).read_text() == "blue"


@pytest.mark.parametrize("call", ["log_batch", "log_artifact", "set_terminated", "set_tag"])
@pytest.mark.parametrize("successes", [0, 3])
def test_a_crash_is_resumed(
    tier: Tier,
    results: Path,
    runs: Runs,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    successes: int,
) -> None:
    from mlflow import MlflowClient

    original = getattr(MlflowClient, call)
    left = iter(range(successes))

    def crash(*arguments: Any, **options: Any) -> Any:
        if next(left, None) is None:
            raise RuntimeError("power cut")
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, call, crash)
        with pytest.raises(RuntimeError, match="power cut"):
            publish(tier, results)
    counts = publish(tier, results)
    assert counts["resumed"] >= 1
    assert counts["replaced"] == 0
    assert len(runs()) == counts.total() == ALL
    with open_store(resolve_uri(None)) as client:
        for run in runs("run"):
            steps = [v.step for v in client.get_metric_history(run.info.run_id, "train/loss")]
            assert len(steps) == len(set(steps)) in (4, 6)
    assert publish(tier, results) == Counter(unchanged=ALL)


def test_a_crash_while_replacing_leaves_nothing_behind(
    tier: Tier, results: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    publish(tier, results)
    write_evaluations(tier, results, shift=1.0)
    original = MlflowClient.delete_run
    left = iter(range(2))

    def crash(client: MlflowClient, run_id: str) -> None:
        if next(left, None) is None:
            raise RuntimeError("power cut")
        original(client, run_id)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "delete_run", crash)
        with pytest.raises(RuntimeError, match="power cut"):
            publish(tier, results)
    publish(tier, results)
    assert len(runs()) == ALL
    assert sorted(run.data.metrics["best_fd"] for run in runs("run")) == [21.5, 31.0, 32.0]


def live_values(runs: Runs) -> tuple[str, str, list[int]]:
    (run,) = runs("run")
    with open_store(resolve_uri(None)) as client:
        history = client.get_metric_history(run.info.run_id, "train/loss")
    return run.info.run_id, run.info.status, [value.step // BATCH for value in history]


def test_a_live_run_grows_and_finishes(
    tier: Tier, results: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    live = results.parent / "live"
    folder = live / "runs" / "edm-mclr-seed0"
    append(folder, "start", 0)
    train(folder, 5, 10)
    assert publish(tier, live) == Counter(created=1)
    run_id, status, steps = live_values(runs)
    assert (status, steps) == ("RUNNING", [5, 10])

    logged: list[int] = []
    original = MlflowClient.log_batch

    def count(client: MlflowClient, run_id: str, metrics: Any = (), **rest: Any) -> None:
        logged.append(len(metrics))
        original(client, run_id, metrics=metrics, **rest)

    monkeypatch.setattr(MlflowClient, "log_batch", count)
    train(folder, 15, 20)
    assert publish(tier, live) == Counter(resumed=1)
    assert live_values(runs) == (run_id, "RUNNING", [5, 10, 15, 20])
    assert sum(logged) == 4  # loss and margin of the two new steps

    finish(folder, 20)
    assert publish(tier, live) == Counter(resumed=1)
    assert live_values(runs) == (run_id, "FINISHED", [5, 10, 15, 20])
    assert runs("run")[0].data.tags["git_commit"] == "abc123"
    write_evaluations(tier, live)
    assert publish(tier, live) == Counter(resumed=1, created=2)
    assert live_values(runs)[0] == run_id
    assert publish(tier, live) == Counter(unchanged=3)


def test_a_run_that_went_back_is_replaced(tier: Tier, results: Path, runs: Runs) -> None:
    live = results.parent / "live"
    folder = live / "runs" / "edm-mclr-seed0"
    append(folder, "start", 0)
    train(folder, 5, 15)
    publish(tier, live)
    events = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join(events[:-1]))
    append(folder, "resume", 10)
    train(folder, 15, 20)
    assert publish(tier, live) == Counter(replaced=1)
    assert live_values(runs)[1:] == ("RUNNING", [5, 10, 15, 20])


def test_a_prolonged_run_is_running_again(tier: Tier, results: Path, runs: Runs) -> None:
    live = results.parent / "live"
    folder = live / "runs" / "edm-mclr-seed0"
    append(folder, "start", 0)
    train(folder, 5, 10)
    append(folder, "end", 10)
    publish(tier, live)
    append(folder, "resume", 10)
    assert publish(tier, live) == Counter(replaced=1)
    assert live_values(runs)[1:] == ("RUNNING", [5, 10])


def edited(tier: Tier, **values: Any) -> Tier:
    """The tier with other settings of its fine-tuning experiment."""
    content = tier.model_dump(by_alias=True)
    content["runs"]["edm-mclr"] |= values
    return parse_tier(content, "small")


def rates(runs: Runs) -> list[str]:
    return sorted(run.data.params.get("lr", "") for run in runs("run"))


def test_an_edit_without_training_changes_no_record(
    tier: Tier, results: Path, runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    """The curves are those of the learning rate that the run had; the configuration has another."""
    publish(tier, results)
    before = {run.info.run_id for run in runs()}
    assert publish(edited(tier, lr=0.002, batch=16), results) == Counter(unchanged=ALL)
    assert {run.info.run_id for run in runs()} == before
    assert rates(runs) == ["", "0.001", "0.001"]
    (line,) = caplog.messages
    assert line == (
        "edm-mclr: 2 runs (edm-mclr-seed0 …) were made with other settings than the configuration "
        "has (lr 0.001, now 0.002, batch 8, now 16); MLflow shows those they were made with. "
        "`snakemake` makes them again"
    )


def test_an_edit_before_the_first_publication_publishes_what_was_made(
    tier: Tier, results: Path, runs: Runs
) -> None:
    publish(edited(tier, lr=0.002), results)
    assert rates(runs) == ["", "0.001", "0.001"]


def test_an_edit_of_what_is_no_parameter_is_told(
    tier: Tier, results: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = tier.model_dump(by_alias=True)
    content["models"]["edm"]["base"]["lr"] = 0.02
    publish(parse_tier(content, "small"), results)
    (line,) = caplog.messages
    assert line.startswith("edm-base: 1 runs (edm-base …) were made with other settings")
    assert "its network or training" in line


def test_an_edit_of_a_run_that_has_not_ended_changes_no_record(
    tier: Tier, results: Path, runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own records are written at its end: until then nothing but its curves tells it."""
    live = results.parent / "live"
    folder = live / "runs" / "edm-mclr-seed0"
    append(folder, "start", 0)
    train(folder, 5, 10)
    publish(tier, live)
    assert publish(edited(tier, lr=0.002), live) == Counter(unchanged=1)
    assert rates(runs) == ["0.001"]
    assert "edm-mclr-seed0: the configuration has other settings" in caplog.messages[-1]
    train(folder, 15, 20)  # by the job that was started before the edit
    assert publish(edited(tier, lr=0.002), live) == Counter(unchanged=1)
    finish(folder, 20, **tier_identity(tier))
    assert publish(edited(tier, lr=0.002), live) == Counter(resumed=1)
    assert rates(runs) == ["0.001"]


def tier_identity(tier: Tier) -> dict[str, Any]:
    return Plan(tier).finetune_spec("edm-mclr-seed0").identity.model_dump()


def test_a_run_that_was_trained_again_replaces(tier: Tier, results: Path, runs: Runs) -> None:
    publish(tier, results)
    other = edited(tier, lr=0.002)
    shutil.rmtree(results / "runs")
    write_runs(other, results)
    write_evaluations(other, results)
    assert publish(other, results) == Counter(replaced=2, created=4, unchanged=6)
    assert rates(runs) == ["", "0.002", "0.002"]


def test_a_changed_origin_replaces(tier: Tier, results: Path, runs: Runs) -> None:
    live = results.parent / "live"
    folder = live / "runs" / "edm-mclr-seed0"
    append(folder, "start", 0)
    (folder / "provenance.json").write_text('{"git_commit": "old"}')
    publish(tier, live)
    (folder / "provenance.json").write_text('{"git_commit": "new"}')
    assert publish(tier, live) == Counter(replaced=1)
    assert [run.data.tags["git_commit"] for run in runs("run")] == ["new"]


def test_more_runs_than_a_page_of_the_server(
    tier: Tier, results: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    publish(tier, results)
    original = MlflowClient.search_runs

    def short_pages(client: MlflowClient, experiments: list[str], page_token: str | None) -> Any:
        return original(client, experiments, max_results=5, page_token=page_token)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "search_runs", short_pages)
        assert publish(tier, results) == Counter(unchanged=ALL)


def test_a_diverged_run_is_published(tier: Tier, results: Path, runs: Runs) -> None:
    live = results.parent / "live"
    folder = live / "runs" / "edm-mclr-seed0"
    append(folder, "start", 0)
    append(folder, "train", 5, loss=float("nan"))
    append(folder, "train", 10, loss=float("inf"))
    assert publish(tier, live) == Counter(created=1)
    assert publish(tier, live) == Counter(unchanged=1)
    assert live_values(runs)[2] == [5, 10]


def test_runs_no_longer_planned_stay(tier: Tier, results: Path, runs: Runs) -> None:
    publish(tier, results)
    smaller = tier.model_copy(update={"seeds": [0]})
    assert publish(smaller, results)["unchanged"] > 0
    assert len(runs()) == ALL


def test_a_long_run_takes_several_batches(tier: Tier, results: Path, runs: Runs) -> None:
    live = results.parent / "live"
    folder = live / "runs" / "edm-mclr-seed0"
    append(folder, "start", 0)
    lines = (folder / "events.jsonl").read_text()
    event = '{"time": %d, "event": "train", "step": %d, "loss": 1.0}\n'
    lines += "".join(event % (1_700_000_001 + n, n) for n in range(1, 1001))
    (folder / "events.jsonl").write_text(lines)
    publish(tier, live)
    assert live_values(runs)[2] == list(range(1, 1001))


def test_watch_publishes_until_all_runs_have_ended(tier: Tier, results: Path, runs: Runs) -> None:
    file = results / "runs" / "edm-mclr-seed0" / "events.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    seen: list[set[str]] = []

    def stop() -> bool:
        if not seen:
            seen.append({run.info.status for run in runs("run")})
            file.write_text("".join(lines))
        return False

    watch(tier, results, 0.0, stop)
    assert seen == [{"RUNNING", "FINISHED"}]
    assert {run.info.status for run in runs("run")} == {"FINISHED"}


def test_watch_stops_when_told(tier: Tier, results: Path, runs: Runs) -> None:
    (results / "runs" / "edm-mclr-seed0" / "events.jsonl").unlink()
    watch(tier, results, 3600.0, lambda: True)
    assert len(runs("run")) == 2


def test_watch_ends_cleanly_on_ctrl_c(tier: Tier, results: Path) -> None:
    (results / "runs" / "edm-mclr-seed0" / "events.jsonl").unlink()

    def ctrl_c() -> bool:
        raise KeyboardInterrupt

    watch(tier, results, 3600.0, ctrl_c)
    assert publish(tier, results)["unchanged"] > 0  # the lock is free


def test_watch_outlives_a_store_that_fails_for_a_while(
    tier: Tier, results: Path, runs: Runs
) -> None:
    file = results / "runs" / "edm-mclr-seed0" / "events.jsonl"
    lines = file.read_text()
    file.write_text("")
    calls: list[int] = []

    def stop() -> bool:
        calls.append(len(calls))
        if calls[-1] == 0:
            os.rename("mlflow.db", "away.db")
            os.mkdir("mlflow.db")
            file.write_text(lines)
        elif os.path.isdir("mlflow.db"):
            os.rmdir("mlflow.db")
            os.rename("away.db", "mlflow.db")
        return False

    watch(tier, results, 0.0, stop)
    assert len(runs("run")) == 3


def test_watch_reports_a_store_that_never_worked(tier: Tier, results: Path) -> None:
    with pytest.raises(UserError, match="nothing is lost"):
        watch(tier, results, 0.0, lambda: False, "sqlite:////dev/null/mlflow.db")


def test_one_publisher_at_a_time(tier: Tier, results: Path) -> None:
    with (results.parent / ".track.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"another `mclr track` .* over 0.3 s"):
            publish(tier, results, lock_timeout_s=0.3)
        threading.Timer(0.5, fcntl.flock, (held, fcntl.LOCK_UN)).start()
        assert publish(tier, results, lock_timeout_s=30) == Counter(created=ALL)


def test_no_results_is_explained(tier: Tier, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results to publish; run `snakemake` first"):
        publish(tier, tmp_path / "results" / "small")

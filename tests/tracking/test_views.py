"""The prepared charts, as stored; ``test_server.py`` opens them in a browser."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tracking_files import Runs, experiment

from mclr.cli import cli
from mclr.config.tier import Tier
from mclr.tracking import how_to_look, publish, ui_command, ui_url, what_was_published
from mclr.tracking.store import open_store, resolve_uri
from mclr.tracking.views import Look


def stored_views() -> dict[str, str]:
    with open_store(resolve_uri(None)) as client:
        tags = experiment(client).tags
    prefix = "mlflow.sharedViewState."
    return {name.removeprefix(prefix): tags[name] for name in tags if name.startswith(prefix)}


def state(view: str) -> Any:
    packed = json.loads(view)["state"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_both_views_are_stored_and_fit_a_tag(tier: Tier, results: Path) -> None:
    publish(tier, results)
    views = stored_views()
    assert sorted(views) == ["points", "sweep", "training"]
    assert max(map(len, views.values())) <= 5000
    points = state(views["points"])
    axes = [(c["xaxis"]["key"], c["yaxis"]["key"]) for c in points["compareRunCharts"]]
    assert axes == [("fd", "is"), ("recall", "precision")]
    assert points["searchFilter"] == "tags.`mclr.shown` LIKE '%'"
    sections = points["compareRunSections"]
    assert [s["columns"] for s in sections] == [1, 1] and "FD ↓" in sections[0]["name"]
    assert state(views["sweep"])["searchFilter"] == "tags.`mclr.kind` = 'point'"
    assert state(views["training"])["searchFilter"] == "tags.`mclr.kind` = 'run'"
    assert state(views["training"])["compareRunCharts"][0]["metricKey"] == "train/loss"
    with open_store(resolve_uri(None)) as client:
        assert "number of images seen" in experiment(client).tags["mlflow.note.content"]


def test_views_are_written_once(tier: Tier, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    publish(tier, results)

    def refuse(*arguments: Any) -> None:
        raise AssertionError("the view is there already")

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    publish(tier, results)


def test_how_to_look_names_the_command_and_the_links(tier: Tier, results: Path) -> None:
    command = f"mlflow ui --backend-store-uri {resolve_uri(None)} --port 5000"
    assert how_to_look(tier) == (command, [])
    publish(tier, results)
    link = "http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey={}&compareRunsMode=CHART"
    link += "&workflowType=machine_learning"
    links = [("edm", view, link.format(view)) for view in ("points", "sweep", "training")]
    assert how_to_look(tier) == (command, links)


def test_the_report_has_an_experiment_of_its_own(tier: Tier, results: Path, runs: Runs) -> None:
    publish(tier, results)
    with open_store(resolve_uri(None)) as client:
        report, models = experiment(client, "mclr-small"), experiment(client)
    assert not any(name.startswith("mlflow.sharedViewState.") for name in report.tags)
    assert "number of images seen" in report.tags["mlflow.note.content"]
    kinds = {run.data.tags["mclr.kind"]: run.info.experiment_id for run in runs()}
    both = models.experiment_id
    assert kinds == {"run": both, "point": both, "report": report.experiment_id}


def test_a_server_is_its_own_command() -> None:
    assert ui_command("https://me:secret@host:5000") == "https://host:5000"
    assert ui_url("7", server="https://host:5000/").startswith("https://host:5000/#/experiments/7/")


def test_track_says_what_it_published_and_how_to_see_it(
    tier: Tier, results: Path, tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text(json.dumps(tier.model_dump(mode="json", by_alias=True)))
    told = [
        CliRunner().invoke(
            cli, ["track", "--config", "small.yaml", *options], catch_exceptions=False
        )
        for options in ((), (), ("--json",), ("--record", "record.json"))
    ]
    first, again, numbers, by_the_workflow = (found.stdout for found in told)
    runs, look = first.splitlines()
    assert runs == "12 runs (12 created) in the experiments mclr-small…"
    (url, *_) = [link for _, _, link in how_to_look(tier).links]
    assert look == f"Open:  {how_to_look(tier).command}, then {url}"
    assert again.startswith("12 runs (12 unchanged) in ")
    assert json.loads(numbers) == {"unchanged": 12} and by_the_workflow == ""


def test_of_a_server_the_address_is_all_that_one_needs(
    tier: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Look("https://host", [("edm2", "points", "https://host/#/experiments/1/runs")])
    monkeypatch.setattr("mclr.tracking.views.how_to_look", lambda _: look)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://host")
    text = what_was_published(tier, {"created": 3, "resumed": 1})
    assert text == (
        "4 runs (3 created, 1 resumed) in the experiments mclr-small…\nOpen:  https://host/#/experiments/1/runs"
    )
    assert what_was_published(tier, {}).startswith("small: nothing to publish yet")

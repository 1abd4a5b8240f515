"""The store: which one, what happens when it fails, and what is left as it was."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from tracking_files import Runs, experiment

from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.tracking import publish
from mclr.tracking.store import masked, only_publisher, open_store, resolve_uri


def test_the_default_is_a_sqlite_file_and_the_variable_is_respected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_uri(None) == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert resolve_uri(None) == "http://server:5000"
    assert resolve_uri("sqlite:///other.db") == "sqlite:///other.db"


def test_publish_goes_where_the_variable_says(
    tier: Tier, results: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.rename("mlflow.db", "other.db")
    other = f"sqlite:///{Path.cwd()}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    publish(tier, results)
    assert not os.path.exists("mlflow.db")
    assert len(runs(uri=other)) == 12


def test_by_default_store_and_artefacts_lie_in_the_working_directory(
    tier: Tier, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    publish(tier, results)
    with open_store(f"sqlite:///{Path.cwd()}/mlflow.db") as client:
        assert experiment(client).lifecycle_stage == "active"
    assert len(list(Path("mlruns").rglob("fd-is.png"))) == 1


def test_the_folder_of_a_sqlite_file_is_made(tier: Tier, results: Path, runs: Runs) -> None:
    uri = f"sqlite:///{Path.cwd()}/new/folder/mlflow.db"
    publish(tier, results, uri)
    assert len(runs(uri=uri)) == 12


def test_passwords_are_not_shown() -> None:
    assert masked("https://me:secret@host:1/x") == "https://host:1/x"
    assert masked("sqlite:///mlflow.db") == "sqlite:///mlflow.db"


def test_a_dead_server_is_reported_within_seconds(tier: Tier, results: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{unused.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(UserError, match=r"nothing is lost.*run `mclr track` again") as caught:
        publish(tier, results, uri)
    assert time.monotonic() - start < 15
    assert "secret" not in str(caught.value)
    assert publish(tier, results) == Counter(created=12)


def test_a_server_that_never_answers_is_reported_within_seconds(tier: Tier, results: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(UserError, match="nothing is lost"):
            publish(tier, results, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    "uri",
    ["sqlite:////dev/null/mlflow.db", "./mlruns", "postgresql://127.0.0.1:1/x", "nonsense://x"],
)
def test_a_store_that_cannot_be_used_is_reported(tier: Tier, results: Path, uri: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match="the MLflow store cannot be used"):
        publish(tier, results, uri)
    assert time.monotonic() - start < 15


def test_a_first_track_that_is_killed_leaves_no_half_made_store(
    tier: Tier, results: Path, runs: Runs
) -> None:
    """While MLflow makes its schema, which takes it seconds."""
    os.remove("mlflow.db")
    Path("small.yaml").write_text(json.dumps(tier.model_dump(mode="json", by_alias=True)))
    command = (sys.executable, "-m", "mclr", "track", "--config", "small.yaml")
    killed = subprocess.Popen(command)
    while not any(file.stat().st_size for file in Path().glob(".mlflow.db.*")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert not os.path.exists("mlflow.db")
    assert publish(tier, results) == Counter(created=12)
    assert len(runs()) == 12


def test_what_a_killed_process_left_is_removed_in_time(tier: Tier, results: Path) -> None:
    os.remove("mlflow.db")
    old, new = Path(".mlflow.db.1.new"), Path(".mlflow.db.2.new")
    for left in (old, new):
        left.touch()
    os.utime(old, (0, 0))
    publish(tier, results)
    assert (old.exists(), new.exists()) == (False, True)


def test_of_two_that_make_the_store_one_does(
    tier: Tier, results: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one has made and filled it meanwhile: it is used as it is."""
    publish(tier, results)
    before = {run.info.run_id for run in runs()}
    os.rename("mlflow.db", "made.db")
    original = os.link

    def late(source: Path, target: Path) -> None:
        os.rename("made.db", "mlflow.db")
        original(source, target)

    monkeypatch.setattr(os, "link", late)
    assert publish(tier, results) == Counter(unchanged=12)
    assert {run.info.run_id for run in runs()} == before


@pytest.mark.parametrize(
    ("runs_too", "todo"),
    [(False, "it has no runs, so delete it"), (True, "move it away")],
)
def test_a_half_made_store_is_recognised(
    runs_too: bool, todo: str, tier: Tier, results: Path
) -> None:
    os.remove("mlflow.db")
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY)")
        database.execute("CREATE TABLE registered_models (name TEXT)")
        database.execute("CREATE TABLE secrets (secret_id TEXT)")
        if runs_too:
            database.execute("CREATE TABLE runs (run_uuid TEXT)")
            database.execute("INSERT INTO runs VALUES ('x')")
        database.commit()
    with pytest.raises(UserError, match=rf"mlflow\.db was left half-made, .*: {todo}, then run"):
        publish(tier, results)


def test_a_file_that_is_no_database_is_reported(tier: Tier, results: Path) -> None:
    Path("mlflow.db").write_text("something else entirely, and long enough to have a header" * 20)
    with pytest.raises(UserError, match="not a database"):
        publish(tier, results)


def test_a_deleted_experiment_is_left_to_its_owner(tier: Tier, results: Path) -> None:
    publish(tier, results)
    with open_store(resolve_uri(None)) as client:
        client.delete_experiment(experiment(client).experiment_id)
    with pytest.raises(UserError, match="mclr-small-edm: this MLflow experiment was deleted"):
        publish(tier, results)


def test_the_environment_is_put_back(
    tier: Tier, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    before = dict(os.environ)
    with open_store(resolve_uri(None)):
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert dict(os.environ) == before


def test_results_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    """A folder in the lock's place stands for a read-only one, which root could write."""
    lock = tmp_path / ".track.lock"
    lock.mkdir()
    with (
        pytest.raises(UserError, match=r"\.track\.lock: cannot be written: .*make their folder"),
        only_publisher(lock, 1),
    ):
        raise AssertionError("no lock is held")

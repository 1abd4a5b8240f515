"""A finished small tier in an empty working directory, and eyes on its MLflow store."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tracking_files import Runs, small_tier, write_all

from mclr.config.tier import Tier
from mclr.tracking.store import open_store, resolve_uri

if TYPE_CHECKING:
    from mlflow.entities import Run


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store without experiments: to make one takes MLflow seconds."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    with open_store(f"sqlite:///{file}") as client:
        client.search_experiments()
    return file


@pytest.fixture
def tier() -> Tier:
    return small_tier()


@pytest.fixture
def results(tier: Tier, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``results/small`` of a finished tier, below the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    # An absolute path: MLflow keeps one connection per URI for the life of the process.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    shutil.copy(empty_store, "mlflow.db")
    folder = tmp_path / "results" / "small"
    write_all(tier, folder)
    return folder


@pytest.fixture
def runs(tier: Tier) -> Runs:
    """``runs(kind, uri)``: what is in the experiments, read through MLflow's own client."""

    def read(kind: str | None = None, uri: str | None = None) -> list[Run]:
        with open_store(resolve_uri(uri)) as client:
            ours = client.search_experiments(filter_string="name LIKE 'mclr-small%'")
            found = client.search_runs([experiment.experiment_id for experiment in ours])
            return [run for run in found if kind in (None, run.data.tags["mclr.kind"])]

    return read

"""The MLflow store: where it is, one writer at a time, plain errors within seconds."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.extras import told
from mclr.tracking.database import advice, prepare

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

DEFAULT_URI = "sqlite:///mlflow.db"
# MLflow's own values make a call to a dead server block for minutes. Values a user has set stay.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
NOISY = ("alembic", "mlflow.store.db.utils")


def resolve_uri(tracking_uri: str | None) -> str:
    """The given URI, or MLFLOW_TRACKING_URI, or a SQLite file in the working directory."""
    return tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def is_database(uri: str) -> bool:
    """Whether ``uri`` is a database that MLflow opens itself, and not a server."""
    return uri.split(":")[0].split("+")[0] in DATABASES


def masked(uri: str) -> str:
    """The URI without user name and password, fit for messages."""
    parts = urlsplit(uri)
    return uri.replace(f"{parts.netloc.rpartition('@')[0]}@", "", 1) if "@" in parts.netloc else uri


def experiment_name(tier: Tier, model: str) -> str:
    """One MLflow experiment per model, for models are not compared; without: that of the report."""
    return "-".join(filter(None, ("mclr", tier.tier, model)))


@contextmanager
def open_store(uri: str) -> Iterator[MlflowClient]:
    """A client whose failures are UserErrors; environment and log levels are put back after.

    Raises:
        UserError: the store cannot be reached, or refuses what is asked of it.
    """
    levels = {name: logging.getLogger(name).level for name in NOISY}
    added = [name for name in SETTINGS if name not in os.environ]
    os.environ.update({name: SETTINGS[name] for name in added})
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        for name in NOISY:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            if is_database(uri):
                prepare(uri)
            yield MlflowClient(tracking_uri=uri)
        except (MlflowException, OSError, SQLAlchemyError, ImportError) as error:
            if isinstance(error, ImportError) and (missing := told(error)):
                raise UserError(missing) from error
            words = str(error) or type(error).__name__
            reason = words.splitlines()[0].replace(uri, masked(uri))
            todo = advice(uri, words) if is_database(uri) else ""
            raise UserError(
                f"{masked(uri)}: the MLflow store cannot be used: {reason}; nothing is lost, "
                f"results are files: {todo or 'start the server or mend MLFLOW_TRACKING_URI'}, "
                "then run `mclr track` again"
            ) from error
    finally:
        for name in added:
            del os.environ[name]
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def only_publisher(lock_file: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock while publishing; wait up to ``timeout_s`` for another publisher to finish.

    Raises:
        UserError: the other publisher still works after ``timeout_s``, or the lock cannot be
            written.
    """
    deadline = time.monotonic() + timeout_s
    try:
        opened = lock_file.open("a")
    except OSError as error:
        raise UserError(
            f"{lock_file}: cannot be written: {error.strerror}; `mclr track` locks the results "
            "while it publishes: make their folder writable, or free space"
        ) from None
    with opened as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise UserError(
                        f"{lock_file}: another `mclr track` has been publishing for over "
                        f"{timeout_s:g} s; wait for it or stop it, then run `mclr track` again"
                    ) from None
                time.sleep(0.1)
        yield


def find_experiment(client: MlflowClient, tier: Tier, model: str) -> Experiment | None:
    """The experiment of a model of the tier, or None before the first publication.

    Raises:
        UserError: somebody deleted the experiment; to bring it back is theirs to decide.
    """
    name = experiment_name(tier, model)
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.lifecycle_stage != "active":
        raise UserError(
            f"{name}: this MLflow experiment was deleted; bring it back with `mlflow experiments "
            f"restore --experiment-id {experiment.experiment_id}` or remove it for good with "
            "`mlflow gc`, then run `mclr track` again"
        )
    return experiment


def find_or_create_experiment(client: MlflowClient, tier: Tier, model: str) -> Experiment:
    """The experiment of a model of the tier; of several publishers that find none, one makes it."""
    from mlflow.exceptions import MlflowException

    experiment = find_experiment(client, tier, model)
    if experiment is not None:
        return experiment
    try:
        return client.get_experiment(client.create_experiment(experiment_name(tier, model)))
    except MlflowException:
        experiment = find_experiment(client, tier, model)
        if experiment is None:
            raise
        return experiment


def delete_run(client: MlflowClient, run_id: str) -> None:
    """Delete a run; that somebody else has just done so is no error."""
    from mlflow.exceptions import MlflowException

    try:
        client.delete_run(run_id)
    except MlflowException:
        if client.get_run(run_id).info.lifecycle_stage == "active":
            raise

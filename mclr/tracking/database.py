"""A database of MLflow: whole or absent where it is a SQLite file, and told when it was left half.

MLflow makes its schema in the course of seconds, table by table. One that is killed there leaves
tables that the next one stumbles over, for good.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

STALE_S = 600.0
"""No schema takes as long to make."""
HALF = re.compile(r"already exists|duplicate column|no such (table|column)", re.IGNORECASE)
"""What SQLite and PostgreSQL say of a schema that was left half-made."""


def prepare(uri: str) -> None:
    """Make the SQLite file of ``uri`` with MLflow's schema, if there is none; any other is tried.

    A database that cannot be opened fails at once here: MLflow would retry for minutes.
    """
    import sqlalchemy

    if (file := sqlite_file(uri)) and (not file.exists() or file.stat().st_size == 0):
        _make(file)
        return
    engine = sqlalchemy.create_engine(uri)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database; None of others, and of those in memory."""
    import sqlalchemy

    url = sqlalchemy.make_url(uri)
    if not url.drivername.startswith("sqlite") or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


def _make(file: Path) -> None:
    """Under another name first; of several processes that do so one gives it its own."""
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file.parent.mkdir(parents=True, exist_ok=True)
    for left in file.parent.glob(f".{file.name}.*.new*"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE_S:
                left.unlink()
    made = file.with_name(f".{file.name}.{os.getpid()}.new")
    made.unlink(missing_ok=True)
    try:
        make: Any = SqlAlchemyStore
        store = make(f"sqlite:///{made.resolve()}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        store.engine.dispose()
        if file.exists() and file.stat().st_size == 0:
            file.unlink()
        try:
            os.link(made, file)
        except FileExistsError:
            pass
        except OSError:  # a filesystem without links
            if not file.exists():
                made.rename(file)
    finally:
        made.unlink(missing_ok=True)


def advice(uri: str, said: str) -> str:
    """What to do with a database whose schema was left half-made; '' where that is not so."""
    if not HALF.search(said):
        return ""
    file = sqlite_file(uri)
    if file is None:
        return "its schema was left half-made, as by a process that was killed: name an empty one"
    act = "move it away" if _runs(file) else "it has no runs, so delete it"
    return f"{file} was left half-made, as by a first `mclr track` that was killed: {act}"


def _runs(file: Path) -> int:
    """How many runs it has."""
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database,
    ):
        return int(database.execute("SELECT count(*) FROM runs").fetchone()[0])
    return 0

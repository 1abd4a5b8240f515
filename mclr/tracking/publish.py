"""From result files to MLflow, as often as one likes: what is there already is left alone.

Three tags of a published run say how far it got. ``mclr.digest`` is the digest of the record and
is written last, so a run without the right one is unfinished or out of date. ``mclr.metrics`` is
"<n> <digest of the first n values>": values after the n-th are still to be logged.
``mclr.artefacts`` is the digest of the uploaded files.
"""

from __future__ import annotations

import getpass
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.terminal import Tell, silent
from mclr.tracking.records import Record, metrics_digest, read_records, unfinished
from mclr.tracking.store import (
    delete_run,
    find_or_create_experiment,
    only_publisher,
    open_store,
    resolve_uri,
)
from mclr.tracking.views import describe

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LOG = logging.getLogger("mclr")
KEY, KIND = "mclr.key", "mclr.kind"
# Who published a run, and from where: others may have runs of the same name in the same server.
ORIGIN = "mclr.origin"
DIGEST, METRICS, ARTEFACTS = "mclr.digest", "mclr.metrics", "mclr.artefacts"
PARENT = "mlflow.parentRunId"
# MLflow takes at most 1000 entries in a batch, parameters and tags included.
BATCH = 800
LOCK_TIMEOUT_S = 60.0
STOP_POLL_S = 0.2


def publish(
    tier: Tier,
    results_dir: Path,
    tracking_uri: str | None = None,
    *,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    tell: Tell = silent,
) -> Counter[str]:
    """Bring MLflow up to date with the files of a tier.

    An experiment ``mclr-<tier>-<model>`` has a run per training run, with a child per evaluated
    point; ``mclr-<tier>`` has a run ``report`` with figures, Table 1 and configuration. Runs that
    are no longer planned stay, and so do the runs of other people and other folders; what is equal
    in content is published once.

    Args:
        results_dir: ``results/<tier>``; the lock lies beside it, shared by all tiers.
        tracking_uri: default MLFLOW_TRACKING_URI, else ``sqlite:///mlflow.db``.
        lock_timeout_s: seconds to wait for another publisher.
        tell: gets how many of the runs are published.

    Returns:
        How many runs, points and reports were ``created``, ``unchanged``, ``resumed`` (interrupted
        or grown: only what was missing is logged) or ``replaced`` (changed: the old one deleted).

    Raises:
        UserError: no results, a damaged file, a busy lock, or a store that cannot be used.
    """
    if not results_dir.is_dir():
        raise UserError(f"{results_dir}: no results to publish; run `snakemake` first")
    tell("reading the results")
    with only_publisher(results_dir.parent / ".track.lock", lock_timeout_s):
        records = read_records(tier, results_dir)
        _tell_others(records)
        tell("opening the store")
        with open_store(resolve_uri(tracking_uri)) as client:
            counts: Counter[str] = Counter()
            for model in dict.fromkeys(record.model for record in records):
                experiment = find_or_create_experiment(client, tier, model)
                describe(client, experiment, charts=bool(model))
                publisher = _Publisher(client, experiment.experiment_id, _origin(results_dir))
                for number, record in enumerate(records):
                    if record.model == model:
                        tell(f"{number + 1} of {len(records)} runs, {record.key}")
                        publisher.publish(record, parent=None)
                publisher.drop_twins()
                counts += publisher.counts
            return counts


def watch(
    tier: Tier,
    results_dir: Path,
    interval_s: float,
    stop: Callable[[], bool],
    tracking_uri: str | None = None,
) -> None:
    """Publish every ``interval_s`` seconds until every planned run has ended.

    Ends early, after a whole publication, when ``stop()`` is true; Ctrl-C ends it at once, and the
    next publication resumes. Once a publication has succeeded, a failing store is only reported,
    and tried again after the interval.

    Raises:
        UserError: as ``publish``, at the first publication.
    """
    started = False
    try:
        while True:
            left = unfinished(tier, results_dir)
            try:
                counts = publish(tier, results_dir, tracking_uri)
                started = True
                LOG.info("published: %s; %d planned runs to come", _words(counts), len(left))
            except UserError as error:
                if not started:
                    raise
                LOG.warning("%s", error)
                left = left or ["publication"]
            if not left or _stopped(stop, interval_s):
                return
    except KeyboardInterrupt:
        LOG.info("stopped; run `mclr track` again to publish the rest")


def _tell_others(records: list[Record]) -> None:
    """Say which runs are not those that the configuration plans: one line for each experiment."""
    others = defaultdict(list)
    for record in records:
        if record.note:
            others[record.tags["experiment"], record.note].append(record.key)
    for (experiment, note), keys in others.items():
        LOG.warning(
            "%s: %d runs (%s …) were made with other settings than the configuration has (%s); "
            "MLflow shows those they were made with. `snakemake` makes them again",
            experiment,
            len(keys),
            keys[0],
            note,
        )


def _origin(results_dir: Path) -> str:
    """``user:folder``. The folder has the same name on all nodes of a cluster; a host has not."""
    return f"{getpass.getuser()}:{results_dir.resolve()}"


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {word}" for word, n in sorted(counts.items())) or "nothing yet"


def _stopped(stop: Callable[[], bool], interval_s: float) -> bool:
    """Wait for the interval; true as soon as ``stop()`` is."""
    end = time.monotonic() + interval_s
    while not stop():
        left = end - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(left, STOP_POLL_S))
    return True


class _Publisher:
    """Publishes records into one experiment whose runs were listed once, at the start."""

    def __init__(self, client: MlflowClient, experiment_id: str, origin: str) -> None:
        self.client, self.experiment_id, self.origin = client, experiment_id, origin
        self.counts: Counter[str] = Counter()
        self._list()

    def _list(self) -> None:
        """All runs by key and parent, and by parent."""
        self.known: dict[tuple[str, str | None], list[Run]] = defaultdict(list)
        self.children: dict[str, list[Run]] = defaultdict(list)
        for run in self._all_runs():
            tags = run.data.tags
            if KEY in tags:
                self.known[tags[KEY], tags.get(PARENT)].append(run)
            if PARENT in tags:
                self.children[tags[PARENT]].append(run)

    def _all_runs(self) -> list[Run]:
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs([self.experiment_id], page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def publish(self, record: Record, parent: str | None) -> None:
        """Publish one record and its children; then remove what they replace."""
        known = self.known[record.key, parent]
        digest = record.digest()
        same = [run for run in known if run.data.tags.get(DIGEST) == digest]
        own = [run for run in known if run.data.tags.get(ORIGIN, self.origin) == self.origin]
        if not same and (old := _of_other_settings(own, record)):
            LOG.warning(
                "%s: the configuration has other settings than the run that was published; its "
                "record stays until it has been trained with them",
                record.key,
            )
            self.counts["unchanged"] += 1 + len(self.children[old.info.run_id])
            return
        run = next((r for r in (*same, *own) if r in same or _continues(r, record)), None)
        outcome = "unchanged" if same else "resumed" if run else "replaced" if own else "created"
        run = run or self._create(record, parent)
        run_id = run.info.run_id
        if not same:
            self._log(run, record)
        for child in record.children:
            self.publish(child, parent=run_id)
        if not same:
            if record.finished:
                self.client.set_terminated(run_id, end_time=record.end_ms)
            self.client.set_tag(run_id, DIGEST, digest)
        for old in own:
            if old.info.run_id != run_id:
                self._delete(old)
        self.counts[outcome] += 1

    def drop_twins(self) -> None:
        """Leave one of the runs that several publishers made of the same record at the same time.

        Every publisher looks after its last run is complete, so one of them sees all; all keep the
        same one, and a run that another has deleted meanwhile is gone as it should be.
        """
        if not self.counts.keys() - {"unchanged"}:
            return
        self._list()
        twins: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for (key, parent), runs in self.known.items():
            for run in runs:
                if parent is None and DIGEST in run.data.tags:
                    twins[key, run.data.tags[DIGEST]].append(run)
        for runs in twins.values():
            for run in sorted(runs, key=lambda run: run.info.run_id)[1:]:
                self._delete(run)

    def _create(self, record: Record, parent: str | None) -> Run:
        tags = {KEY: record.key, KIND: record.kind, ORIGIN: self.origin}
        if parent is not None:
            tags[PARENT] = parent
        return self.client.create_run(
            self.experiment_id, start_time=record.start_ms, tags=tags, run_name=record.name
        )

    def _log(self, run: Run, record: Record) -> None:
        """Log what the run lacks; progress is stored with each batch."""
        from mlflow.entities import Metric, Param, RunTag

        run_id = run.info.run_id
        params = [Param(name, value) for name, value in record.params.items()]
        tags = [RunTag(name, value) for name, value in record.tags.items()]
        self.client.log_batch(run_id, params=params, tags=tags)
        metrics = record.metrics
        for first in range(_published(run)[0], len(metrics), BATCH):
            last = min(first + BATCH, len(metrics))
            values = [Metric(m.name, m.value, m.time_ms, m.step) for m in metrics[first:last]]
            progress = RunTag(METRICS, f"{last} {metrics_digest(metrics[:last])}")
            self.client.log_batch(run_id, metrics=values, tags=[progress])
        artefacts = record.artefacts_digest()
        if run.data.tags.get(ARTEFACTS) != artefacts:
            for name, file in record.artefacts.items():
                folder = name.rpartition("/")[0]
                self.client.log_artifact(run_id, str(file), folder or None)
            self.client.set_tag(run_id, ARTEFACTS, artefacts)

    def _delete(self, run: Run) -> None:
        """Children first: a deletion that is interrupted is found again by its parent."""
        for old in (*self.children[run.info.run_id], run):
            delete_run(self.client, old.info.run_id)


def _published(run: Run) -> tuple[int, str]:
    """How many values were logged, and their digest."""
    number, _, digest = run.data.tags.get(METRICS, "0").partition(" ")
    return int(number), digest


def _of_other_settings(known: list[Run], record: Record) -> Run | None:
    """A run of the same curves with other parameters, where the record's are just planned."""
    for run in known if record.planned else []:
        number, digest = _published(run)
        curves = number and metrics_digest(record.metrics[:number]) == digest
        other = {k: v for k, v in run.data.params.items() if record.params.get(k) != v}
        if curves and other:
            return run
    return None


def _continues(run: Run, record: Record) -> bool:
    """Whether the record is what was published and more: then the rest is added to the run.

    Parameters and tags may come late (provenance is written at the end) but not differ; a finished
    run keeps its files, and does not go back to running.
    """
    number, digest = _published(run)
    running = run.info.status == "RUNNING"
    return (
        all(record.params.get(name) == value for name, value in run.data.params.items())
        and all(run.data.tags.get(name, value) == value for name, value in record.tags.items())
        and (not number or metrics_digest(record.metrics[:number]) == digest)
        and (running or record.finished)
        and (running or run.data.tags.get(ARTEFACTS) == record.artefacts_digest())
    )

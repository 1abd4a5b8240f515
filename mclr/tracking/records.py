"""What will be published, read from the files of a tier; knows nothing of MLflow.

Every curve is drawn against images seen: the step of a metric is the event's ``nimg`` (optimiser
steps × batch where an event does not say). All times come from the events, so that records depend
on the content of files and on nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.events import ended, read_events
from mclr.files import read_json, sha256
from mclr.objectives.method import Method
from mclr.planning.plan import Plan
from mclr.planning.points import Run, is_average
from mclr.provenance import UNKNOWN
from mclr.report.methods import methods_of, with_entries
from mclr.settings.origin import Released
from mclr.settings.section import dotted
from mclr.tracking.made import made_with
from mclr.tracking.notes import COLOUR, NOTE, note, point_name
from mclr.tracking.shown import SHOWN, shown

# Facts of provenance.json that become tags; packages follow as ``package.<name>``.
FACTS = (
    "git_commit",
    "git_dirty",
    "data_sha256",
    "config_sha256",
    "code",
    "hardware",
    "python",
)
# Columns of an evaluated row that say which point it is; every other number is a metric.
IDENTITY = frozenset({"seed", "step", "guidance", "dial", "nfe", "n_samples"})

AVERAGE = "average_"
"""Before the names of metrics of averaged weights, where raw ones are measured, too."""


class Value(NamedTuple):
    """One value of one metric: ``step`` in images seen, ``time_ms`` since the epoch."""

    name: str
    value: float
    step: int
    time_ms: int


@dataclass(frozen=True)
class Record:
    """One run of the tracking server.

    ``key`` names it for good, across publications; ``kind`` is ``run`` (a training run, with a
    child per evaluated point), ``point`` or ``report`` (the figures of the tier). ``metrics`` only
    grow at their end while a training run goes on (``finished`` is false). ``artefacts`` maps
    published names to files. A time of None is the time of publication. ``planned``: parameters
    are those of the configuration, since the run's own records are not written yet. ``note``: what
    is to be said when it is published. Neither is published.
    """

    key: str
    kind: str
    name: str
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: tuple[Value, ...] = ()
    artefacts: dict[str, Path] = field(default_factory=dict)
    start_ms: int | None = None
    end_ms: int | None = None
    finished: bool = True
    children: tuple[Record, ...] = ()
    planned: bool = False
    note: str = ""

    @property
    def model(self) -> str:
        """Whose training or point this is; empty for the report, which is of all models."""
        return self.params.get("model", "")

    def digest(self) -> str:
        """sha256 of all that is published for this record, its children aside."""
        content = [
            [self.key, self.kind, self.name, self.params, self.tags],
            [self.start_ms, self.end_ms, self.finished],
            [metrics_digest(self.metrics), self.artefacts_digest()],
        ]
        return _sha256([json.dumps(content, sort_keys=True)])

    def artefacts_digest(self) -> str:
        """sha256 of the published names and the content of the files."""
        return _sha256(f"{name} {sha256(file)}\n" for name, file in sorted(self.artefacts.items()))


def metrics_digest(metrics: Iterable[Value]) -> str:
    """sha256 of values in order; a digest of the first n recognises a series that has grown."""
    return _sha256(f"{json.dumps(value)}\n" for value in metrics)


def _sha256(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode())
    return digest.hexdigest()


def read_records(tier: Tier, results_dir: Path) -> list[Record]:
    """A record for each planned run that has begun, and one for the report once it has files.

    Args:
        tier: decides which runs are read; folders of runs no longer planned are passed over.
        results_dir: ``results/<tier>``.

    Raises:
        UserError: a file is damaged.
    """
    plan = Plan(tier)
    methods = methods_of(with_entries(tier, results_dir))
    records = []
    evaluated = {name: _evaluated_rows(results_dir, name) for name in plan.experiments}
    places = shown(tier, (row for rows, _ in evaluated.values() for row in rows))
    for experiment, (rows, protocol) in evaluated.items():
        for run in plan.all_of(experiment):
            own = [row for row in rows if row["run_id"] == run.run_id]
            reader = _RunReader(plan, run, results_dir, own, protocol, methods)
            reader.places = places
            if reader.events:
                records.append(reader.record())
    report = _report(results_dir)
    return [*records, report] if report.artefacts else records


def _evaluated_rows(results_dir: Path, experiment: str) -> tuple[list[dict[str, Any]], str]:
    """The rows of all evaluations of an experiment, and the id of their protocol."""
    files = [f"{experiment}{stage}.json" for stage in ("", "-final", "-study")]
    found = [results_dir / "evaluations" / name for name in files]
    contents = [read_json(file) for file in found if file.exists()]
    protocol = contents[0]["protocol"]["id"] if contents else ""
    return [row for content in contents for row in content["rows"]], protocol


def unfinished(tier: Tier, results_dir: Path) -> list[str]:
    """Planned runs that have not ended: still going on, or not begun."""
    return [
        run_id
        for run_id in Plan(tier).runs
        if not ended(read_events(_events_file(results_dir, run_id)))
    ]


def _events_file(results_dir: Path, run_id: str) -> Path:
    return results_dir / "runs" / run_id / "events.jsonl"


def _report(results_dir: Path) -> Record:
    """The figures, Table 1, the claims and the configuration, logged once for the whole tier."""
    figures = sorted(results_dir.glob("figures/*.png"))
    pages = [results_dir / name for name in ("table1.md", "claims.md", "config.yaml")]
    files = [*figures, *pages]
    artefacts = {file.relative_to(results_dir).as_posix(): file for file in files if file.is_file()}
    return Record("report", "report", "report", artefacts=artefacts)


class _RunReader:
    """Reads the files of one run, given the rows evaluated for it."""

    def __init__(
        self,
        plan: Plan,
        run: Run,
        results_dir: Path,
        rows: list[dict[str, Any]],
        protocol: str,
        methods: Mapping[str, Method],
    ) -> None:
        self.run, self.rows, self.protocol = run, rows, protocol
        self.methods, self.places = methods, dict[str, str]()
        self.folder = results_dir / "runs" / run.run_id
        self.nets = plan.tier.report.nets
        self.events = read_events(_events_file(results_dir, run.run_id))
        self.provenance: dict[str, Any] = {}
        if (self.folder / "provenance.json").exists():
            self.provenance = read_json(self.folder / "provenance.json")
        self.made = made_with(plan, run, self.provenance)
        self.words = note(methods.get(self.made.method))
        trained = run.settings or run.taken or plan.model(run).base
        batch = 0 if isinstance(trained, Released) else trained.batch
        self.batch = int(self.made.hyperparameters.get("batch", batch))

    def record(self) -> Record:
        run, is_over = self.run, ended(self.events)
        return Record(
            key=run.run_id,
            kind="run",
            name=run.run_id,
            params=_texts(dotted(self.made.parameters)),
            tags=self._tags(),
            metrics=(*self._training(), *self._evaluated(), *self._best()),
            artefacts={
                name: self.folder / name
                for name in ("config.yaml", "provenance.json")
                if (self.folder / name).is_file()
            },
            start_ms=_milliseconds(self.events[0]),
            end_ms=_milliseconds(self.events[-1]) if is_over else None,
            finished=is_over,
            children=tuple(self._point(row) for row in self.rows),
            planned=not self.made.known,
            note=self.made.other,
        )

    def _tags(self) -> dict[str, str]:
        facts = {name: self.provenance[name] for name in FACTS if name in self.provenance}
        facts = {name: UNKNOWN if fact is None else fact for name, fact in facts.items()}
        packages = self.provenance.get("packages", {})
        versions = {f"package.{name}": version for name, version in packages.items()}
        notes = {NOTE: self.words, **self._colour(self.made.method)}
        return _texts({"experiment": self.run.experiment, **notes, **facts, **versions})

    def _training(self) -> list[Value]:
        """Every number of every ``train`` event, as ``train/<name>``."""
        return [
            Value(f"train/{name}", float(value), self._images(event), _milliseconds(event))
            for event in self.events
            if event["event"] == "train"
            for name, value in _numbers(event, besides={"time", "step", "nimg"}).items()
        ]

    def _evaluated(self) -> list[Value]:
        """FD, IS, precision and recall without guidance at each checkpoint, mean over the blocks
        of image seeds; of raw weights, and as ``average_fd`` … of their average, if of both. Of a
        network with a dial, where that gives the lowest FD."""
        plain = [row for row in self.rows if row["method"] == self.made.method]
        if len(self.run.evaluated) == 1:
            return self._along(plain)
        kinds = [is_average(json.dumps(row["hyperparameters"])) for row in plain]
        parts = [[row for row, k in zip(plain, kinds, strict=True) if k == a] for a in (0, 1)]
        return self._along(parts[0]) + self._along(parts[1], AVERAGE)

    def _along(self, plain: list[dict[str, Any]], prefix: str = "") -> list[Value]:
        values = []
        for step in sorted({row["step"] for row in plain}):
            rows = [row for row in plain if row["step"] == step]
            scores = [self._scores(row) for row in rows]
            if self.run.has_dial:
                scores = [min(scores, key=lambda score: score["fd"])]
            for name in scores[0]:
                mean = fmean(score[name] for score in scores)
                values.append(Value(f"{prefix}{name}", mean, *self._when(step)))
        return values

    def _best(self) -> list[Value]:
        """The same four at the checkpoint of lowest FD, which is the one Table 1 shows."""
        values = self._evaluated()
        distances = [value for value in values if value.name in ("fd", f"{AVERAGE}fd")]
        if not distances:
            return []
        best = min(distances, key=lambda value: value.value)
        averaged = best.name.startswith(AVERAGE)
        return [
            value._replace(name=f"best_{value.name.removeprefix(AVERAGE)}")
            for value in values
            if value.step == best.step and value.name.startswith(AVERAGE) == averaged
        ]

    def _point(self, row: dict[str, Any]) -> Record:
        names = ("model", "method", "guidance", "step", "seed", "nfe")
        parameters = {name: row[name] for name in names}
        step, time_ms = self._when(row["step"])
        about = {"checkpoint": row["checkpoint"], "protocol": self.protocol}
        about |= {SHOWN: self.places[row["path"]]} if row["path"] in self.places else {}
        numbers = {**self._scores(row), **_numbers(row, besides=IDENTITY)}
        return Record(
            key=row["path"],
            kind="point",
            name=point_name(self.run, row),
            params=_texts(dotted({**parameters, **row["hyperparameters"]})),
            tags=_texts({**about, **self._colour(row["method"])}),
            metrics=tuple(Value(n, v, step, time_ms) for n, v in numbers.items()),
            start_ms=time_ms,
            end_ms=time_ms,
        )

    def _colour(self, method: str) -> dict[str, str]:
        return {COLOUR: self.methods[method].colour} if method in self.methods else {}

    def _scores(self, row: dict[str, Any]) -> dict[str, float]:
        """The four metrics of Table 1 under fixed names, in the report's feature space."""
        fd, rest = self.nets
        columns = {"fd": f"fd_{fd}", "precision": f"precision_{rest}", "recall": f"recall_{rest}"}
        columns["is"] = "is_mean"
        absent = [column for column in columns.values() if column not in row]
        if absent:
            raise UserError(
                f"evaluations/{self.run.experiment}.json: {row['path']} has no "
                f"{', '.join(absent)}; run `snakemake` to evaluate with the features of the report"
            )
        return {name: float(row[column]) for name, column in columns.items()}

    def _images(self, event: dict[str, Any]) -> int:
        return int(event.get("nimg", event["step"] * self.batch))

    def _when(self, step: int) -> tuple[int, int]:
        """Images seen and time of the first event at ``step``; the run's start if none is."""
        event = next((e for e in self.events if e.get("step") == step), None)
        if event is None:
            return step * self.batch, _milliseconds(self.events[0])
        return self._images(event), _milliseconds(event)


def _numbers(row: dict[str, Any], besides: Iterable[str]) -> dict[str, float]:
    """The entries of a row that are numbers (true and false are not)."""
    return {
        name: float(value)
        for name, value in row.items()
        if name not in besides and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {name: _text(value) for name, value in values.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _milliseconds(event: dict[str, Any]) -> int:
    return round(float(event["time"]) * 1000)

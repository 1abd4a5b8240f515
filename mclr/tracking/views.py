"""Charts prepared in code: a link that opens MLflow on them, without a click.

A saved view is an experiment tag ``mlflow.sharedViewState.<id>`` that holds the state of the page.
The format is MLflow's own and undocumented (seen in 3.17): after a change of version, look again.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mclr.config.tier import Tier
from mclr.tracking.notes import EXPERIMENT, NOTE
from mclr.tracking.shown import SHOWN
from mclr.tracking.store import (
    experiment_name,
    find_experiment,
    is_database,
    masked,
    open_store,
    resolve_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

PORT = 5000
POINTS, SWEEP, TRAINING = "points", "sweep", "training"
TAG = "mlflow.sharedViewState."
COLUMNS = ("model", "method", "seed", "step", "guidance", "lr", "beta", "lambda")
RUNS_SHOWN = 100
"""At most so many runs are loaded at once."""
HEIGHT = 420
"""Of a chart, in pixels."""
ON_PATHS, TABLE_FIRST = f"tags.`{SHOWN}` LIKE '%'", (f"tags.`{SHOWN}`", False)
EVERY_POINT, LOW_FD_FIRST = "tags.`mclr.kind` = 'point'", ("metrics.`fd`", True)
EVERY_RUN = "tags.`mclr.kind` = 'run'"
Charts = Mapping[str, list[dict[str, Any]]]
"""By the names of their sections."""
PAGE: dict[str, Any] = {
    "columnOrder": [],
    "columnWidths": {},
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "runsHiddenMode": "SHOW_ALL",
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": True,
    "autoRefreshEnabled": False,
    "groupBy": None,
    "groupsExpanded": {},
    "useGroupedValuesInCharts": False,
    "hideEmptyCharts": True,
    "chartsSearchFilter": "",
    "globalLineChartConfig": {
        "xAxisKey": "step",
        "lineSmoothness": 0,
        "selectedXAxisMetricKey": "",
    },
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
}


class Look(NamedTuple):
    """How to see a published tier: the command that serves the UI, and links into it."""

    command: str
    links: list[tuple[str, str, str]]
    """Model, view (``points``, ``sweep`` or ``training``), address."""


def describe(client: MlflowClient, experiment: Experiment, *, charts: bool) -> None:
    """Store note and views in the experiment; nothing is written when they are there."""
    trade_offs = {
        "FD ↓, IS ↑": [_scatter("fd", "is")],
        "Recall ↑, precision ↑": [_scatter("recall", "precision")],
    }
    names = ("train/loss", "train/margin", "fd", "is", "precision", "recall")
    curves = [_curve(name) for name in names]
    views = {
        TAG + POINTS: _view("Table 1 and its paths", ON_PATHS, TABLE_FIRST, trade_offs),
        TAG + SWEEP: _view("Every point of the sweep", EVERY_POINT, LOW_FD_FIRST, trade_offs),
        TAG + TRAINING: _view(
            "Training runs", EVERY_RUN, ("metrics.`best_fd`", True), {"Against images seen": curves}
        ),
    }
    tags = {
        **(views if charts else {}),
        "mlflow.experimentKind": "custom_model_development",
        NOTE: EXPERIMENT,
    }
    for name, value in tags.items():
        if experiment.tags.get(name) != value:
            _set_tag(client, experiment.experiment_id, name, value)


def _set_tag(client: MlflowClient, experiment_id: str, name: str, value: str) -> None:
    """Set an experiment's tag; that another publisher has just set the same is no error."""
    from mlflow.exceptions import MlflowException

    try:
        client.set_experiment_tag(experiment_id, name, value)
    except MlflowException:
        if client.get_experiment(experiment_id).tags.get(name) != value:
            raise


def _view(title: str, which: str, order: tuple[str, bool], charts: Charts) -> str:
    """The tag's value: sections of full-width charts over the runs of a filter, in an order.

    Sorted by time, MLflow would fold points into their training runs and draw those instead.
    """
    key, ascending = order
    numbered = {f"mclr{i}": named for i, named in enumerate(charts)}
    state = {
        **PAGE,
        "searchFilter": which,
        "orderByKey": key,
        "orderByAsc": ascending,
        "selectedColumns": [f"params.`{name}`" for name in COLUMNS],
        "compareRunCharts": [
            {**chart, "metricSectionId": uuid}
            for uuid, named in numbered.items()
            for chart in charts[named]
        ],
        "compareRunSections": [
            {
                "uuid": uuid,
                "name": named,
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
                "columns": 1,
                "cardHeight": HEIGHT,
            }
            for uuid, named in numbered.items()
        ],
    }
    text = json.dumps(state, separators=(",", ":")).encode()
    packed = "deflate;" + base64.b64encode(zlib.compress(text, 9)).decode()
    return json.dumps({"name": title, "createdAt": 0, "state": packed})


def _scatter(x: str, y: str) -> dict[str, Any]:
    """A dot per run: the last value of both metrics."""
    return {
        "uuid": f"{y}-{x}",
        "type": "SCATTER",
        "xaxis": {"key": x, "type": "METRIC"},
        "yaxis": {"key": y, "type": "METRIC"},
        "runsCountToCompare": RUNS_SHOWN,
        "deleted": False,
        "isGenerated": False,
    }


def _curve(metric: str) -> dict[str, Any]:
    """A line per run: the metric against images seen."""
    return {
        "uuid": metric,
        "type": "LINE",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "displayPoints": True,
        "ignoreOutliers": False,
        "range": {},
        "runsCountToCompare": RUNS_SHOWN,
        "deleted": False,
        "isGenerated": False,
    }


def ui_url(experiment_id: str, view: str = POINTS, server: str = f"http://127.0.0.1:{PORT}") -> str:
    """The link that lands on the charts of a view (``points``, ``sweep`` or ``training``)."""
    page = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
    return f"{page}?viewStateShareKey={view}&compareRunsMode=CHART&workflowType=machine_learning"


def ui_command(uri: str) -> str:
    """The one command that serves the UI of a database; for a server, just its address."""
    if not is_database(uri):
        return masked(uri)
    return f"mlflow ui --backend-store-uri {masked(uri)} --port {PORT}"


def how_to_look(tier: Tier, tracking_uri: str | None = None) -> Look:
    """What to do to see a published tier; links are of the models that were published.

    Raises:
        UserError: the store cannot be used, or an experiment was deleted.
    """
    uri = resolve_uri(tracking_uri)
    with open_store(uri) as client:
        found = {model: find_experiment(client, tier, model) for model in tier.models}
    server = f"http://127.0.0.1:{PORT}" if is_database(uri) else masked(uri)
    links = [
        (model, view, ui_url(experiment.experiment_id, view, server))
        for model, experiment in found.items()
        if experiment is not None
        for view in (POINTS, SWEEP, TRAINING)
    ]
    return Look(ui_command(uri), links)


def what_was_published(tier: Tier, counts: Mapping[str, int]) -> str:
    """Runs and experiments in one line, where to see them in another.

    counts: runs by what became of them, as ``publish`` returns.
    """
    if not counts:
        return f"{tier.tier}: nothing to publish yet; `snakemake` trains and measures"
    command, links = how_to_look(tier)
    became = ", ".join(f"{n} {word}" for word, n in sorted(counts.items()))
    found = (
        f"{sum(counts.values())} runs ({became}) in the experiments {experiment_name(tier, '')}…"
    )
    is_served = not is_database(resolve_uri(None))
    steps = [*([] if is_served and links else [command]), *[url for _, _, url in links[:1]]]
    return f"{found}\nOpen:  {', then '.join(steps)}"

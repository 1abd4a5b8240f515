"""Charts prepared in code: a link that opens MLflow on them, without a click.

A saved view is an experiment tag ``mlflow.sharedViewState.<id>`` that holds the state of the page.
The format is MLflow's own and undocumented (seen in 3.17): after a change of version, look again.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from mclr.config.tier import Tier
from mclr.tracking.notes import EXPERIMENT, NOTE
from mclr.tracking.store import find_experiment, is_database, masked, open_store, resolve_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

PORT = 5000
POINTS, TRAINING = "points", "training"
TAG = "mlflow.sharedViewState."
COLUMNS = ("model", "method", "seed", "step", "guidance", "lr", "beta", "lambda")
RUNS_SHOWN = 100
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
    "orderByAsc": True,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
}


class Look(NamedTuple):
    """How to see a published tier: the command that serves the UI, and links into it."""

    command: str
    links: list[tuple[str, str, str]]
    """Model, view (``points`` or ``training``), address."""


def describe(client: MlflowClient, experiment: Experiment, *, charts: bool) -> None:
    """Store note and views in the experiment; nothing is written when they are there."""
    trade_offs = [_scatter("is", "fd"), _scatter("recall", "precision")]
    names = ("train/loss", "train/margin", "fd", "is", "precision", "recall")
    curves = [_curve(name) for name in names]
    views = {
        TAG + POINTS: _view("Evaluated points", "point", "fd", "Trade-offs", trade_offs),
        TAG + TRAINING: _view("Training runs", "run", "best_fd", "Against images seen", curves),
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


def _view(title: str, kind: str, order: str, section: str, charts: list[dict[str, Any]]) -> str:
    """The tag's value: one section of charts over the runs of one kind, lowest ``order`` first.

    Sorted by time, MLflow would fold points into their training runs and draw those instead.
    """
    state = {
        **PAGE,
        "searchFilter": f"tags.`mclr.kind` = '{kind}'",
        "orderByKey": f"metrics.`{order}`",
        "selectedColumns": [f"params.`{name}`" for name in COLUMNS],
        "compareRunCharts": [{**chart, "metricSectionId": "mclr"} for chart in charts],
        "compareRunSections": [
            {
                "uuid": "mclr",
                "name": section,
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
            }
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
    """The link that lands on the charts of a view (``points`` or ``training``)."""
    page = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs"
    return f"{page}?viewStateShareKey={view}&compareRunsMode=CHART"


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
        for view in (POINTS, TRAINING)
    ]
    return Look(ui_command(uri), links)

"""Words for readers of the MLflow UI: names of points, notes with the paper's equations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mclr.objectives.method import Method
from mclr.planning.points import Run, is_average
from mclr.settings.section import canonical

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run or an experiment (Markdown)."""

COLOUR = "mlflow.runColor"
"""The tag that MLflow draws a run by: one colour for a method, that of our figures."""

EXPERIMENT = """\
Runs of the MCLR reproduction: an experiment per tier and model, with a run per training and below
it a run per evaluated point. The tier's own experiment has a run `report`: figures and Table 1.

- `fd` ↓ (Fréchet distance), `is` ↑ (Inception Score), `precision` ↑ and `recall` ↑ have the same
  names everywhere; `best_…` are those of the checkpoint of lowest FD.
- The step of every metric is the number of images seen in training.
- `guidance` is CFG's γ (0: none), `nfe` the network evaluations per image.
- A method has one colour everywhere, that of our figures.
- `mclr show` prints links: `points` has Table 1's points and the paths that lead to them (tag
  `mclr.shown`), `sweep` everything that was tried, `training` the curves of the training runs.
"""


def note(method: Method | None) -> str:
    """Markdown for a training run of ``method``; nothing for a method without a formula."""
    if method is None or method.note is None:
        return ""
    title, formula, symbols = method.note
    return f"{title}\n\n    {formula}\n\n{symbols}"


def point_name(run: Run, row: Mapping[str, Any]) -> str:
    """The run, and what is special about an evaluated row; its seed if the run's name has none."""
    unusual = row["method"] not in (run.method, "cfg") and row["dial"] == 1
    words = [
        run.run_id,
        "" if run.is_base else f"step {row['step']}",
        "average" if len(run.evaluated) > 1 and _averaged(row) else "",
        row["method"] if unusual else "",
        f"γ {row['guidance']:g}" if row["guidance"] else "",
        f"t {row['dial']:g}" if row["dial"] != 1 else "",
        f"β {row['hyperparameters']['dial']:g}" if "dial" in row["hyperparameters"] else "",
        f"seed {row['seed']}" if run.is_base else "",
    ]
    return " ".join(word for word in words if word)


def _averaged(row: Mapping[str, Any]) -> bool:
    return is_average(canonical(row["hyperparameters"]))

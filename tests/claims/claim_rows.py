"""Rows of metrics whose every value is given: shared by the tests of claims."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

Value = float | Sequence[float]


def rows(
    method: str,
    points: Mapping[float, Mapping[str, Value]],
    *,
    seeds: Sequence[int] = (0, 1),
    stage: str = "grid",
    model: str = "edm2",
    guided: bool = False,
    **hyperparameters: Any,
) -> pd.DataFrame:
    """A row per point (step, or γ where ``guided``) and seed; a metric has one value or one each.

    Metrics that are not given are those of an indifferent point.
    """
    found = []
    for x, values in points.items():
        given = {"fd": 10.0, "precision": 0.7, "recall": 0.6, "is": 6.0, "accuracy": 0.8} | values
        for i, seed in enumerate(seeds):
            measured = {k: v if isinstance(v, int | float) else v[i] for k, v in given.items()}
            found.append(
                {
                    "model": model,
                    "method": method,
                    "hyperparameters": json.dumps(hyperparameters, sort_keys=True),
                    "seed": seed,
                    "step": 400 if guided or method == "base" else int(x),
                    "guidance": float(x) if guided else 0.0,
                    "dial": 1.0,
                    "stage": stage,
                    "nfe": 126 if guided else 63,
                    "n_samples": 1000,
                    "protocol": "p",
                    "run_id": f"{model}-{method}-{stage}-{seed}",
                    "is_mean": measured.pop("is"),
                    **{f"{name}_cnn": value for name, value in measured.items()},
                }
            )
    return pd.DataFrame(found)


def base(**values: Value) -> pd.DataFrame:
    """The base model on the seeds of the grid."""
    return rows("base", {0: values})

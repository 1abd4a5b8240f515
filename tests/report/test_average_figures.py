"""Raw weights and averages of one run: in figures, images and the choice of Table 1."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mclr.config.tier import Tier
from mclr.planning.plan import Plan
from mclr.planning.points import is_average
from mclr.report.chart import Chart
from mclr.report.curves import charts
from mclr.report.gallery import points_by_key
from mclr.report.grids import progressive_columns
from mclr.report.names import figure_names
from mclr.report.summary import table_rows
from mclr.settings.optimizer import Optimizer
from mclr.settings.section import canonical

BOTH = Optimizer.model_validate({"ema": {"std": 0.1, "evaluate": "both"}})


@pytest.fixture
def both(tier: Tier) -> Tier:
    """The tier whose MCLR run of VAR keeps its average, too."""
    run = tier.runs["var-mclr"].model_copy(update={"optimizer": BOTH})
    return tier.model_copy(update={"runs": tier.runs | {"var-mclr": run}})


@pytest.fixture
def rows(metrics: pd.DataFrame, both: Tier) -> pd.DataFrame:
    """The average's FD is lower by 1, and its IS higher by 0.3, than the raw weights'."""
    usual = metrics[metrics["run_id"].str.startswith("var-mclr")]
    found: list[dict[Any, Any]] = []
    for point in Plan(both).evaluate_spec("var-mclr").points:
        same = (usual["seed"] == point.seed) & (usual["step"] == point.step)
        (row,) = usual[same].to_dict("records")
        text = canonical(point.hyperparameters)
        better = is_average(text)
        found.append(
            row
            | {"hyperparameters": text, "checkpoint": point.checkpoint}
            | {"fd_digits-net": row["fd_digits-net"] - better}
            | {"is_mean": row["is_mean"] + 0.3 * better}
        )
    others = metrics[~metrics["run_id"].str.startswith("var-mclr")]
    return pd.concat([others, pd.DataFrame(found)], ignore_index=True)


def test_a_figure_where_both_are_measured(tier: Tier, both: Tier) -> None:
    assert not any("average" in name for name in figure_names(tier))
    assert [name for name in figure_names(both) if "average" in name] == ["var-mclr-average"]


def test_the_trade_off_has_a_line_for_each(rows: pd.DataFrame, both: Tier) -> None:
    drawn: dict[str, Chart] = {chart.stem: chart for chart in charts(rows, both)}
    along, _, trade_off = drawn["var-mclr-average"].panels
    lines = {series.label: series for series in trade_off.series}
    assert set(lines) == {"weights = average", "weights = raw", "Start (VAR)"}
    average, raw = lines["weights = average"], lines["weights = raw"]
    assert average.x[0] == raw.x[0] == lines["Start (VAR)"].x[0]  # both start at the base model
    assert [a - b for a, b in zip(average.x[1:], raw.x[1:], strict=True)] == pytest.approx([-1] * 3)
    assert [a - b for a, b in zip(average.y[1:], raw.y[1:], strict=True)] == pytest.approx(
        [0.3] * 3
    )
    assert [series.x[-1] for series in along.series if series.label in lines][:2] == [200, 200]


def test_table_and_progress_show_the_better_kind(rows: pd.DataFrame, both: Tier) -> None:
    best = table_rows(rows, "digits-net", "digits-net", "grid")
    row = best[(best["model"] == "var") & (best["method"] == "mclr")]
    assert is_average(row["hyperparameters"].iloc[0])
    _, bottom = progressive_columns(rows, both, "var")
    assert [text for text, _ in bottom] == ["0", "50", "100", "200"]
    assert all(point.averaged and "-average/" in point.path for _, point in bottom[1:])


def test_each_row_has_the_images_of_its_own_weights(rows: pd.DataFrame, both: Tier) -> None:
    points = [p for p in points_by_key(rows, both).values() if p.run.experiment == "var-mclr"]
    assert sorted((p.step or 0, p.averaged) for p in points) == [
        (step, averaged) for step in (50, 100, 200) for averaged in (False, True)
    ]

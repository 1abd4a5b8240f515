"""A network with a dial is a curve along it, beside CFG's along γ, in figures and records."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mclr.config.reading import parse_tier
from mclr.config.tier import Tier
from mclr.planning.plan import Plan
from mclr.report.gallery import points_by_key
from mclr.report.lines import point_key
from mclr.report.panels import trade_off
from mclr.report.rows import make_table
from mclr.report.view import ModelView
from mclr.settings.section import canonical

VALUES = [0.2, 0.4, 0.6, 1.0]
BEST = 0.4
METHOD = "gft+dial"


@pytest.fixture
def dialled(tier: Tier) -> Tier:
    content = tier.model_dump(mode="json", by_alias=True)
    run = {"model": "edm2", "objective": {"name": "gft", "beta": "input"}, "lr": 1e-4, "batch": 8}
    run |= {"checkpoints": [50, 100], "sweep": {"lr": [1e-5, 1e-4]}, "dial": VALUES}
    content["runs"] = {"edm2-gft": run}
    del content["models"]["var"]
    return parse_tier(content, "test")


@pytest.fixture
def rows(dialled: Tier) -> pd.DataFrame:
    """FD is lowest at lr 1e-4, step 100, β = 0.4; IS grows with guidance."""
    found = []
    for name in ("edm2-base", "edm2-gft"):
        for point in Plan(dialled).evaluate_spec(name).points:
            row, settings = point.model_dump(), dict(point.hyperparameters)
            beta = float(str(settings.get("dial", 1)))
            away = abs(beta - BEST) if settings else 2.0
            fd = 5 + 10 * away + 3 * (settings.get("lr") == 1e-5) + 2 * (row["step"] == 50)
            row |= {"hyperparameters": canonical(settings), "tier": "test", "n_samples": 1000}
            row |= {"protocol": "p-1", "is_mean": 3 / beta, "is_std": 0.1, "git_commit": ""}
            net = dialled.report.features
            row |= {f"fd_{net}": fd, f"precision_{net}": 0.5, f"recall_{net}": 0.5}
            found.append(row)
    return pd.DataFrame(found)


def test_the_curve_goes_along_the_dial_of_one_checkpoint(dialled: Tier, rows: pd.DataFrame) -> None:
    view = ModelView(rows, dialled, "edm2", dialled.report.features)
    (line,) = (s for s in trade_off(view, "fd", "is", [METHOD]).series if s.method.name == METHOD)
    assert [round(y, 6) for y in line.y[1:]] == [round(3 / v, 6) for v in (1.0, 0.6, 0.4, 0.2)]
    assert list(line.x[1:]) == pytest.approx([5 + 10 * abs(v - BEST) for v in (1.0, 0.6, 0.4, 0.2)])
    assert line.ring == 3
    assert line.notes == {1: "β=1", 3: "β=0.4", 4: "β=0.2"}


def test_the_row_of_the_table_says_where_the_dial_stands(dialled: Tier, rows: pd.DataFrame) -> None:
    table = make_table(rows, dialled, dialled.report.features)
    (block,) = table.blocks
    chosen = {row.method.removesuffix(" †"): row.chosen for row in block.rows}
    assert "dial=0.4" in chosen["+GFT with a dial"] and "β=input" in chosen["+GFT with a dial"]


def test_every_value_has_its_own_images(dialled: Tier, rows: pd.DataFrame) -> None:
    found = points_by_key(rows, dialled)
    summary = ModelView(rows, dialled, "edm2", dialled.report.features).summary
    mine = summary[summary["method"] == METHOD].to_dict("records")
    values: list[Any] = [found[point_key(row)].run.value for row in mine]
    assert sorted(values) == sorted(VALUES * 4)
    paths = {found[point_key(row)].path for row in mine}
    assert len(paths) == len(mine)

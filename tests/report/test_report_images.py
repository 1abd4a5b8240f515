"""Images on the page: which point each shows, and where in its sheet each image is."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from grid_levels import CLASSES, GRID_ROWS, SIDE, level
from numpy.typing import NDArray
from PIL import Image

from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.planning.plan import Plan
from mclr.report.curves import charts
from mclr.report.gallery import EMPTY, MAX_SIDE, data_uri, gallery, points_by_key
from mclr.report.lines import Measured
from mclr.report.page import EXPLORED
from mclr.report.sliders import Sliders, sliders

NAMES = [f"class {label}" for label in range(CLASSES)]


def pixels(uri: str) -> NDArray[np.uint8]:
    """RGBA pixels of a data URI."""
    head, _, text = uri.partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image.convert("RGBA"))


def test_a_sheet_has_a_row_per_class_and_a_column_per_noise() -> None:
    values = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3), dtype=np.uint8)
    sheet = pixels(data_uri(values))
    assert sheet.shape == (3 * 9 - 1, 2 * 9 - 1, 4)
    assert (sheet[9:17, 9:17, :3] == values[1, 1]).all()  # no pixel is changed
    assert (sheet[8, :, 3] == 0).all() and (sheet[:8, :8, 3] == 255).all()  # gaps are see-through


def test_large_images_are_averaged_down() -> None:
    values = np.zeros((1, 2, 130, 130, 3), dtype=np.uint8)
    values[:, :, ::2] = 200  # rows in turn: their mean is 100
    sheet = pixels(data_uri(values))
    side = 130 // 3
    assert side <= MAX_SIDE and sheet.shape[:2] == (2 * side + side // 16, side)
    assert abs(sheet[:side, :, :3].astype(int).mean() - 100) < 2


def keys_of(found: list[Sliders], model: str) -> list[list[str]]:
    (entry,) = [entry for entry in found if entry.model == model]
    return [[stop.key for stop in track.stops] for track in entry.tracks]


def test_sliders_begin_at_the_base_model_and_start_at_the_row_of_table_1(
    metrics: pd.DataFrame, tier: Tier
) -> None:
    found = sliders(metrics, tier)
    assert [(entry.model, entry.label) for entry in found] == [("edm2", "EDM2"), ("var", "VAR")]
    still, mclr, cfg = found[0].tracks
    assert [stop.name for stop in mclr.stops] == [
        *("step 0 (base model)", "step 50", "step 100 (row of Table 1)", "step 200")
    ]
    assert [stop.name for stop in cfg.stops] == [
        *("γ = 0 (base model)", "γ = 0.5", "γ = 1 (row of Table 1)", "γ = 2")
    ]
    assert (mclr.start, cfg.start, still.control) == (2, 2, "")
    assert still.stops[0].key == mclr.stops[0].key == cfg.stops[0].key
    words = "FD 9.00, Inception Score 7.60, Precision 0.800, Recall 0.500, NFE 31"
    assert mclr.stops[2].words == words
    assert cfg.stops[2].words.endswith("NFE 62")
    assert sliders(metrics, tier.model_copy(update={"runs": {}})) == []


def test_each_key_has_the_images_of_its_point(
    metrics: pd.DataFrame, tier: Tier, stored_grids: dict[str, Path]
) -> None:
    _, mclr, cfg = keys_of(sliders(metrics, tier), "edm2")
    shown = gallery(metrics, tier, stored_grids, NAMES, {mclr[2], cfg[1]})
    assert set(shown.sheets) == {mclr[2], cfg[1]}
    assert (shown.rows, shown.noises, shown.pixelated) == (tuple(NAMES), GRID_ROWS, True)
    numbers = {path: int(grid.parent.name.split("-")[1]) for path, grid in stored_grids.items()}
    expected = {
        mclr[2]: "edm2-mclr/edm2-mclr-lr0.0001-seed0/step-000100/guidance-0/seed-0",
        cfg[1]: "edm2-base/edm2-base/step-000400/guidance-0.5/seed-0",
    }
    for key, path in expected.items():
        sheet = pixels(shown.sheets[key])
        for noise in range(GRID_ROWS):
            for label in range(CLASSES):
                grey = sheet[label * (SIDE + 1), noise * (SIDE + 1), :3]
                assert (grey == level(numbers[path], noise, label)).all(), (path, noise, label)


def test_a_missing_grid_is_named_and_no_grids_are_no_images(
    metrics: pd.DataFrame, tier: Tier, stored_grids: dict[str, Path]
) -> None:
    key = keys_of(sliders(metrics, tier), "edm2")[0][0]
    gone = {path: Path("gone.png") for path in stored_grids}
    with pytest.raises(UserError, match=r"gone.png: image grid is missing"):
        gallery(metrics, tier, gone, NAMES, {key})
    assert gallery(metrics, tier, {}, NAMES, {key}) is EMPTY


def test_every_point_of_an_explored_chart_has_images(
    rich_metrics: pd.DataFrame, rich_tier: Tier
) -> None:
    """Studies too, whose points do not name the run that was selected."""
    points = points_by_key(rich_metrics, rich_tier)
    drawn = charts(rich_metrics, rich_tier)
    explored = [chart for chart in drawn if any(f"-{kind}" in chart.stem for kind in EXPLORED)]
    lines = [series for c in explored for panel in c.panels for series in panel.series]
    keys = {key for series in lines if isinstance(series, Measured) for key in series.keys}
    assert keys - set(points) == {""}  # real images alone
    planned = {p.path for every in Plan(rich_tier).evaluations.values() for p in every}
    assert {point.path for point in points.values()} <= planned
    assert {"mclr-dial", "mclr+cfg", "cfg-interval"} <= {p.method for p in points.values()}

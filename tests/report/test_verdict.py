"""What Table 1 comes to in words, and the picture of one noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from grid_levels import CLASSES
from PIL import Image

from mclr.config.tier import Tier
from mclr.report.hero import compared, write_hero
from mclr.report.rows import make_table
from mclr.report.verdict import Outcome, Outcomes, markdown_of, of_own_images, outcomes, verdict

NAMES = [f"class {label}" for label in range(CLASSES)]


def outcome(name: str, fd: float, base: float = 73.2, **other: Any) -> Outcome:
    known = {"error": 0.0, "nfe": 18, "guidance": 0.0, "edge": "", "base_error": 0.0}
    return Outcome(name=name, fd=fd, base=base, **(known | other))


def own(mclr: Outcome, cfg: Outcome | None = None) -> str:
    return of_own_images(Outcomes("EDM2", mclr.base, 18, cfg, {"mclr": mclr}))


def test_a_tier_of_the_paper_says_how_far_each_goes(metrics: pd.DataFrame, tier: Tier) -> None:
    table = make_table(metrics, tier)
    found = outcomes(table, tier)
    assert found["edm2"].tuned["mclr"].change == pytest.approx(9 / 20 - 1)
    said = verdict(table, tier)
    assert "MCLR lowers FD on 2 of 2 models, by 55 %" in said
    assert "CFG lowers FD on 2 of 2 models, by 60 %, at twice the network evaluations." in said
    edges = sum(bool(row.edge) for rows in found.values() for row in rows.tuned.values())
    assert f"{edges} of 5 fine-tuned rows lie at an edge of their sweep (†)" in said
    assert "| EDM2 | 20.00 | 8.00 (−60 %) | 9.00 (−55 %) †" in markdown_of(table, tier)


def test_a_row_is_called_as_in_the_table_of_its_model(
    anchored_metrics: pd.DataFrame, anchored_tier: Tier
) -> None:
    found = outcomes(make_table(anchored_metrics, anchored_tier), anchored_tier)
    names = [rows.tuned["mclr+dsm"].name for rows in found.values()]
    assert names == ["MCLR + DSM", "MCLR + likelihood"]


def test_own_images_helped_or_not_and_what_next() -> None:
    guided = outcome("CFG", 50.0, guidance=0.5, nfe=36)
    assert own(outcome("MCLR", 72.8), guided) == (
        "MCLR did not help on these images: FD 72.8 against 73.2 without it "
        "(−1 %; a gain counts from 5 % on). "
        "Use guidance 0.5 instead: FD 50."
    )
    assert own(outcome("MCLR", 40.0), guided) == (
        "MCLR helped on these images: FD 40 against 73.2 without it (−45 %). "
        "Guidance 0.5 of the base model does no better: FD 50 at 36 network evaluations per image "
        "instead of 18."
    )
    assert "Guidance 0.5 of the base model goes further: FD 50 at 36 network evaluations" in own(
        outcome("MCLR", 60.0), guided
    )
    assert "(last checkpoint): try values beyond it" in own(
        outcome("MCLR", 40.0, edge="last checkpoint"), guided
    )
    assert own(outcome("MCLR", 72.8)).endswith("guidance, or train the base model longer.")
    useless = outcome("CFG", 73.0, guidance=0.5, nfe=36)
    assert own(outcome("MCLR", 72.8), useless).endswith(
        "Guidance does not help either (−0 %; a gain counts from 5 % on): "
        "train the base model longer."
    )
    worse = own(outcome("MCLR", 80.0), outcome("CFG", 75.0, guidance=0.5, nfe=36))
    assert worse == (
        "MCLR did not help on these images: FD 80 against 73.2 without it (+9 %). "
        "Guidance does not help either: train the base model longer."
    )


def test_a_difference_within_the_spread_over_seeds_is_no_help() -> None:
    assert outcome("MCLR", 60.0, error=1.0, base_error=1.0).helped
    noisy = outcome("MCLR", 60.0, error=7.0, base_error=1.0)
    assert not noisy.helped
    assert "(−18 %; a gain counts from 14.1 on, twice its standard error)" in own(noisy)


def test_the_picture_compares_the_rows_of_table_1(
    metrics: pd.DataFrame, tier: Tier, stored_grids: dict[str, Path], tmp_path: Path
) -> None:
    points = compared(metrics, tier, "edm2")
    assert [name for name, _ in points] == ["Base", "MCLR", "CFG"]
    base, mclr, cfg = (point for _, point in points)
    assert (base.guidance, mclr.step, cfg.guidance) == (0.0, 100, 1.0)
    path = write_hero(metrics, tier, "edm2", stored_grids, NAMES, tmp_path / "hero.png")
    again = write_hero(metrics, tier, "edm2", stored_grids, NAMES, tmp_path / "again.png")
    assert path.read_bytes() == again.read_bytes()
    with Image.open(path) as image:
        assert image.width > 800 and image.height > 600

"""The paper's Table 1, and which of our models is shown beside which of its models."""

from __future__ import annotations

import pandas as pd
import pytest

from mclr.config.tier import Tier
from mclr.models.config import Model
from mclr.models.own.config import OwnModel
from mclr.report.paper_table import (
    EDM2_L,
    EDM2_S,
    TITLES,
    VAR_D24,
    Beside,
    Pair,
    beside_paper,
    counterpart,
)
from mclr.report.table import tables


@pytest.mark.parametrize("block", [EDM2_S, VAR_D24, EDM2_L])
def test_the_papers_numbers_are_as_its_text_says(block: object) -> None:
    """Section 6.2: MCLR has the lowest FD of the fine-tuned; CFG doubles the NFE."""
    rows = block.rows  # type: ignore[attr-defined]
    tuned = {method: row[1] for method, row in rows.items() if method not in ("base", "cfg")}
    assert min(tuned, key=tuned.__getitem__) == "mclr"
    assert rows["cfg"][0] == 2 * rows["base"][0] == 2 * rows["mclr"][0]
    assert all(row[1] < rows["base"][1] and row[4] > rows["base"][4] for row in rows.values()
               if row is not rows["base"])  # fmt: skip


def test_best_values_named_in_the_text() -> None:
    assert (EDM2_L.rows["cfg"][1], EDM2_L.rows["mclr"][1]) == (39.86, 42.50)


def test_models_are_matched_by_what_they_model(tier: Tier) -> None:
    edm2, var = tier.models["edm2"], tier.models["var"]
    assert counterpart(edm2) is EDM2_S and counterpart(var) is VAR_D24
    assert counterpart(_with(edm2, autoencoder={"a": "network"})) is EDM2_L
    leaky = edm2.base.model_copy(update={"label_noise": 0.4})
    assert counterpart(_with(edm2, base=leaky)) is None
    assert counterpart(OwnModel.model_construct(family="own", base=None)) is None


def _with(model: Model, **changes: object) -> Model:
    return model.model_copy(update=changes)


def test_methods_in_common_are_shown_with_their_ratios(metrics: pd.DataFrame, tier: Tier) -> None:
    edm2, var = beside_paper(tables(metrics, tier)[0], tier)
    assert (edm2.ours, edm2.paper) == ("EDM2", "EDM2-S, ImageNet 64×64")
    names = ["EDM2-S", "+CFG", "+DDO", "+CCA", "+CC-DPO", "+MCLR"]
    assert [method for method, _, _ in edm2.rows] == names
    assert [method for method, _, _ in var.rows] == ["VAR-d24", "+CFG", "+MCLR"]
    cells = dict(zip(TITLES, _pairs_of(edm2)["+CFG"], strict=True))
    assert (cells["FD ↓"].paper, cells["FD ↓"].ours) == ("43.75", "8.00")
    # 43.75 / 95.20 and 8 / 20; 127.40 / 60.43 and 8 / 6
    assert (cells["FD ÷ base"].paper, cells["FD ÷ base"].ours) == ("0.46", "0.40")
    assert (cells["IS ÷ base"].paper, cells["IS ÷ base"].ours) == ("2.11", "1.33")
    assert (cells["Rec. ↑"].paper, cells["Rec. ↑"].ours) == ("0.565", "0.560")


def _pairs_of(found: Beside) -> dict[str, tuple[Pair, ...]]:
    return {method: pairs for method, pairs, _ in found.rows}


def test_what_was_not_measured_is_no_ratio(metrics: pd.DataFrame, tier: Tier) -> None:
    metrics.loc[metrics["method"] == "cfg", "fd_digits-net"] = float("nan")
    edm2 = beside_paper(tables(metrics, tier)[0], tier)[0]
    pairs = _pairs_of(edm2)["+CFG"]
    assert (pairs[0].ours, pairs[1].ours, pairs[1].paper) == ("n/a", "–", "0.46")


def test_each_row_says_what_would_change_our_mind(metrics: pd.DataFrame, tier: Tier) -> None:
    said = {"edm2": {"+": "nothing", "mclr": "five seeds"}}
    edm2, var = beside_paper(tables(metrics, tier)[0], tier, said)
    words = {method: mind for method, _, mind in edm2.rows}
    assert words["+MCLR"] == "five seeds" and words["EDM2-S"] == ""
    assert {mind for _, _, mind in var.rows} == {""}

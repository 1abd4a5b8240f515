"""Settings that were chosen at an edge of their sweep are marked wherever the row is shown."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mclr.claims.verdicts import findings
from mclr.config.tier import Tier
from mclr.planning.points import FINAL
from mclr.report.edges import edges_of
from mclr.report.rows import make_table
from mclr.report.table import latex, markdown, terminal_table
from mclr.settings.optimizer import Optimizer
from mclr.settings.section import canonical


def point(method: str, step: int, guidance: float = 0.0, **hyperparameters: Any) -> dict[str, Any]:
    text = canonical(hyperparameters)
    place = {"model": "edm2", "method": method, "step": step, "guidance": guidance}
    return place | {"hyperparameters": text, "stage": "grid", "dial": 1.0, "n_samples": 1000}


RATES = [
    point("mclr", step, lr=lr, K=K, P_mean=p)
    for step in (50, 100, 200)
    for lr in (1e-5, 3e-5, 1e-4)
    for K in (1, 4, 8)
    for p in (0.0, 1.0, 2.0)
]


@pytest.mark.parametrize(
    ("chosen", "edges"),
    [
        (point("mclr", 100, lr=3e-5, K=4, P_mean=1.0), ()),
        (point("mclr", 200, lr=3e-5, K=4, P_mean=1.0), ("last checkpoint",)),
        (point("mclr", 50, lr=1e-4, K=4, P_mean=0.0), ("P_mean smallest", "lr largest")),
        (point("mclr", 50, lr=1e-5, K=8, P_mean=2.0),
         ("K largest", "P_mean largest", "lr smallest")),
        # Fewer than one other class there is not, so nothing was left out below.
        (point("mclr", 50, lr=3e-5, K=1, P_mean=1.0), ()),
    ],
)  # fmt: skip
def test_edges_of_a_sweep(chosen: dict[str, Any], edges: tuple[str, ...], tier: Tier) -> None:
    assert edges_of(pd.DataFrame(RATES), tier, chosen) == edges


def test_what_was_not_varied_has_no_edge_and_final_seeds_count_for_nothing(tier: Tier) -> None:
    tried = [point("cca", step, lr=1e-4, beta=0.5) for step in (50, 100)]
    far = point("cca", 400, lr=1e-2, beta=0.5) | {"stage": FINAL}
    assert edges_of(pd.DataFrame([*tried, far]), tier, tried[0]) == ()
    assert edges_of(pd.DataFrame([*tried, far]), tier, tried[1]) == ("last checkpoint",)


def test_another_sweep_says_nothing_of_this_one(tier: Tier) -> None:
    """Another round, another K, an ablation at other noise levels: not what was varied here."""
    rates = [point("mclr", 50, lr=lr, K=1, **{"from": "x"} if lr == 1e-3 else {})
             for lr in (1e-4, 3e-4, 1e-3)]  # fmt: skip
    other_k = point("mclr", 50, lr=1e-3, K=4)
    found = edges_of(pd.DataFrame([*rates, other_k]), tier, rates[1])
    assert found == ("last checkpoint", "lr largest")


def test_a_run_without_noise_has_that_of_its_model(tier: Tier) -> None:
    """−0.8 and 0 were tried, in one case without saying so; 0 is the largest."""
    plain = point("mclr", 50, lr=1e-4)
    higher = point("mclr", 50, lr=1e-4, P_mean=0.0, P_std=1.6)
    assert "P_mean largest" in edges_of(pd.DataFrame([plain, higher]), tier, higher)


def test_settings_of_the_optimizer_have_edges(tier: Tier) -> None:
    run = tier.tuned["edm2-cca"]
    how = Optimizer.model_validate({"name": "adamw", "weight_decay": 0.1, "ema": {"std": 0.1}})
    runs = {**tier.runs, "edm2-cca": run.model_copy(update={"optimizer": how})}
    decayed = tier.model_copy(update={"runs": runs})
    tried = [
        point("cca", 50, optimizer={"weight_decay": decay, "ema": {"std": std}})
        for decay in (0.0, 0.1, 1.0)
        for std in (0.05, 0.1, 0.2)
    ]
    found = {i: edges_of(pd.DataFrame(tried), decayed, tried[i])[1:] for i in (4, 6, 0)}
    largest = ("optimizer.ema.std smallest", "optimizer.weight_decay largest")
    assert found == {4: (), 6: largest, 0: ("optimizer.ema.std smallest",)}  # 0 is a bound


def test_guidance_has_the_base_below_and_an_edge_above(tier: Tier) -> None:
    tried = [point("cfg", 400, guidance) for guidance in (0.5, 1.0, 2.0)]
    found = [edges_of(pd.DataFrame(tried), tier, row) for row in tried]
    assert found == [(), (), ("γ largest",)]
    base = point("base", 400)
    assert edges_of(pd.DataFrame([base]), tier, base) == ()


@pytest.mark.parametrize(("fd", "edges"), [(9.0, ("γ largest",)), (10.0, ()), (11.0, ())])
def test_guidance_that_does_not_lower_fd_has_no_edge(
    fd: float, edges: tuple[str, ...], tier: Tier
) -> None:
    """Where CFG is no better than the base, its largest γ is no place that ended too early."""
    column = f"fd_{tier.report.nets[0]}"
    tried = [point("base", 400) | {column: 10.0, "seed": 0}]
    tried += [point("cfg", 400, g) | {column: f, "seed": 0} for g, f in ((0.5, 12.0), (1.0, fd))]
    assert edges_of(pd.DataFrame(tried), tier, tried[-1]) == edges


def test_one_checkpoint_alone_is_the_last(tier: Tier) -> None:
    row = point("ddo", 50, lr=1e-4)
    assert edges_of(pd.DataFrame([row]), tier, row) == ("last checkpoint",)


def test_every_form_of_the_table_shows_it(metrics: pd.DataFrame, tier: Tier) -> None:
    table = make_table(metrics, tier)
    edges = {row["method"]: row["edge"] for row in table.rows.to_dict("records")[:6]}
    assert edges["ccdpo"] == "β largest" and edges["cfg"] == edges["ddo"] == ""
    assert "| +CC-DPO † |" in markdown(table) and "a wider sweep may find" in markdown(table)
    assert "+CC-DPO $\\dagger$ &" in latex(table) and "†" not in latex(table)
    assert "+CC-DPO † " in terminal_table(metrics, tier)
    inside = metrics[metrics["method"].isin(["base", "cfg"])]
    assert "†" not in markdown(make_table(inside, tier))


def test_a_claim_that_compares_such_a_row_says_so(metrics: pd.DataFrame, tier: Tier) -> None:
    found = {(f.claim.id, f.model): f for f in findings(metrics, tier)}
    assert "† CC-DPO: β largest" in found["mclr-below-ccdpo", "edm2"].note
    assert "†" not in found["cfg-lowers-fd", "edm2"].note

"""The paper's orderings, asked of rows whose answers are known."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from mclr.report.orderings import Ordering, orderings
from mclr.report.table import best_rows


def asked(metrics: pd.DataFrame) -> dict[tuple[str, str, str, str], Ordering]:
    found = orderings(best_rows(metrics, "digits-net"))
    return {(o.model, o.rule.metric, o.rule.left, o.rule.right): o for o in found}


def shift(metrics: pd.DataFrame, method: str, column: str, amount: float) -> None:
    metrics.loc[metrics["method"] == method, column] += amount


def test_all_rules_of_a_full_model_and_only_those_of_methods_that_ran(
    metrics: pd.DataFrame,
) -> None:
    found = asked(metrics)
    assert len([key for key in found if key[0] == "edm2"]) == 10
    assert [key[2:] for key in found if key[0] == "var"] == [
        ("cfg", "base"),
        ("mclr", "base"),
        ("cfg", "mclr"),
        ("mclr", "base"),
        ("mclr", "base"),
        ("mclr", "base"),
    ]


def test_difference_spread_and_verdict(metrics: pd.DataFrame) -> None:
    ordering = asked(metrics)["edm2", "fd", "mclr", "ccdpo"]
    assert ordering.difference == pytest.approx(9 - 12)
    assert ordering.spread == pytest.approx(math.hypot(0.2 / math.sqrt(2), 0.2 / math.sqrt(2)))
    assert (ordering.verdict, ordering.n_seeds) == ("holds", 2)
    assert ordering.sentence == "FD(MCLR) − FD(CC-DPO) = −3 ± 0.2 (2 seeds)"


@pytest.mark.parametrize(
    ("amount", "verdict"), [(4.0, "does not hold"), (3.1, "within seed spread")]
)
def test_reversed_and_unclear(metrics: pd.DataFrame, amount: float, verdict: str) -> None:
    shift(metrics, "mclr", "fd_digits-net", amount)
    assert asked(metrics)["edm2", "fd", "mclr", "ccdpo"].verdict == verdict


def test_rules_that_expect_an_increase(metrics: pd.DataFrame) -> None:
    assert asked(metrics)["edm2", "precision", "mclr", "base"].verdict == "holds"
    assert asked(metrics)["edm2", "recall", "mclr", "base"].verdict == "holds"
    shift(metrics, "mclr", "precision_digits-net", -0.2)
    shift(metrics, "mclr", "recall_digits-net", 0.2)
    assert asked(metrics)["edm2", "precision", "mclr", "base"].verdict == "does not hold"
    assert asked(metrics)["edm2", "recall", "mclr", "base"].verdict == "does not hold"


def test_dsm_that_helps_contradicts_the_paper(metrics: pd.DataFrame) -> None:
    assert asked(metrics)["edm2", "fd", "mclr+dsm", "mclr"].verdict == "within seed spread"
    shift(metrics, "mclr+dsm", "fd_digits-net", -2.0)
    assert asked(metrics)["edm2", "fd", "mclr+dsm", "mclr"].verdict == "does not hold"


def test_one_seed_says_that_the_spread_is_unknown(metrics: pd.DataFrame) -> None:
    ordering = asked(metrics[metrics["seed"] == 0])["var", "fd", "mclr", "base"]
    assert ordering.verdict == "holds"
    assert ordering.sentence == "FD(MCLR) − FD(base) = −11 (1 seed, spread unknown)"


def test_equal_counts_as_no_higher(metrics: pd.DataFrame) -> None:
    single = metrics[metrics["seed"] == 0].copy()
    shift(single, "cfg", "fd_digits-net", 1.0)
    found = asked(single)["edm2", "fd", "cfg", "mclr"]
    assert found.difference == pytest.approx(0, abs=1e-9)
    single.loc[single["method"] == "cfg", "fd_digits-net"] = 9.0
    single.loc[single["method"] == "mclr", "fd_digits-net"] = 9.0
    assert asked(single)["edm2", "fd", "cfg", "mclr"].verdict == "holds"


def test_no_finite_value_is_not_measurable(metrics: pd.DataFrame) -> None:
    metrics.loc[metrics["method"] == "mclr", "fd_digits-net"] = math.nan
    ordering = asked(metrics)["edm2", "fd", "mclr", "base"]
    assert ordering.verdict == "not measurable"
    assert ordering.sentence == "FD(MCLR) − FD(base): no finite value"

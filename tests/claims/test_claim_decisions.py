"""The decision rules of claims, on rows whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from claim_rows import base, rows

from mclr.claims.claim import ABOVE, BELOW, COMPARABLE, best, table
from mclr.claims.curves import Curve, NotMeasuredError, View
from mclr.claims.paired import effects_of
from mclr.claims.questions import Cost, Difference, Quantity, Spread
from mclr.claims.region import Region
from mclr.claims.shapes import AtEqual, Together, Trend, Turn
from mclr.claims.statistics import collapse, detour, gap_at_equal_x, turn


def view(*parts: pd.DataFrame) -> View:
    return View(pd.concat(parts, ignore_index=True), "edm2", "cnn", "cnn")


def curve(values: list[list[float]], seeds: tuple[int, ...]) -> Curve:
    return Curve(np.arange(len(values), dtype=float), np.array(values), seeds, ())


def minus(means: list[np.ndarray]) -> float:
    return float(means[0][0] - means[1][0])


# ------------------------------------------------------------------ verdicts and intervals


def test_regions_in_words() -> None:
    assert [r.words() for r in (BELOW, Region(low=-0.02), Region())] == ["< 0", "≥ −0.02", ""]
    assert COMPARABLE.words(percent=True) == "within ±10 %"


def test_pairs_are_rows_of_the_same_seed() -> None:
    left = curve([[1, 5, 9]], (0, 1, 2))
    assert effects_of([left, curve([[10, 2, 6]], (2, 0, 1))], minus).values == (-1, -1, -1)
    partly = effects_of([left, curve([[2, 6, 10]], (1, 2, 3))], minus)
    assert partly.values == (3, 3) and partly.mean == 3
    apart = effects_of([left, curve([[2, 6, 13]], (3, 4, 5))], minus)
    assert apart.values == () and apart.mean == -2 and apart.interval is None


def test_a_seed_without_a_number_is_left_out() -> None:
    def one_over(means: list[np.ndarray]) -> float:
        return 1 / float(means[0][0]) if means[0][0] else math.nan

    found = effects_of([curve([[1.0, 0.0, 2.0]], (0, 1, 2))], one_over)
    assert found.values == (1.0, 0.5) and found.mean == 0.75


# ------------------------------------------------------------------ numbers of a curve


def test_statistics_in_closed_form() -> None:
    zigzag = np.array([0.0, 2.0, 1.0, 3.0])
    assert detour(zigzag) == pytest.approx(1 - 3 / 5)
    assert collapse(np.array([5.0, 2.0, 3.0])) == pytest.approx(0.5)
    assert turn(np.array([10.0, 6.0, 7.0]), 1) == pytest.approx(0.1)
    assert turn(np.array([10.0, 11.0, 12.0]), 0) == 0


def test_gap_at_equal_x_interpolates_within_the_range_of_the_other() -> None:
    other_x, other_y = np.array([3.0, 1.0, 2.0]), np.array([30.0, 10.0, 20.0])
    x, y = np.array([1.5, 2.5, 9.0]), np.array([16.0, 27.0, 0.0])
    assert gap_at_equal_x(x, y, other_x, other_y) == pytest.approx((1 + 2) / 2)
    assert gap_at_equal_x(x, y, other_x, other_y, high=True) == pytest.approx(2)
    assert math.isnan(gap_at_equal_x(np.array([9.0]), np.array([0.0]), other_x, other_y))


# ------------------------------------------------------------------ questions


def test_a_difference_pairs_seeds_and_gives_its_rows() -> None:
    found = view(base(fd=[10.0, 20.0]), rows("mclr", {50: {"fd": 30.0}, 100: {"fd": [8.0, 18.0]}}))
    answer = Difference("fd", table("mclr"), table("base"), BELOW).ask(found)
    assert answer.effect == -2 and answer.found.values == (-2, -2)
    assert answer.relative is not None
    assert answer.relative.mean == pytest.approx((-2 / 10 - 2 / 20) / 2)
    used = [
        (row["method"], row["step"], row["seed"], row["value"]) for row in answer.curves[0].rows
    ]
    assert used == [("mclr", 100, 0, 8.0), ("mclr", 100, 1, 18.0)]
    assert {row["column"] for row in answer.curves[0].rows} == {"fd_cnn"}


def test_final_seeds_are_judged_where_there_are_any() -> None:
    final = {"seeds": (5, 6, 7), "stage": "final"}
    found = view(
        base(fd=10.0),
        rows("base", {0: {"fd": 11.0}}, **final),
        rows("mclr", {50: {"fd": 5.0}, 100: {"fd": 8.0}}),
        rows("mclr", {50: {"fd": [12.0, 13.0, 14.0]}}, **final),
    )
    answer = Difference("fd", table("mclr"), table("base"), BELOW).ask(found)
    assert answer.effect == 2 and answer.curves[0].seeds == (5, 6, 7)
    assert {row["stage"] for curve in answer.curves for row in curve.rows} == {"final"}
    # Curves stay those of the grid.
    assert found.path("fd", "mclr").values.mean(1).tolist() == [10.0, 5.0, 8.0]


def test_the_best_of_several_methods_counts() -> None:
    found = view(
        base(**{"is": 6.0}),
        rows("mclr", {50: {"is": 7.0, "fd": 5.0}, 100: {"is": 8.0}}),
        rows("cfg", {0.5: {"is": 9.0}, 1.0: {"is": 8.5}}, guided=True),
        rows("mclr+cfg", {0.5: {"is": 10.0}}, guided=True, stage="study"),
    )
    answer = Difference("is", best("mclr+cfg"), best("mclr", "cfg"), ABOVE).ask(found)
    assert answer.effect == 1 and answer.found.values == (1, 1)


def test_anchored_mclr_is_never_merged_with_mclr() -> None:
    """Its points, however good, are no points of MCLR: neither the best nor in the table."""
    mclr = rows("mclr", {20: {"fd": 5.0}}, dsm=0.0)
    anchored = rows("mclr+dsm", {20: {"fd": 1.0}}, dsm=1.0)
    found = view(base(fd=10.0), mclr, anchored)
    for which in (table, best):
        assert Difference("fd", which("mclr"), which("base"), BELOW).ask(found).effect == -5
        assert Difference("fd", which("mclr+dsm"), which("mclr"), BELOW).ask(found).effect == -4


def test_trends_count_from_the_base_model_on_each_seeds_curve() -> None:
    rising = {50: {"is": [7.0, 7.0]}, 100: {"is": [8.0, 6.5]}, 200: {"is": [9.0, 9.0]}}
    answer = Trend("is", "mclr", +1).ask(view(base(**{"is": 6.0}), rows("mclr", rising)))
    assert answer.effect == pytest.approx((1 + 0.8) / 2)
    assert answer.found.values == pytest.approx((1.0, 0.8))
    single = rows("mclr", {k: {"is": v["is"][0]} for k, v in rising.items()}, seeds=(0,))
    alone = Trend("is", "mclr", -1).ask(view(base(**{"is": 6.0}), single))
    assert alone.effect == -1 and alone.found.n == 1
    with pytest.raises(NotMeasuredError, match="2 points of mclr"):
        Trend("is", "mclr", 1).ask(view(base(), rows("mclr", {50: {}})))


@pytest.mark.parametrize(
    ("fds", "turns", "note"),
    [
        ([6.0, 5.0, 8.0], True, "lowest at step 100"),
        ([12.0, 13.0, 14.0], False, "lowest at step 0"),
        ([9.0, 8.0, 7.0], None, "lowest at step 200, the last point"),
    ],
)
def test_a_turn_needs_a_fall_and_a_rise(fds: list[float], turns: bool | None, note: str) -> None:
    points = {step: {"fd": fd} for step, fd in zip((50, 100, 200), fds, strict=True)}
    question = Turn("mclr")
    answer = question.ask(view(base(fd=10.0), rows("mclr", points)))
    assert answer.note == note
    assert answer.is_open == (turns is None)
    assert turns is None or question.region.holds(answer.effect) == turns


def test_paths_that_move_alike_agree() -> None:
    up = {x: {"is": 6.0 + x, "precision": 0.7 + x / 100} for x in (1, 2, 3)}
    down = {x: {"is": 6.0 + x, "precision": 0.7 - x / 100} for x in (1, 2, 3)}
    for other, effect in ((up, 1.0), (down, 0.0)):
        found = view(base(**{"is": 6.0}), rows("mclr", up), rows("cfg", other, guided=True))
        answer = Together(("is", "precision"), ("mclr", "cfg")).ask(found)
        assert answer.effect == pytest.approx(effect)


def test_values_at_equal_x() -> None:
    cfg = {1.0: {"is": 7.0, "fd": 8.0}, 2.0: {"is": 9.0, "fd": 6.0}}
    found = view(
        base(**{"is": 6.0}),
        rows("mclr", {50: {"is": 8.0, "fd": 8.0}}),
        rows("cfg", cfg, guided=True),
    )
    assert AtEqual("is", "fd", "mclr", "cfg", ABOVE).ask(found).effect == pytest.approx(1.0)


def test_sweeps_compare_the_best_of_each_value() -> None:
    found = view(
        base(fd=10.0),
        rows("ccdpo", {50: {"fd": 8.0}, 100: {"fd": 9.0}}, beta=0.1),
        rows("ccdpo", {50: {"fd": 9.0}, 100: {"fd": 6.0}}, beta=1.0),
    )
    spread = Spread("fd", "ccdpo", "beta", Region(high=0.25)).ask(found)
    assert spread.effect == pytest.approx(8 / 6 - 1)
    ends = [Quantity("best", ("ccdpo",), ("beta", end)) for end in (-1, 0)]
    assert Difference("fd", *ends, ABOVE).ask(found).effect == pytest.approx(-2)
    with pytest.raises(NotMeasuredError, match="lambda of ccdpo was not varied"):
        Spread("fd", "ccdpo", "lambda", BELOW).ask(found)


def test_cost_is_exact_with_any_number_of_seeds() -> None:
    found = view(
        rows("base", {0: {}}, seeds=(0,)),
        rows("mclr", {50: {}}, seeds=(0,)),
        rows("cfg", {1.0: {}}, seeds=(0,), guided=True),
    )
    answer = Cost("mclr", "cfg", Region(high=0.5)).ask(found)
    assert answer.effect == 0.5 and answer.exact

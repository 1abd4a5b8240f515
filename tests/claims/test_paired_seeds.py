"""Tests over pairs of seeds, against closed forms, enumeration and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from mclr.claims.families import holm
from mclr.claims.paired import CONFIDENCE, POWER, Effects, smallest_effect
from mclr.claims.region import ABOVE_ZERO, Region

BELOW, WITHIN = Region(high=0, is_open=True), Region(-0.1, 0.1)


def effects(*values: float) -> Effects:
    return Effects(float(np.mean(values)), values)


def test_the_interval_in_closed_form() -> None:
    found = effects(1.0, 2.0, 3.0).interval
    half = 4.302652729911275 / math.sqrt(3)  # tables: t(0.975, 2); s = 1
    assert found == pytest.approx((2 - half, 2 + half))
    assert effects(1.0).interval is None and effects(2.0, 2.0, 2.0).interval is None


@pytest.mark.parametrize("n", [3, 5])
def test_the_interval_covers_what_it_says(n: int) -> None:
    """Of 2,000 samples about 95 % hold the true mean; the range of the seeds holds far fewer."""
    samples = np.random.default_rng(n).normal(7.0, 2.0, (2000, n))
    intervals = [effects(*sample).interval for sample in samples.tolist()]
    covered = np.mean([i is not None and i[0] <= 7 <= i[1] for i in intervals])
    error = math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / 2000)
    assert covered == pytest.approx(CONFIDENCE, abs=4 * error)
    ranged = np.mean((samples.min(1) <= 7) & (samples.max(1) >= 7))
    assert ranged == pytest.approx(1 - 2 / 2**n, abs=0.04), "the percentile bootstrap at n = 3"


def test_sign_flips_are_enumerated() -> None:
    for values in ([1.0, 2.0, 3.0], [1.0, -0.5, 2.0, 4.0, 0.3], [1.0, -2.0, 0.5, 3.0, -0.1, 2.0]):
        total = abs(sum(values))
        signs = itertools.product((1, -1), repeat=len(values))
        flipped = [abs(np.dot(s, values)) for s in signs]
        by_hand = np.mean([f >= total - 1e-12 for f in flipped])
        assert effects(*values).p_signs(0.0) == pytest.approx(by_hand)
    assert effects(1.0, 2.0, 3.0).p_signs(0.0) == 0.25
    assert effects(1.0, 2.0, 3.0, 4.0, 5.0).p_signs(0.0) == 2 / 32
    assert effects(2.0, 2.0, 2.0).p_signs(2.0) == 1


def test_seeds_that_agree_exactly_have_the_p_of_the_sign_flips() -> None:
    """A spread of nothing is no certainty: three seeds with the same rank prove little."""
    assert effects(1.0, 1.0, 1.0).p_t(0.0) == 0.25
    assert effects(*[1.0] * 6).p_t(0.0) == 2 / 64


def test_p_is_the_level_at_which_the_interval_touches_the_region() -> None:
    found = effects(-3.0, -2.0, -1.5)
    p = BELOW.p_value(found.mean, found.p_t)
    low, high = stats.ttest_1samp(found.values, 0).confidence_interval(1 - p)
    assert high == pytest.approx(0) and low < 0
    assert ABOVE_ZERO.p_value(found.mean, found.p_t) == pytest.approx(p)
    inside, outside = effects(0.01, 0.03, 0.05), effects(0.2, 0.3, 0.4)
    assert WITHIN.p_value(inside.mean, inside.p_t) == pytest.approx(inside.p_t(0.1))
    assert inside.p_t(0.1) > inside.p_t(-0.1)
    assert WITHIN.p_value(outside.mean, outside.p_t) == pytest.approx(outside.p_t(0.1))


def test_holm_by_hand() -> None:
    # 4 · 0.005, 3 · 0.01, then 2 · 0.03 and 1 · 0.04, which may not be smaller than 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_smallest_effect_is_found_as_often_as_said(n: int) -> None:
    samples = np.random.default_rng(n).normal(smallest_effect(n), 1.0, (4000, n))
    found = np.mean(stats.ttest_1samp(samples, 0.0, axis=1).pvalue <= 1 - CONFIDENCE)
    assert found == pytest.approx(POWER, abs=4 * math.sqrt(POWER * (1 - POWER) / 4000))


def test_more_seeds_show_smaller_effects() -> None:
    sizes = [smallest_effect(n) for n in range(3, 41)]
    assert sizes == sorted(sizes, reverse=True)
    found = effects(1.0, 2.0, 3.0)
    assert found.detectable == pytest.approx(smallest_effect(3))
    assert effects(1.0, 2.0).detectable is None

"""Holm's correction: a family of tests, of which hardly one is wrong by chance."""

from __future__ import annotations

from collections.abc import Sequence


# Holm 1979: the i-th smallest of m p values, times m − i + 1, but no smaller than those before it.
def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values, in the order given: each is to be compared with the level itself.

    The chance that any true hypothesis of the family is refused is at most the level, whatever
    the dependence between the tests.
    """
    m = len(p_values)
    adjusted, largest = [1.0] * m, 0.0
    for rank, i in enumerate(sorted(range(m), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted

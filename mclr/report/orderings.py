"""The paper's orderings, asked of measured rows: which of them hold here, and how clearly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from mclr.report.methods import METHODS

HOLDS, FAILS, UNCLEAR, MISSING = (
    "holds",
    "does not hold",
    "within seed spread",
    "not measurable",
)


@dataclass(frozen=True)
class Rule:
    """The paper reports ``metric`` of ``left`` below (sign −1) or above (+1) that of ``right``."""

    claim: str
    metric: str
    left: str
    right: str
    sign: int
    paper: str
    equal_holds: bool = False


@dataclass(frozen=True)
class Ordering:
    """One rule on one model: difference = left − right, with the spread of both over seeds."""

    model: str
    rule: Rule
    difference: float
    spread: float
    n_seeds: int
    verdict: str

    @property
    def sentence(self) -> str:
        """The difference in words, with its spread and the number of seeds."""
        left, right = (
            f"{NAMES[self.rule.metric]}({METHODS[name].suffix.lstrip('+') or 'base'})"
            for name in (self.rule.left, self.rule.right)
        )
        if math.isnan(self.difference):
            return f"{left} − {right}: no finite value"
        value = f"{self.difference:+.3g}".replace("-", "−")
        seeds = f"{self.n_seeds} seed{'s' if self.n_seeds > 1 else ''}"
        spread = f" ± {self.spread:.2g} ({seeds})"
        return f"{left} − {right} = {value}" + (
            spread if math.isfinite(self.spread) else f" ({seeds}, spread unknown)"
        )


NAMES = {"fd": "FD", "precision": "Prec.", "recall": "Rec.", "is": "IS"}
ALL, EDM2 = "all three models", "both EDM2 models"

RULES = (
    Rule("CFG lowers the FD of the base model", "fd", "cfg", "base", -1, ALL),
    Rule("MCLR lowers the FD of the base model", "fd", "mclr", "base", -1, ALL),
    Rule("MCLR reaches a lower FD than CC-DPO", "fd", "mclr", "ccdpo", -1, ALL),
    Rule("MCLR reaches a lower FD than CCA", "fd", "mclr", "cca", -1, ALL),
    Rule("MCLR reaches a lower FD than DDO", "fd", "mclr", "ddo", -1, EDM2),
    Rule(
        "CFG reaches an FD no higher than MCLR's",
        "fd",
        "cfg",
        "mclr",
        -1,
        f"{EDM2}; reversed on VAR-d24",
        equal_holds=True,
    ),
    Rule("MCLR raises precision", "precision", "mclr", "base", +1, ALL),
    Rule("MCLR raises IS", "is", "mclr", "base", +1, ALL),
    Rule("MCLR lowers recall", "recall", "mclr", "base", -1, ALL),
    Rule(
        "Adding DSM does not lower the FD of MCLR",
        "fd",
        "mclr+dsm",
        "mclr",
        +1,
        "EDM2-S, Figure 20",
        equal_holds=True,
    ),
)


def orderings(best: pd.DataFrame) -> list[Ordering]:
    """The rules that can be asked of ``best`` (see ``best_rows``), model by model.

    A rule about a method that was not run is left out. The spread of a difference is
    sqrt(s₁² + s₂²) of the two sample standard deviations; a difference no larger than that is
    "within seed spread". With one seed the spread is unknown and the sign alone decides.
    """
    found = []
    for model in best["model"].unique():
        rows = best[best["model"] == model].set_index("method")
        for rule in RULES:
            if rule.left in rows.index and rule.right in rows.index:
                found.append(_ask(model, rule, rows.loc[rule.left], rows.loc[rule.right]))
    return found


def _ask(model: str, rule: Rule, left: pd.Series, right: pd.Series) -> Ordering:
    difference = float(left[rule.metric] - right[rule.metric])
    spread = math.hypot(left[f"{rule.metric}_std"], right[f"{rule.metric}_std"])
    if math.isnan(difference):
        verdict = MISSING
    elif abs(difference) <= spread:
        verdict = UNCLEAR
    else:
        agrees = difference * rule.sign > 0 or (rule.equal_holds and difference == 0)
        verdict = HOLDS if agrees else FAILS
    n_seeds = min(int(left["n_seeds"]), int(right["n_seeds"]))
    return Ordering(model, rule, difference, spread, n_seeds, verdict)

"""Every claim asked of every model with every feature net, and the answers as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mclr.claims.bootstrap import (
    CONFIDENCE,
    DRAWS,
    INCONCLUSIVE,
    NOT_MEASURED,
    NOT_SUPPORTED,
    SUPPORTED,
    n_seeds,
)
from mclr.claims.catalogue import claims_of
from mclr.claims.claim import NAMES, Claim
from mclr.claims.curves import BY_NET, NotMeasuredError, View
from mclr.claims.questions import Answer, Difference
from mclr.claims.shapes import AcrossNets
from mclr.config.tier import Tier
from mclr.report.edges import MARK, edges_of
from mclr.report.summary import check_metrics


@dataclass(frozen=True)
class Finding:
    """One claim, on one model, seen with one feature net ("" where none takes part)."""

    claim: Claim
    model: str
    net: str
    verdict: str
    answer: Answer | None
    note: str

    @property
    def seeds(self) -> int:
        return n_seeds(self.answer.curves) if self.answer else 0


def findings(metrics: pd.DataFrame, tier: Tier) -> list[Finding]:
    """All findings: claim by claim, in the order of the tier's models and feature nets.

    Raises:
        UserError: as ``check_metrics``.
    """
    check_metrics(metrics, tier)
    views = {
        (model, net): View(metrics, model, net, tier.report.nets[0])
        for model in tier.models
        for net in tier.features
    }
    return [
        _finding(claim, model, net, views[model, net or tier.report.nets[0]], tier)
        for claim in claims_of(tier)
        for model, settings in tier.models.items()
        if settings.family in claim.families
        for net in _nets(claim, tier)
    ]


def _nets(claim: Claim, tier: Tier) -> list[str]:
    """The feature nets that a claim is asked with: each, or none if the metrics need none."""
    question = claim.question
    if isinstance(question, AcrossNets) or not set(question.metrics) & set(BY_NET):
        return [""]
    return list(tier.features)


def _finding(claim: Claim, model: str, net: str, view: View, tier: Tier) -> Finding:
    try:
        answer = claim.question.ask(view)
    except NotMeasuredError as missing:
        return Finding(claim, model, net, NOT_MEASURED, None, str(missing))
    notes = [_note(answer), *_edges(claim, view, tier)]
    note = "; ".join(part for part in notes if part)
    return Finding(claim, model, net, _verdict(claim, answer), answer, note)


def _edges(claim: Claim, view: View, tier: Tier) -> Iterator[str]:
    """Of the rows of Table 1 that are compared, those at an edge of their sweep."""
    methods = claim.question.tabled if isinstance(claim.question, Difference) else ()
    for method in dict.fromkeys(methods):
        if edges := edges_of(view.rows, tier, view.chosen(method)):
            yield f"{MARK} {NAMES[method]}: {', '.join(edges)}"


def _verdict(claim: Claim, answer: Answer) -> str:
    region = claim.question.region
    if answer.interval is not None:
        return region.verdict(*answer.interval)
    if answer.by_point and math.isfinite(answer.effect):
        return SUPPORTED if region.holds(answer.effect) else NOT_SUPPORTED
    return INCONCLUSIVE


def _note(answer: Answer) -> str:
    alone = ""
    if n_seeds(answer.curves) < 2 and not answer.exact:
        borrowed = answer.interval and not answer.from_curve
        alone = "one seed" + (", interval from the spread of the final seeds" if borrowed else "")
    return "; ".join(part for part in (answer.note, alone) if part)


# ------------------------------------------------------------------ JSON


def as_json(found: list[Finding], tier: Tier) -> dict[str, Any]:
    """The content of ``claims.json``: each claim with its findings, and how they were judged."""
    claims = []
    for claim in claims_of(tier):
        own = [_json(finding) for finding in found if finding.claim.id == claim.id]
        claims.append(
            {
                "id": claim.id,
                "topic": claim.topic,
                "claim": claim.statement,
                "quote": claim.quote,
                "source": claim.source,
                "families": list(claim.families),
                "effect": claim.question.rule(),
                "supported_if": claim.question.region.words(),
                "findings": own,
            }
        )
    return {
        "tier": tier.tier,
        "confidence": CONFIDENCE,
        "draws": DRAWS,
        "verdicts": counts(found),
        "claims": claims,
    }


def counts(found: list[Finding]) -> dict[str, int]:
    """How many findings have each verdict."""
    names = (SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE, NOT_MEASURED)
    return {name: sum(finding.verdict == name for finding in found) for name in names}


def _json(finding: Finding) -> dict[str, Any]:
    content: dict[str, Any] = {
        "model": finding.model,
        "net": finding.net or None,
        "verdict": finding.verdict,
        "note": finding.note,
    }
    answer = finding.answer
    if answer is None:
        return content | {"effect": None, "interval": None, "rows": []}
    return content | {
        "effect": _number(answer.effect),
        "interval": _pair(answer.interval),
        "relative": _number(answer.relative),
        "relative_interval": _pair(answer.relative_interval),
        "seeds": finding.seeds,
        "rows": list(_rows(answer)),
    }


def _rows(answer: Answer) -> Iterator[dict[str, Any]]:
    """The rows behind an answer, each once."""
    seen: set[tuple[Any, ...]] = set()
    for curve in answer.curves:
        for row in curve.rows:
            key = tuple(row.values())
            if key not in seen:
                seen.add(key)
                yield {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    return _number(value) if isinstance(value, float) else value


def _pair(interval: tuple[float, float] | None) -> list[float | None] | None:
    return None if interval is None else [_number(end) for end in interval]


def _number(value: float | None) -> float | None:
    """Six significant digits are more than any of these numbers carries."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")

"""Every claim asked of every model with every feature net, and the answers as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from mclr.claims.catalogue import claims_of
from mclr.claims.claim import NAMES, Claim
from mclr.claims.curves import BY_NET, Leak, NotMeasuredError, View
from mclr.claims.families import holm
from mclr.claims.nets import one_answer
from mclr.claims.paired import CONFIDENCE, LEAST_SEEDS, POWER, Effects
from mclr.claims.questions import Answer, Difference
from mclr.claims.region import (
    INCONCLUSIVE,
    NOT_MEASURED,
    NOT_SUPPORTED,
    OBSERVATION,
    SUPPORTED,
    VERDICTS,
    Region,
)
from mclr.config.tier import Tier
from mclr.cost.images import SOURCES
from mclr.models.config import Model
from mclr.report.edges import MARK, edges_of
from mclr.report.summary import check_metrics
from mclr.settings.data import OwnImages

LEVEL = round(1 - CONFIDENCE, 12)


@dataclass(frozen=True)
class Finding:
    """One claim, on one model, seen with one feature net ("" where none takes part).

    ``p``: by Student's t, ``signs``: by sign flips; None where nothing is tested. ``holm`` is p
    corrected within the family, ``corrected`` the verdict by it.
    """

    claim: Claim
    model: str
    net: str
    verdict: str
    answer: Answer | None
    note: str
    p: float | None = None
    signs: float | None = None
    holm: float | None = None
    corrected: str = ""

    @property
    def seeds(self) -> int:
        """How many seeds have an effect."""
        return self.answer.found.n if self.answer else 0


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
    for (model, net), view in views.items():
        view.leak = _leak_of(model, net, views, tier)
    found = [
        _finding(claim, model, net, views[model, net or tier.report.nets[0]], tier)
        for claim in claims_of(tier)
        for model, settings in tier.models.items()
        if settings.family in claim.families
        and (not claim.of_leaks or views[model, tier.report.nets[0]].leak)
        for net in _nets(claim, tier)
    ]
    return _corrected(found)


def _leak_of(model: str, net: str, views: dict[tuple[str, str], View], tier: Tier) -> Leak | None:
    """The leak of a model that has a counterpart in all but its leak and its name."""
    settings = tier.models[model]
    share = getattr(settings.base, "label_noise", 0.0)

    def but_the_leak(other: Model) -> dict[str, Any]:
        content = other.model_dump(exclude={"label"})
        content["base"].pop("label_noise", None)
        return content

    for name, other in tier.models.items():
        is_clean = not getattr(other.base, "label_noise", 0.0)
        if share and is_clean and but_the_leak(other) == but_the_leak(settings):
            classes = _classes(tier)
            return Leak(share, classes, views[name, net]) if classes else None
    return None


def _classes(tier: Tier) -> int | None:
    """How many classes the images have, where it is known without them."""
    if isinstance(tier.data, OwnImages):
        return tier.data.classes
    return SOURCES[tier.data.source].classes if tier.data.source in SOURCES else None


def _corrected(found: list[Finding]) -> list[Finding]:
    """Holm's correction: a family is what is tested under one topic, on all models and nets."""
    families: dict[str, list[int]] = {}
    for i, finding in enumerate(found):
        if finding.p is not None:
            families.setdefault(finding.claim.topic, []).append(i)
    corrected = [replace(finding, corrected=finding.verdict) for finding in found]
    for members in families.values():
        tested = [found[i].p or 0.0 for i in members]
        for i, p in zip(members, holm(tested), strict=True):
            verdict = found[i].verdict if p <= LEVEL else INCONCLUSIVE
            corrected[i] = replace(found[i], holm=p, corrected=verdict)
    return corrected


def _nets(claim: Claim, tier: Tier) -> list[str]:
    """The feature nets that a claim is asked with: each, or none if the metrics need none."""
    question = claim.question
    if one_answer(question) or not set(question.metrics) & set(BY_NET):
        return [""]
    return list(tier.features)


def _finding(claim: Claim, model: str, net: str, view: View, tier: Tier) -> Finding:
    try:
        answer = claim.question.ask(view)
    except NotMeasuredError as missing:
        return Finding(claim, model, net, NOT_MEASURED, None, str(missing))
    notes = [*_notes(answer, claim.question.region), *_edges(claim, view, tier)]
    note = "; ".join(part for part in notes if part)
    finding = Finding(claim, model, net, _verdict(claim.question.region, answer), answer, note)
    if not _is_tested(answer):
        return finding
    region, effects = claim.question.region, answer.found
    p, signs = (region.p_value(effects.mean, at) for at in (effects.p_t, effects.p_signs))
    return replace(finding, p=p, signs=signs)


def _edges(claim: Claim, view: View, tier: Tier) -> Iterator[str]:
    """Of the rows of Table 1 that are compared, those at an edge of their sweep."""
    methods = claim.question.tabled if isinstance(claim.question, Difference) else ()
    for method in dict.fromkeys(methods):
        if edges := edges_of(view.rows, tier, view.chosen(method)):
            yield f"{MARK} {NAMES[method]}: {', '.join(edges)}"


def _is_tested(answer: Answer) -> bool:
    """Whether there are seeds enough for a test, and chance to test against."""
    return answer.found.n >= LEAST_SEEDS and not answer.exact and not answer.is_open


def _verdict(region: Region, answer: Answer) -> str:
    effects = answer.found
    decided = SUPPORTED if region.holds(effects.mean) else NOT_SUPPORTED
    if answer.exact:
        return decided
    if not math.isfinite(effects.mean):
        return INCONCLUSIVE
    if effects.n < LEAST_SEEDS:
        return OBSERVATION
    tested = _is_tested(answer) and region.p_value(effects.mean, effects.p_t) <= LEVEL
    return decided if tested else INCONCLUSIVE


def _notes(answer: Answer, region: Region) -> Iterator[str]:
    """What a reader must know beside the numbers: how few seeds, and what they cannot show."""
    effects = answer.found
    yield answer.note
    if answer.exact:
        return
    seeds = {0: "no seed in common", 1: "one seed"}.get(effects.n, f"{effects.n} seeds")
    if effects.n < LEAST_SEEDS:
        side = "as claimed" if region.holds(effects.mean) else "not as claimed"
        yield f"{seeds}, {side}"
    elif not effects.has_spread:
        yield f"all {seeds} alike, so sign flips decide"


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
                "family": claim.topic,
                "claim": claim.statement,
                "quote": claim.quote,
                "source": claim.source,
                "families": list(claim.families),
                "effect": claim.question.rule(),
                "percent": getattr(claim.question, "relative", False),
                "supported_if": claim.question.region.words(),
                "findings": own,
            }
        )
    return {
        "tier": tier.tier,
        "features": tier.report.nets[0],
        "confidence": CONFIDENCE,
        "power": POWER,
        "verdicts": counts(found),
        "corrected": counts(found, corrected=True),
        "claims": claims,
    }


def counts(found: list[Finding], corrected: bool = False) -> dict[str, int]:
    """How many findings have each verdict: as tested alone, or corrected within the family."""
    verdicts = [finding.corrected if corrected else finding.verdict for finding in found]
    return {name: verdicts.count(name) for name in VERDICTS}


def _json(finding: Finding) -> dict[str, Any]:
    content: dict[str, Any] = {
        "model": finding.model,
        "net": finding.net or None,
        "verdict": finding.verdict,
        "corrected": finding.corrected,
        "note": finding.note,
    }
    answer = finding.answer
    if answer is None:
        return content | {"effect": None, "interval": None, "rows": []}
    relative = answer.relative or Effects(math.nan, ())
    return content | {
        "effect": _number(answer.effect),
        "interval": _pair(answer.interval),
        "relative": _number(relative.mean),
        "relative_interval": _pair(relative.interval),
        "effects": [_number(value) for value in answer.found.values],
        "p": _number(finding.p),
        "p_holm": _number(finding.holm),
        "p_sign_flip": _number(finding.signs),
        "detectable": _number(answer.found.detectable),
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

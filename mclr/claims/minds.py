"""What would change our mind: for a row of Table 1, which result would turn its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mclr.claims.region import INCONCLUSIVE, NOT_MEASURED, OBSERVATION, SUPPORTED

ENOUGH = 5
"""Seeds that the paper's claims are to be judged on; ours."""


def minds(content: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """By model and method, from the content of ``claims.json``; the report's feature net counts.

    Of MCLR the claim that it lowers FD, of CFG that it is no worse than MCLR, of another method
    that MCLR is ahead of it, or comparable in autoregressive models.
    """
    claims = {claim["id"]: claim for claim in content["claims"]}
    found: dict[str, dict[str, str]] = {}
    for method, name in _about(claims):
        for finding in claims[name]["findings"]:
            is_shown = finding["net"] in (None, content["features"])
            if is_shown and finding["verdict"] != NOT_MEASURED:
                rows = found.setdefault(finding["model"], {})
                rows.setdefault(method, _words(claims[name], finding))
    return found


def _about(claims: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(method, id of the claim that its row is asked), those of the paper's Table 1."""
    entries = [("mclr", "mclr-lowers-fd"), ("cfg", "cfg-at-most-mclr"), ("cfg", "cfg-lowers-fd")]
    for other in ("ddo", "cca", "ccdpo"):
        entries += [(other, f"mclr-below-{other}"), (other, f"mclr-comparable-{other}")]
    yield from (entry for entry in entries if entry[1] in claims)


def _words(claim: Mapping[str, Any], finding: Mapping[str, Any]) -> str:
    statement, seeds, least = claim["claim"], finding["seeds"], finding["detectable"]
    scale, unit = (100, " %") if claim["percent"] else (1, "")
    size = f"{scale * least:.2g}{unit}" if least is not None else "any"
    edge = "; or values beyond the sweep (†) with a lower FD" if "†" in finding["note"] else ""
    verdict = finding["corrected"]
    if verdict == OBSERVATION:
        return f"{statement}? Seen on too few seeds ({max(seeds, 1)}): {ENOUGH} would tell{edge}."
    if verdict == INCONCLUSIVE:
        return f"{statement}? Open: {seeds} seeds show a difference of {size} or more{edge}."
    if verdict == SUPPORTED:
        return f"{statement}: yes. {seeds} other seeds that say no, by {size} or more{edge}."
    return f"{statement}: no. {seeds} other seeds that say yes, by {size} or more{edge}."

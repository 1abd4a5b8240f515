"""Claims for people: a line per claim, a cell per model, from the content of ``claims.json``."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mclr.claims.minds import minds
from mclr.claims.region import (
    INCONCLUSIVE,
    NOT_MEASURED,
    NOT_SUPPORTED,
    OBSERVATION,
    SUPPORTED,
    VERDICTS,
)

MARKS = {
    SUPPORTED: "✓",
    NOT_SUPPORTED: "✗",
    INCONCLUSIVE: "?",
    OBSERVATION: "○",
    NOT_MEASURED: "–",
}
CSV_COLUMNS = (
    *("family", "id", "claim", "model", "net", "verdict", "corrected", "effect", "low", "high"),
    *("relative", "relative_low", "relative_high", "seeds", "p", "p_holm", "p_sign_flip"),
    *("detectable", "note"),
)


@dataclass(frozen=True)
class Entry:
    """One finding in a cell: both verdicts, the effect with its interval, the tests in words."""

    verdict: str
    corrected: str
    net: str
    words: str
    tests: str
    note: str

    @property
    def mark(self) -> str:
        return MARKS[self.verdict]

    @property
    def corrected_mark(self) -> str:
        """The mark of the corrected verdict, where something was tested."""
        return MARKS[self.corrected] if self.tests else ""


@dataclass(frozen=True)
class Line:
    """One claim: for each model its findings, none if the claim is not about such models."""

    statement: str
    quote: str
    source: str
    rule: str
    cells: tuple[tuple[Entry, ...], ...]


@dataclass(frozen=True)
class Topic:
    """The claims under one heading."""

    heading: str
    lines: tuple[Line, ...]

    @property
    def comes_to(self) -> str:
        """How many findings have each verdict, those that occur, in words."""
        found = Counter(entry.verdict for line in self.lines for c in line.cells for entry in c)
        return ", ".join(f"{found[name]} {name}" for name in VERDICTS if found[name])


def topics(content: Mapping[str, Any], models: Sequence[str]) -> list[Topic]:
    """Claims by topic, with a cell for each of ``models``."""
    lines: dict[str, list[Line]] = {}
    for claim in content["claims"]:
        lines.setdefault(claim["topic"], []).append(_line(claim, models))
    return [Topic(heading, tuple(found)) for heading, found in lines.items()]


def _line(claim: Mapping[str, Any], models: Sequence[str]) -> Line:
    cells = tuple(
        tuple(
            _entry(finding, claim["percent"])
            for finding in claim["findings"]
            if finding["model"] == model
        )
        for model in models
    )
    judged = f"{claim['effect']} {claim['supported_if']}".strip()
    return Line(claim["claim"], claim["quote"], claim["source"], judged, cells)


def _entry(finding: Mapping[str, Any], percent: bool) -> Entry:
    """``percent``: the effect itself is a share; else its share of the right side follows it."""
    relative, words = finding.get("relative"), ""
    if finding["effect"] is not None:
        words = _with_interval(finding["effect"], finding["interval"], percent)
        if relative is not None and not percent:
            words += f", {_with_interval(relative, None, percent=True)}"
    tests = _tests(finding, percent)
    verdicts = finding["verdict"], finding["corrected"]
    return Entry(*verdicts, finding["net"] or "", words, tests, finding["note"])


def _tests(finding: Mapping[str, Any], percent: bool) -> str:
    """p values, and the least effect that so many seeds could show; empty where none was tested."""
    if finding.get("p") is None:
        return ""
    parts = [
        f"p {_p(finding['p'])}, Holm {_p(finding['p_holm'])}, "
        f"sign flips {_p(finding['p_sign_flip'])}"
    ]
    least = finding["detectable"]
    if least is not None:
        size = f"{100 * least:.2g} %" if percent else f"{least:.2g}"
        parts.append(f"{finding['seeds']} seeds could show {size}")
    return "; ".join(parts)


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 0.0001 else "< 0.0001"


def _with_interval(value: float, interval: Sequence[float] | None, percent: bool) -> str:
    """``−35 % [−37, −33]``; without brackets if there is no interval."""
    scale = 100 if percent else 1

    def number(value: float, sign: str) -> str:
        text = f"{scale * value:{sign}.3g}" if abs(scale * value) < 1000 else f"{scale * value:.0f}"
        return text.replace("-", "−")

    ends = "" if not interval else f" [{number(interval[0], '')}, {number(interval[1], '')}]"
    return number(value, "+") + (" %" if percent else "") + ends


def summary(content: Mapping[str, Any], corrected: bool = False) -> str:
    """How many findings have each verdict, in words."""
    found = content["corrected" if corrected else "verdicts"]
    return ", ".join(f"{found[name]} {name}" for name in VERDICTS)


def shown(content: Mapping[str, Any], models: Sequence[str]) -> dict[str, Any]:
    """What the report's page shows: the claims by topic, and their verdicts in words."""
    return {
        "claims": topics(content, models),
        "verdicts": summary(content),
        "corrected": summary(content, corrected=True),
        "confidence": content["confidence"],
        "power": content["power"],
        "minds": minds(content),
    }


# ------------------------------------------------------------------ Markdown


def markdown(content: Mapping[str, Any], models: Sequence[str]) -> str:
    """``claims.md``: a table per topic, a row per claim and a column per model."""
    legend = ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())
    parts = [
        f"# The paper's claims, measured: tier {content['tier']}\n",
        f"{summary(content)}. With Holm's correction: {summary(content, corrected=True)}. "
        f"{legend}, † at an edge of its sweep.\n",
        "The first mark is the verdict of the test alone, the second that with Holm's correction "
        "within the family, which is everything under one heading. The number is the effect, the "
        f"brackets its {100 * content['confidence']:g} % interval by Student's t over pairs of "
        "equal seeds; a percentage is relative to the second of the two compared. "
        "“Could show”: the smallest true effect that so many seeds of this spread find in "
        f"{100 * content['power']:g} % of cases. Fewer than three seeds are an observation. How "
        "each verdict is reached: docs/claims.md; the rows behind it: claims.json; one line a "
        "finding: claims.csv.\n",
    ]
    for topic in topics(content, models):
        parts.append(f"## {topic.heading}\n")
        parts.append(_row(["Claim", "In the paper", *models]))
        parts.append(_row([":--", ":--", *(":--" for _ in models)]))
        parts += [_row(_columns(line)) for line in topic.lines]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _columns(line: Line) -> list[str]:
    cells = ["<br>".join(_words(entry) for entry in cell) for cell in line.cells]
    quote = f"“{line.quote}” " if line.quote else ""
    return [line.statement, quote + line.source, *cells]


def _words(entry: Entry) -> str:
    net = f"{entry.net}: " if entry.net else ""
    note = "; ".join(part for part in (entry.tests, entry.note) if part)
    marks = f"{entry.mark} {entry.corrected_mark}".rstrip()
    return f"{net}{marks} {entry.words}{f' ({note})' if note else ''}".rstrip()


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# ------------------------------------------------------------------ CSV


def csv_text(content: Mapping[str, Any]) -> str:
    """``claims.csv``: a line per finding, with both verdicts, every p value and the power."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for claim in content["claims"]:
        for finding in claim["findings"]:
            low, high = finding["interval"] or ("", "")
            ends = finding.get("relative_interval") or ("", "")
            known = claim | finding | {"low": low, "high": high}
            known |= {"relative_low": ends[0], "relative_high": ends[1]}
            line = {name: known.get(name) for name in CSV_COLUMNS}
            writer.writerow({k: "" if value is None else value for k, value in line.items()})
    return text.getvalue()

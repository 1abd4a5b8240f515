"""Claims for people: a line per claim, a cell per model, from the content of ``claims.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mclr.claims.bootstrap import INCONCLUSIVE, NOT_MEASURED, NOT_SUPPORTED, SUPPORTED, VERDICTS

MARKS = {SUPPORTED: "✓", NOT_SUPPORTED: "✗", INCONCLUSIVE: "?", NOT_MEASURED: "–"}


@dataclass(frozen=True)
class Entry:
    """One finding in a cell: its verdict, and the effect with its interval in words."""

    verdict: str
    net: str
    words: str
    note: str

    @property
    def mark(self) -> str:
        return MARKS[self.verdict]


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
        tuple(_entry(finding) for finding in claim["findings"] if finding["model"] == model)
        for model in models
    )
    judged = f"{claim['effect']} {claim['supported_if']}".strip()
    return Line(claim["claim"], claim["quote"], claim["source"], judged, cells)


def _entry(finding: Mapping[str, Any]) -> Entry:
    relative = finding.get("relative")
    if finding["effect"] is None:
        words = ""
    elif relative is not None:
        words = _with_interval(relative, finding["relative_interval"], percent=True)
    else:
        words = _with_interval(finding["effect"], finding["interval"], percent=False)
    return Entry(finding["verdict"], finding["net"] or "", words, finding["note"])


def _with_interval(value: float, interval: Sequence[float] | None, percent: bool) -> str:
    """``−35 % [−37, −33]``; without brackets if there is no interval."""
    scale = 100 if percent else 1

    def number(value: float, sign: str) -> str:
        text = f"{scale * value:{sign}.3g}" if abs(scale * value) < 1000 else f"{scale * value:.0f}"
        return text.replace("-", "−")

    ends = "" if not interval else f" [{number(interval[0], '')}, {number(interval[1], '')}]"
    return number(value, "+") + (" %" if percent else "") + ends


def summary(content: Mapping[str, Any]) -> str:
    """How many findings have each verdict, in words."""
    return ", ".join(f"{content['verdicts'][name]} {name}" for name in VERDICTS)


def shown(content: Mapping[str, Any], models: Sequence[str]) -> dict[str, Any]:
    """What the report's page shows: the claims by topic, and their verdicts in words."""
    return {"claims": topics(content, models), "verdicts": summary(content)}


# ------------------------------------------------------------------ Markdown


def markdown(content: Mapping[str, Any], models: Sequence[str]) -> str:
    """``claims.md``: a table per topic, a row per claim and a column per model."""
    legend = ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())
    parts = [
        f"# The paper's claims, measured: tier {content['tier']}\n",
        f"{summary(content)}. {legend}, † at an edge of its sweep.\n",
        "The number is the effect, the brackets its "
        f"{100 * content['confidence']:g} % bootstrap interval over seeds; a percentage is a "
        "difference relative to the second of the two compared. How each verdict is reached: "
        "docs/claims.md; the rows behind it: claims.json.\n",
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
    note = f" ({entry.note})" if entry.note else ""
    return f"{net}{entry.mark} {entry.words}{note}".rstrip()


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

"""What Table 1 comes to, in a sentence: did fine-tuning help, by how much, and what to try next."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mclr.config.tier import Tier
from mclr.objectives.method import Method
from mclr.report.edges import MARK
from mclr.report.methods import methods_for
from mclr.report.rows import Table
from mclr.report.summary import REAL
from mclr.settings.data import OwnImages

MARGIN = 0.05
"""Ours: a smaller share of the base model's FD counts as no difference."""

RULE = f"a gain counts from {MARGIN:.0%} on".replace("%", " %")
"""The same in words."""

IMAGENET = 1000
"""Classes of the one set of images that the paper has among those that a tier names by a path."""


def is_own(tier: Tier) -> bool:
    """Whether a tier is of somebody's own images, of which the paper says nothing."""
    return isinstance(tier.data, OwnImages) and tier.data.classes != IMAGENET


@dataclass(frozen=True)
class Outcome:
    """One row of Table 1 beside its base model: FD, its standard error (0 with one seed), NFE."""

    name: str
    fd: float
    error: float
    nfe: int
    guidance: float
    edge: str
    base: float
    base_error: float

    @property
    def change(self) -> float:
        """FD relative to the base model's: −0.25 is a quarter less."""
        return self.fd / self.base - 1

    @property
    def helped(self) -> bool:
        """Whether FD is lower by ``MARGIN`` and by twice the standard error of the difference."""
        return self.base - self.fd >= max(MARGIN * self.base, self.noise)

    @property
    def noise(self) -> float:
        """Twice the standard error of the difference in FD."""
        return 2 * math.hypot(self.error, self.base_error)

    @property
    def short(self) -> str:
        """Why a lower FD is no help, in words; '' where it is one, or FD is not lower."""
        if self.helped or self.fd >= self.base:
            return ""
        if self.change > -MARGIN:
            return RULE
        return f"a gain counts from {self.noise:.3g} on, twice its standard error"

    @property
    def words(self) -> str:
        """Such as ``4.34 (−26 %) †``."""
        return f"{self.fd:.2f} ({percent(self.change)})" + (f" {MARK}" if self.edge else "")


@dataclass(frozen=True)
class Outcomes:
    """The rows of one model: guided, and fine-tuned in the order of the table."""

    label: str
    base: float
    nfe: int
    cfg: Outcome | None
    tuned: Mapping[str, Outcome]

    @property
    def best(self) -> Outcome | None:
        """The fine-tuned row of lowest FD."""
        return _lowest(self.tuned.values())

    @property
    def best_other(self) -> Outcome | None:
        """The same without MCLR."""
        return _lowest(row for method, row in self.tuned.items() if method != "mclr")


def _lowest(rows: Iterable[Outcome]) -> Outcome | None:
    return min(rows, key=lambda row: row.fd, default=None)


def percent(change: float) -> str:
    """Such as ``−26 %``."""
    return f"{100 * change:+.0f} %".replace("-", "−")


def outcomes(table: Table, tier: Tier) -> dict[str, Outcomes]:
    """By model; rows whose FD is not finite are left out, and so are models without a base."""
    found = {}
    for name, model in tier.models.items():
        methods = methods_for(tier, name)
        records = table.rows[table.rows["model"] == name].to_dict("records")
        rows = {str(row["method"]): row for row in records if math.isfinite(row["fd"])}
        if "base" in rows:
            made = {m: outcome_of(methods[m], row, rows["base"]) for m, row in rows.items()}
            tuned = {m: row for m, row in made.items() if m not in ("base", "cfg", REAL)}
            base = made["base"]
            found[name] = Outcomes(model.label, base.fd, base.nfe, made.get("cfg"), tuned)
    return found


def outcome_of(
    method: Method, row: Mapping[Hashable, Any], base: Mapping[Hashable, Any]
) -> Outcome:
    """A row of ``summarise`` or of Table 1, which alone says what lies at an edge."""
    return Outcome(
        method.suffix.removeprefix("+"),
        row["fd"],
        _error(row),
        int(row["nfe"]),
        row["guidance"],
        row.get("edge", ""),
        base["fd"],
        _error(base),
    )


def _error(row: Mapping[Hashable, Any]) -> float:
    """Standard error of a mean over seeds; 0 where one seed leaves it unknown."""
    spread = row["fd_std"]
    return spread / math.sqrt(row["n_seeds"]) if math.isfinite(spread) else 0.0


# ------------------------------------------------------------------ sentences


def verdict(table: Table, tier: Tier) -> str:
    """One or two sentences: of a tier of one's own images its answer, of others what MCLR did."""
    found = outcomes(table, tier)
    if is_own(tier):
        named = len(found) > 1
        answers = {rows.label: of_own_images(rows) for rows in found.values()}
        return " ".join(f"{label}: {text}" if named else text for label, text in answers.items())
    parts = [_of_method("MCLR", [rows.tuned.get("mclr") for rows in found.values()])]
    guided = _of_method("CFG", [rows.cfg for rows in found.values()])
    parts += [f"{guided}, at twice the network evaluations"] if guided else []
    words = "; ".join(part for part in parts if part)
    tuned = [row for rows in found.values() for row in rows.tuned.values()]
    edges = sum(bool(row.edge) for row in tuned)
    sentence = f"In these settings {words}." if words else "Nothing was compared."
    if edges:
        sentence += (
            f" {edges} of {len(tuned)} fine-tuned rows lie at an edge of their sweep ({MARK}): "
            "wider sweeps may change the order."
        )
    return sentence


def _of_method(name: str, found: list[Outcome | None]) -> str:
    """How many models a method lowers FD on, and by how much; '' where it was not run."""
    rows = [row for row in found if row]
    lower = sorted(-row.change for row in rows if row.change < 0)
    if not rows:
        return ""
    if not lower:
        return f"{name} lowers FD on none of {len(rows)} models"
    ends = dict.fromkeys(f"{100 * value:.0f}" for value in (lower[0], lower[-1]))
    where = f"{len(lower)} of {len(rows)} models" if len(rows) > 1 else "the one model"
    return f"{name} lowers FD on {where}, by {' to '.join(ends)} %"


def of_own_images(rows: Outcomes, tuned: Outcome | None = None) -> str:
    """Did the method help here, by how much, what to try next; the best method if none is named."""
    tuned = tuned or rows.best
    if tuned is None:
        return f"{rows.label}: nothing was fine-tuned."
    against = f"FD {tuned.fd:.3g} against {rows.base:.3g} without it"
    change = percent(tuned.change)
    if tuned.helped:
        first = f"{tuned.name} helped on these images: {against} ({change})."
    else:
        short = f"; {tuned.short}" if tuned.short else ""
        first = f"{tuned.name} did not help on these images: {against} ({change}{short})."
    return f"{first} {_next(rows, tuned)}".strip()


def _next(rows: Outcomes, tuned: Outcome) -> str:
    """What to do with it, and what to try."""
    cfg = rows.cfg
    beyond = f"Its setting lies at an edge of the sweep ({tuned.edge}): try values beyond it."
    if tuned.helped:
        guided = ""
        if cfg:
            further = "goes further" if cfg.fd < tuned.fd * (1 - MARGIN) else "does no better"
            guided = (
                f"Guidance {cfg.guidance:g} of the base model {further}: FD {cfg.fd:.3g} at "
                f"{cfg.nfe} network evaluations per image instead of {tuned.nfe}."
            )
        return f"{guided} {beyond if tuned.edge else ''}".strip()
    if cfg and cfg.helped:
        return f"Use guidance {cfg.guidance:g} instead: FD {cfg.fd:.3g}."
    if tuned.edge:
        return beyond
    if cfg is None:
        return "Compare it with guidance, or train the base model longer."
    short = f" ({percent(cfg.change)}; {cfg.short})" if cfg.short else ""
    return f"Guidance does not help either{short}: train the base model longer."


def markdown_of(table: Table, tier: Tier) -> str:
    """The outcomes as a short table in Markdown: FD and its change, a row per model."""
    lines = ["| FD ↓ (change) | base | CFG, twice the cost | MCLR | best of the others |"]
    lines.append("|:--|--:|--:|--:|--:|")
    for rows in outcomes(table, tier).values():
        other = rows.best_other
        cells = [row.words if row else "–" for row in (rows.cfg, rows.tuned.get("mclr"))]
        cells.append(f"{other.words}, {other.name}" if other else "–")
        lines.append(f"| {rows.label} | {rows.base:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"

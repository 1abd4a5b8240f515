"""Corollary 1 on a model whose labels leak: the number that it predicts, beside what came.

A base model trained with a share η of its labels drawn anew is the mixture of Eq. (18),
p_ref(x|c) = (1 − η) p(x|c) + η p(x). Its optimum under MCLR of strength η is p(x|c) (Corollary 1):
the same model without a leak. A classifier measures the leak: images of p(x) have their label by
chance, so a leak of η' makes of the accuracy a of a clean model (1 − η') a + η' / C.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mclr.claims.claim import COMPARABLE, DIFFUSION, Claim
from mclr.claims.curves import Curve, NotMeasuredError, Values, View
from mclr.claims.paired import effects_of
from mclr.claims.questions import Answer
from mclr.claims.region import Region

AS_PREDICTED = Region(-0.1, 0.1)
"""Ours: a tenth of all labels more or less."""


# Eq. (18), solved for the share: a' = (1 − η') a + η' / C.
def leak_left(accuracy: float, clean: float, classes: int) -> float:
    """The share η' of p(x) that an accuracy tells, beside that of the same model without a leak."""
    return (clean - accuracy) / (clean - 1 / classes)


@dataclass(frozen=True)
class LeakLeft:
    """The leak that a method leaves, less the one that is predicted."""

    method: str
    region: Region = AS_PREDICTED
    metrics: tuple[str, ...] = ("accuracy",)

    def ask(self, view: View) -> Answer:
        leak = view.leak
        if leak is None:
            raise NotMeasuredError("no model beside it without a leak")
        predicted = leak.share if self.method == "base" else 0.0
        curves = [view.at_table("accuracy", self.method), leak.clean.at_table("accuracy", "base")]

        def left(means: list[Values]) -> float:
            return leak_left(float(means[0][0]), float(means[1][0]), leak.classes)

        measured = effects_of(curves, left)
        beyond = effects_of(curves, lambda means: left(means) - predicted)
        note = f"predicted {predicted:.2f}, came {measured.mean:.2f}"
        return Answer(beyond, tuple(curves), note=note)

    def rule(self) -> str:
        predicted = "η" if self.method == "base" else "0"
        return f"leak that the accuracy of {self.method} tells − {predicted}"


@dataclass(frozen=True)
class CleanQuality:
    """FD of a method beside that of the base model without a leak, which is predicted."""

    method: str
    region: Region = COMPARABLE
    relative: bool = True
    metrics: tuple[str, ...] = ("fd",)

    def ask(self, view: View) -> Answer:
        if view.leak is None:
            raise NotMeasuredError("no model beside it without a leak")
        clean = view.leak.clean.seen_with(view.features)
        curves: list[Curve] = [view.at_table("fd", self.method), clean.at_table("fd", "base")]
        found = effects_of(curves, lambda means: float(means[0][0] / means[1][0]) - 1)
        came, predicted = (float(curve.values.mean()) for curve in curves)
        note = f"predicted {predicted:.2f}, came {came:.2f}"
        return Answer(found, tuple(curves), note=note)

    def rule(self) -> str:
        return f"fd({self.method}) / fd(base without a leak) − 1, Table 1"


def leaks() -> Iterator[Claim]:
    """Eq. (18) and Corollary 1, on models whose labels leak."""
    topic = "Corollary 1"
    entries = (
        ("leak-of-the-base", "The base model leaks the share η of its labels", "", "Eq. (18)",
         LeakLeft("base")),
        ("mclr-leaves-no-leak", "MCLR leaves no leak", "", "Corollary 1", LeakLeft("mclr")),
        ("mclr-reaches-the-clean-model",
         "MCLR's FD lies within 10 % of that of the base model without a leak", "",
         "Corollary 1", CleanQuality("mclr")),
    )  # fmt: skip
    for name, statement, said, source, question in entries:
        yield Claim(name, topic, statement, said, source, (DIFFUSION,), question, of_leaks=True)

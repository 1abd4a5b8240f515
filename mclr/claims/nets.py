"""Questions on two feature nets side by side: which of them sees an improvement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mclr.claims.claim import ALL, AT_MOST, DIFFUSION, NAMES, Claim
from mclr.claims.curves import NotMeasuredError, Values, View
from mclr.claims.paired import effects_of
from mclr.claims.questions import Answer
from mclr.claims.region import ABOVE_ZERO, Region
from mclr.claims.shapes import AcrossNets

PAPERS = "inception"
"""The feature net of FID, where a tier has it."""


@dataclass(frozen=True)
class OtherNet:
    """The share of the base model's FD that a method takes off, by another feature net.

    The other net is FID's, where there is one, else the first that is not the report's.
    ``beside``: the report's share less the other's.
    """

    method: str
    region: Region
    beside: bool = False
    metrics: tuple[str, ...] = ("fd",)

    def ask(self, view: View) -> Answer:
        others = [net for net in view.nets if net != view.features]
        if not others:
            raise NotMeasuredError("there is one feature net")
        net = PAPERS if PAPERS in others else others[0]
        seen = [view, view.seen_with(net)]
        curves = [v.at_table("fd", name) for v in seen for name in (self.method, "base")]

        def gain(means: list[Values]) -> float:
            own, other = (1 - float(m[0] / b[0]) for m, b in zip(*_pairs(means), strict=True))
            return own - other if self.beside else other

        return Answer(effects_of(curves, gain), tuple(curves), note=f"{net} beside {view.features}")

    def rule(self) -> str:
        other = f"1 − fd({self.method}) / fd(base), Table 1, by another feature net"
        return f"the same by the report's net − {other}" if self.beside else other


def _pairs(means: list[Values]) -> tuple[list[Values], list[Values]]:
    return means[::2], means[1::2]


def one_answer(question: object) -> bool:
    """Whether a question is about several feature nets at once."""
    return isinstance(question, AcrossNets | OtherNet)


def across() -> Iterator[Claim]:
    """Section 6.1: what the feature net hides."""
    topic = "Feature nets"
    quote = (
        "it can be insensitive to perceptually meaningful improvements … the FID score often does "
        "not improve and may even degrade. In contrast, FD_DINOv2 consistently captures these "
        "improvements"
    )
    yield Claim(
        "nets-agree",
        topic,
        "Precision and recall have the same trends with every feature net",
        "Precision and Recall exhibit consistent trends across feature extractors",
        "Section 6.1",
        ALL,
        AcrossNets(("precision", "recall"), "mclr"),
    )
    for method in ("mclr", "cfg"):
        yield Claim(
            f"{method}-unseen-by-other-net",
            topic,
            f"{NAMES[method]} does not lower the FD of another feature net (the paper: FID)",
            quote,
            "Section 6.1",
            (DIFFUSION,),
            OtherNet(method, AT_MOST),
        )
        yield Claim(
            f"{method}-seen-less-by-other-net",
            topic,
            f"{NAMES[method]} takes a smaller share off the FD of another feature net than off the "
            "report's",
            quote,
            "Section 6.1",
            (DIFFUSION,),
            OtherNet(method, ABOVE_ZERO, beside=True),
        )

"""Claims of the ablation study, Section G."""

from __future__ import annotations

from collections.abc import Iterator

from mclr.claims.claim import (
    ABOVE,
    AT_LEAST,
    AT_MOST,
    AUTOREGRESSIVE,
    BELOW,
    COMPARABLE,
    DIFFUSION,
    STABLE,
    Claim,
    best,
    by_size,
    table,
)
from mclr.claims.questions import Difference, EveryValue, Quantity, Question, Spread


def dsm() -> Iterator[Claim]:
    """Section G.1: a DSM term beside MCLR."""
    topic = "Adding DSM to MCLR"
    source = "Section G.1, Figure 20"
    yield Claim(
        "dsm-does-not-lower-fd",
        topic,
        "MCLR + DSM reaches no lower best FD than MCLR",
        "adding an explicit DSM term consistently harms the best achievable performance",
        source,
        (DIFFUSION,),
        Difference("fd", best("mclr+dsm"), best("mclr"), AT_LEAST),
    )
    yield Claim(
        "dsm-does-not-raise-is",
        topic,
        "MCLR + DSM reaches no higher best IS than MCLR",
        "degrades both FD_DINOv2 and Inception Score",
        source,
        (DIFFUSION,),
        Difference("is", best("mclr+dsm"), best("mclr"), AT_MOST),
    )
    consistently = "adding an explicit DSM term consistently harms the best achievable performance"
    for metric, region, words in (
        ("fd", ABOVE, "a higher best FD"),
        ("is", BELOW, "a lower best IS"),
    ):
        yield Claim(
            f"dsm-harms-{metric}-at-every-weight",
            topic,
            f"With a DSM term of whatever weight MCLR reaches {words} than alone",
            consistently,
            source,
            (DIFFUSION,),
            EveryValue(metric, ("mclr", "mclr+dsm"), "dsm", region),
        )
    yield Claim(
        "dsm-row-above-mclr",
        topic,
        "The row of MCLR + DSM has a higher FD than that of MCLR",
        consistently,
        source,
        (DIFFUSION,),
        Difference("fd", table("mclr+dsm"), table("mclr"), ABOVE),
    )
    yield Claim(
        "dsm-slows",
        topic,
        "The larger the DSM weight, the higher the FD on the way",
        "increasing β leads to slower convergence",
        source,
        (DIFFUSION,),
        by_size("fd", "average", ("mclr", "mclr+dsm"), "dsm", ABOVE),
    )


def tuples() -> Iterator[Claim]:
    """Section E.2: one other class an image (Approach 1), or several (Approach 2)."""
    topic = "Approaches 1 and 2"
    source = "Section E.2; K = 1 is Approach 1, the largest K of the sweep Approach 2"
    many, one = (Quantity("best", ("mclr",), ("K", end), alike=True) for end in (-1, 0))
    for metric, region, words in (("fd", BELOW, "lower best FD"), ("is", ABOVE, "higher best IS")):
        yield Claim(
            f"approach-2-better-{metric}",
            topic,
            f"Approach 2 reaches a {words} than Approach 1",
            "where it consistently yields improved quantitative performance",
            source,
            (DIFFUSION,),
            Difference(metric, many, one, region),
        )
    yield Claim(
        "approaches-comparable",
        topic,
        "The best FDs of Approaches 1 and 2 lie within 10 %",
        "we use Approach 1 due to its lower computational overhead and comparable empirical "
        "performance",
        source,
        (AUTOREGRESSIVE,),
        Difference("fd", many, one, COMPARABLE, relative=True),
    )


def sensitivity() -> Iterator[Claim]:
    """Sections G.2 and G.3: β of CC-DPO, λ of CCA."""
    topic = "Hyperparameters of CC-DPO and CCA"
    stable = "CC-DPO exhibits relatively stable performance across a wide range of β values"
    smaller = "smaller β values achieve marginally better best-case FD_DINOv2 and Inception Score"
    dpo, cca = "Section G.2, Figure 21", "Section G.3, Figure 22"
    entries: tuple[tuple[str, str, str, str, Question], ...] = (
        ("ccdpo-stable-in-beta", "CC-DPO: the best FD varies by at most 25 % over β", stable, dpo,
         Spread("fd", "ccdpo", "beta", STABLE)),
        ("ccdpo-stable-is-in-beta", "CC-DPO: the best IS varies by at most 25 % over β", stable,
         dpo, Spread("is", "ccdpo", "beta", STABLE)),
        ("ccdpo-small-beta-fd", "CC-DPO: the smallest β reaches a lower FD than the largest",
         smaller, dpo, by_size("fd", "best", ("ccdpo",), "beta", ABOVE)),
        ("ccdpo-small-beta-is", "CC-DPO: the smallest β reaches a higher IS than the largest",
         smaller, dpo, by_size("is", "best", ("ccdpo",), "beta", BELOW)),
        ("cca-lambda-little-impact", "CCA: the best FD varies by at most 25 % over λ",
         "λ has little impact on the best achievable FD_DINOv2", cca,
         Spread("fd", "cca", "lambda", STABLE)),
        ("cca-large-lambda-unstable",
         "CCA: with the largest λ, FD rises further from its lowest value than with the smallest",
         "larger λ values … often cause training instability and eventual collapse when training "
         "is prolonged", cca, by_size("fd", "collapse", ("cca",), "lambda", ABOVE)),
        ("cca-large-lambda-is", "CCA: the largest λ reaches at least the IS of the smallest",
         "larger λ values can yield slightly higher best-case Inception Scores", cca,
         by_size("is", "best", ("cca",), "lambda", AT_LEAST)),
    )  # fmt: skip
    for name, statement, quote, source, question in entries:
        yield Claim(name, topic, statement, quote, source, (DIFFUSION,), question)

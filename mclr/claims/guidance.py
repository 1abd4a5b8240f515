"""Claims on MCLR beside classifier-free guidance, and under it."""

from __future__ import annotations

from collections.abc import Iterator

from mclr.claims.claim import (
    ABOVE,
    ALL,
    AT_MOST,
    AUTOREGRESSIVE,
    BELOW,
    COMPARABLE,
    DIFFUSION,
    MODERATE,
    NAMES,
    SAME_PRECISION,
    Claim,
    best,
    table,
)
from mclr.claims.questions import Cost, Difference, Elsewhere
from mclr.claims.region import Region
from mclr.claims.shapes import AtEqual, Together


def against_cfg() -> Iterator[Claim]:
    """MCLR against CFG, each at its best, and their cost."""
    topic = "MCLR and CFG"
    yield Claim(
        "cfg-at-most-mclr",
        topic,
        "CFG's best FD is at most MCLR's, at twice the NFE",
        "CFG generally exhibits a better FD–IS trade-off and achieves a lower best-case FD_DINOv2",
        "Section 6.2 (i); Section F.3",
        (DIFFUSION,),
        Difference("fd", table("cfg"), table("mclr"), AT_MOST),
    )
    yield Claim(
        "gap-to-cfg-is-moderate",
        topic,
        "MCLR's best FD is at most 25 % above CFG's",
        "Nevertheless, this gap is moderate, particularly for the EDM2-L model",
        "Section 6.2 (i); Section F.3",
        (DIFFUSION,),
        Difference("fd", table("mclr"), table("cfg"), MODERATE, relative=True),
    )
    yield Claim(
        "mclr-higher-best-precision",
        topic,
        "MCLR's best precision is higher than CFG's",
        "attains a substantially higher best-case precision in the high-precision regime",
        "Section 6.2 (i, ii), Figure 4 (f, i, j); Section F.3",
        ALL,
        Difference("precision", best("mclr"), best("cfg"), ABOVE),
    )
    yield Claim(
        "half-the-evaluations",
        topic,
        "Without guidance an image takes at most half the network evaluations",
        "MCLR internalizes this mechanism during training, whereas CFG applies it at inference "
        "time",
        "Section F.3; NFE in Table 1",
        ALL,
        Cost("mclr", "cfg", Region(high=0.5)),
    )


def trade_offs() -> Iterator[Claim]:
    """MCLR against CFG, at equal IS or recall."""
    topic = "MCLR and CFG"
    yield Claim(
        "cfg-better-fd-is",
        topic,
        "At equal IS, MCLR's FD is higher than CFG's",
        "CFG generally exhibits a better FD–IS trade-off",
        "Section 6.2 (i), Figure 4 (c); Section F.3",
        (DIFFUSION,),
        AtEqual("is", "fd", "mclr", "cfg", ABOVE),
    )
    yield Claim(
        "similar-fd-is",
        topic,
        "At equal IS, the FDs of MCLR and CFG lie within 10 %",
        "For VAR-d24 model, MCLR achieves a similar FD–IS trade-off to CFG",
        "Section 6.2 (ii), Figure 4 (g, h); Section F.3",
        (AUTOREGRESSIVE,),
        AtEqual("is", "fd", "mclr", "cfg", COMPARABLE, relative=True),
    )
    yield Claim(
        "matches-cfg-at-high-recall",
        topic,
        "At equal, high recall, MCLR's precision is at most 0.02 below CFG's",
        "MCLR matches CFG in the high-recall regime corresponding to early training stages",
        "Section 6.2 (i), Figure 4 (f); Section F.3",
        (DIFFUSION,),
        AtEqual("recall", "precision", "mclr", "cfg", SAME_PRECISION, high=True),
    )
    yield Claim(
        "better-precision-recall",
        topic,
        "At equal recall, MCLR's precision is higher than CFG's",
        "MCLR outperforms CFG in the Precision–Recall trade-off",
        "Section 6.2 (ii), Figure 4 (i, j); Section F.3",
        (AUTOREGRESSIVE,),
        AtEqual("recall", "precision", "mclr", "cfg", ABOVE),
    )


def on_top() -> Iterator[Claim]:
    """CFG applied to the model that MCLR fine-tuned."""
    topic = "CFG on top of MCLR"
    quote = (
        "applying CFG on top of an MCLR-fine-tuned model further narrows the performance gap "
        "between the two methods, yielding higher best-case Inception Score and Precision"
    )
    source = "Section 6.2 (i), Figures 4 (c, f) and 5 (c, f, i); Section F.3"
    for metric, words in (("is", "IS"), ("precision", "precision")):
        yield Claim(
            f"mclr-cfg-raises-{metric}",
            topic,
            f"MCLR + CFG reaches a higher best {words} than either alone",
            quote,
            source,
            (DIFFUSION,),
            Difference(metric, best("mclr+cfg"), best("mclr", "cfg"), ABOVE),
        )
    yield Claim(
        "mclr-cfg-narrows-the-gap",
        topic,
        "MCLR + CFG reaches a lower best FD than MCLR",
        quote,
        source,
        (DIFFUSION,),
        Difference("fd", best("mclr+cfg"), best("mclr"), BELOW),
    )


def by_training() -> Iterator[Claim]:
    """MCLR against methods that train what guidance does; the paper compares with none."""
    topic = "Guidance by training"
    for other in ("distill", "gft", "mg"):
        for metric, region, words in (("fd", BELOW, "a lower FD"), ("is", ABOVE, "a higher IS")):
            yield Claim(
                f"mclr-{metric}-beside-{other}",
                topic,
                f"MCLR reaches {words} than {NAMES[other]}",
                "",
                "ours: Section 5 names such methods, no table compares them",
                ALL,
                Difference(metric, table("mclr"), table(other), region),
            )


def similarity() -> Iterator[Claim]:
    """Whether training with MCLR does what guidance does."""
    topic = "Similarity of effect"
    yield Claim(
        "mclr-mirrors-cfg",
        topic,
        "IS, precision and recall move alike along MCLR's training and along γ",
        "these effects result in FD–IS and Precision–Recall trade-offs that closely mirror those "
        "induced by CFG",
        "Section F.1; Section 6.2",
        ALL,
        Together(("is", "precision", "recall"), ("mclr", "cfg")),
    )
    yield Claim(
        "same-images-change-alike",
        topic,
        "MCLR and CFG change the same images in the same direction",
        "MCLR and CFG produce highly similar visual effects",
        "Section 6.2, Figures 2 and 8–19",
        ALL,
        Elsewhere("similarity.json measures it, image by image"),
    )
    yield Claim(
        "cfg-oversaturates",
        topic,
        "At high γ, CFG's images are oversaturated",
        "where CFG begins to produce images with oversaturated colors",
        "Section 6.2 (i); Section F.3",
        (DIFFUSION,),
        Elsewhere("separation.json has the statistics of the pixels"),
    )

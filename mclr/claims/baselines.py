"""Claims on MCLR beside the other training objectives."""

from __future__ import annotations

from collections.abc import Iterator

from mclr.claims.claim import (
    ABOVE,
    ALL,
    AUTOREGRESSIVE,
    BELOW,
    COMPARABLE,
    DIFFUSION,
    MATCHES,
    NAMES,
    Claim,
    along,
    table,
)
from mclr.claims.questions import Difference
from mclr.config.tier import Tier


def baselines() -> Iterator[Claim]:
    """MCLR against CC-DPO, CCA and DDO in diffusion models."""
    topic = "Training-time baselines, diffusion"
    quote = (
        "MCLR achieves substantially better best-case FD_DINOv2 scores than CCA, CC-DPO, and DDO "
        "on ImageNet"
    )
    for other in ("ccdpo", "cca", "ddo"):
        yield Claim(
            f"mclr-below-{other}",
            topic,
            f"MCLR reaches a lower FD than {NAMES[other]}",
            quote,
            "Section 6.2 (i), Table 1; Section F.2",
            (DIFFUSION,),
            Difference("fd", table("mclr"), table(other), BELOW),
        )
    wider = "MCLR traverses a significantly wider fidelity–diversity trade-off region"
    faster = "steadily with a faster training speed"
    zigzag = "CCA and CC-DPO … exhibit zigzag optimization trajectories"
    shapes = (
        ("is", "width", "wider-is", "passes through a wider range of IS than", ABOVE, wider),
        ("recall", "width", "wider-recall", "passes through a wider range of recall than", ABOVE,
         wider),
        ("fd", "average", "faster", "has a lower FD on the way than", BELOW, faster),
        ("is", "detour", "straighter", "has an IS that zigzags less than that of", BELOW, zigzag),
    )  # fmt: skip
    for other in ("ccdpo", "cca"):
        for metric, statistic, name, words, region, said in shapes:
            yield Claim(
                f"mclr-{name}-{other}",
                topic,
                f"MCLR {words} {NAMES[other]}",
                said,
                "Section 6.2 (i), Figure 4 (c, f); Section F.2",
                (DIFFUSION,),
                along(metric, statistic, "mclr", other, region),
            )
    yield from equivalence(topic)


def released(tier: Tier) -> Iterator[Claim]:
    """Networks that the authors of a method fine-tuned, where a tier measures some."""
    topic = "Released networks"
    rows = {run.row: (run.method, tier.models[run.model].family) for run in tier.released.values()}
    for row, (method, family) in rows.items():
        title = f"{NAMES[method]}'s released weights"
        for name, words, left, right in (
            (f"{row}-lowers-fd", f"{title} have a lower FD than the base model", row, "base"),
            (f"mclr-below-{row}", f"MCLR reaches a lower FD than {title}", "mclr", row),
        ):
            yield Claim(
                name,
                topic,
                words,
                "",
                "Section 6, Table 1; here with the weights that the method's authors published",
                (family,),
                Difference("fd", table(left), table(right), BELOW),
            )


def equivalence(topic: str) -> Iterator[Claim]:
    """CC-DPO against CCA, whose optimum is the same."""
    yield Claim(
        "ccdpo-matches-cca",
        topic,
        "CC-DPO matches or outperforms CCA: its FD is at most 10 % higher",
        "CC-DPO consistently matches or outperforms CCA on both EDM2 and VAR models",
        "Section 6.2, Table 1; Section G.3, Figure 22",
        ALL,
        Difference("fd", table("ccdpo"), table("cca"), MATCHES, relative=True),
    )


def autoregressive() -> Iterator[Claim]:
    """MCLR against CC-DPO and CCA in autoregressive models."""
    topic = "Training-time baselines, autoregressive"
    quote = "MCLR, CC-DPO, and CCA achieve comparable performance improvements on VAR-d24"
    for left, right in (("mclr", "ccdpo"), ("mclr", "cca"), ("ccdpo", "cca")):
        yield Claim(
            f"{left}-comparable-{right}",
            topic,
            f"{NAMES[left]} and {NAMES[right]} reach FDs within 10 % of each other",
            quote,
            "Section 6.2 (ii), Figure 4 (g, h); Section F.2",
            (AUTOREGRESSIVE,),
            Difference("fd", table(left), table(right), COMPARABLE, relative=True),
        )
    later = (
        "MCLR consistently achieves higher precision … and inception score … in later stages of "
        "training"
    )
    for metric, words in (("precision", "precision"), ("is", "IS")):
        for other in ("ccdpo", "cca"):
            yield Claim(
                f"mclr-later-{metric}-{other}",
                topic,
                f"MCLR ends with a higher {words} than {NAMES[other]}",
                later,
                "Section 6.2 (ii), Figure 4 (i, j); Section F.2, Figure 7",
                (AUTOREGRESSIVE,),
                along(metric, "last", "mclr", other, ABOVE),
            )

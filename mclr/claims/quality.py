"""Claims on what fine-tuning and guidance do to a base model."""

from __future__ import annotations

from collections.abc import Iterator

from mclr.claims.claim import (
    ABOVE,
    ALL,
    BELOW,
    DIFFUSION,
    NAMES,
    Claim,
    table,
)
from mclr.claims.questions import Difference
from mclr.claims.shapes import Trend, Turn


def against_base() -> Iterator[Claim]:
    """Every row of Table 1 against the base model."""
    topic = "Better than the base model"
    quotes = {
        "mclr": "MCLR substantially improves conditional generation quality",
        "cfg": "both CFG and MCLR lead to visually pronounced quality improvements … FD_DINOv2 "
        "consistently captures these improvements",
    }
    tuned = "MCLR, CC-DPO, and CCA … substantially improving both FD_DINOv2 and FID"
    quotes |= {"ccdpo": tuned, "cca": tuned}
    for method in ("mclr", "cfg", "ccdpo", "cca", "ddo"):
        yield Claim(
            f"{method}-lowers-fd",
            topic,
            f"{NAMES[method]} lowers the FD of the base model",
            quotes.get(method, ""),
            "Section 6, Table 1",
            (DIFFUSION,) if method == "ddo" else ALL,
            Difference("fd", table(method), table("base"), BELOW),
        )


def training() -> Iterator[Claim]:
    """What grows and what shrinks along training and along γ."""
    topic = "Fidelity and diversity"
    mclr = "both Inception Score (IS) and Precision increase steadily during training"
    recall = (
        "excessive training reduces within-class diversity, as reflected by a decrease in Recall"
    )
    turns = (
        "FD_DINOv2 initially improves as conditional modeling strengthens, but later deteriorates "
        "when diversity decreases"
    )
    others = (
        "Similar trends are observed for other contrastive alignment objectives such as CC-DPO "
        "and CCA"
    )
    cfg = "stronger guidance improves class fidelity at the cost of diversity"
    for method in ("mclr", "ccdpo", "cca", "cfg"):
        general = {"mclr": "", "cfg": cfg}.get(method, others)
        along = "with γ" if method == "cfg" else "with training"
        source = "Section 6.2, Figure 4 (a, b, d, e); Section F.1, Figures 5–7"
        for metric, sign, quote in (
            ("is", 1, mclr),
            ("precision", 1, mclr),
            ("recall", -1, recall),
        ):
            words = {"is": "IS", "precision": "Precision", "recall": "Recall"}[metric]
            yield Claim(
                f"{method}-{metric}-{'rises' if sign > 0 else 'falls'}",
                topic,
                f"{NAMES[method]}: {words} {'rises' if sign > 0 else 'falls'} {along}",
                general or quote,
                source,
                ALL,
                Trend(metric, method, sign),
            )
        yield Claim(
            f"{method}-fd-turns",
            topic,
            f"{NAMES[method]}: FD first falls, later rises {along}",
            general or turns,
            source,
            ALL,
            Turn(method),
        )


def separation() -> Iterator[Claim]:
    """How well a classifier tells the classes of generated images."""
    topic = "Class separation"
    quote = (
        "generated images gradually develop distinct class-specific structures, reflecting "
        "increasing inter-class separation"
    )
    for method in ("mclr", "cfg"):
        yield Claim(
            f"{method}-separates-classes",
            topic,
            f"A classifier tells the classes of {NAMES[method]}'s images better than the base's",
            quote if method == "mclr" else "substantially improving class-specific patterns",
            "Section 6.2" if method == "mclr" else "Figure 2",
            ALL,
            Difference("accuracy", table(method), table("base"), ABOVE),
        )
    yield Claim(
        "mclr-separates-progressively",
        topic,
        "MCLR: the classes become easier to tell with training",
        "Training with MCLR induces notable progressive class separation",
        "Section F.1",
        ALL,
        Trend("accuracy", "mclr", +1),
    )

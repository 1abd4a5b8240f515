"""Which figures a tier has, known from its configuration alone, and what each of them shows.

Light module: the workflow imports it while parsing, before anything has run.
"""

from __future__ import annotations

from dataclasses import dataclass

from mclr.config import Tier
from mclr.plan import Plan

CURVE_FORMATS = ("pdf", "png", "html")
GRID_FORMATS = ("pdf", "png")
LIBRARY = "plotly.min.js"


@dataclass(frozen=True)
class Kind:
    """One kind of figure, drawn once per model."""

    title: str
    caption: str
    paper: str
    formats: tuple[str, ...] = CURVE_FORMATS


KINDS = {
    "metrics-vs-step": Kind(
        "Metrics against fine-tuning steps",
        "Every metric at every checkpoint, without guidance. Start is the base model, before any "
        "fine-tuning. Lines are means over seeds; bands are one sample standard deviation.",
        "Figures 4–7, panels against training iterations; 21 and 22 where β or λ is swept",
    ),
    "fd-is": Kind(
        "FD against Inception Score",
        "Fidelity to the data (FD, lower is better) against class evidence (IS, higher is "
        "better): best is the upper left. +CFG moves along the guidance scale γ of the "
        "base model, every other method along its checkpoints from Start (base model) to End "
        "(last checkpoint), with the hyperparameters of its row in Table 1. A ring marks that row.",
        "Figure 4 (c, g, h); Figures 5–7, FD–IS panels",
    ),
    "precision-recall": Kind(
        "Precision against recall",
        "How many generated images look real (precision) against how much of the data is "
        "covered (recall): best is the upper right. +CFG moves along γ, every other method "
        "along its checkpoints from Start to End. A ring marks the row of Table 1.",
        "Figure 4 (f, i, j); Figures 5–7, precision–recall panels",
    ),
    "dsm-ablation": Kind(
        "MCLR with and without a DSM term",
        "Adding denoising score matching to the MCLR objective, Eq. (160): does it help? "
        "Lines are means over seeds; bands are one sample standard deviation.",
        "Figure 20",
    ),
    "progressive": Kind(
        "Images under growing guidance, and under MCLR training",
        "Top: the base model with growing CFG scale γ. Bottom: the guidance-free model along MCLR "
        "fine-tuning, the run of Table 1 with the lowest seed; step 0 is the base model. Each row "
        "is one class; each panel starts from one initial noise, the same above and below.",
        "Figures 2 and 8–19",
        GRID_FORMATS,
    ),
}


def kinds_of(tier: Tier, model: str) -> list[str]:
    """The kinds of figure that make sense for the methods configured for one model."""
    runs = Plan(tier).runs.values()
    tuned = {run.method for run in runs if run.model == model and not run.is_base}
    kinds = ["metrics-vs-step"] if tuned else []
    kinds += ["fd-is", "precision-recall"]
    kinds += ["dsm-ablation"] if {"mclr", "mclr+dsm"} <= tuned else []
    kinds += ["progressive"] if "mclr" in tuned else []
    return kinds


def stem(model: str, kind: str) -> str:
    """File name of a figure, without its extension."""
    return f"{model}-{kind}"


def figure_names(tier: Tier) -> list[str]:
    """Stems of all figures of a tier: ``<model>-<kind>``, model by model."""
    return [stem(model, kind) for model in tier.models for kind in kinds_of(tier, model)]


def figure_files(tier: Tier) -> list[str]:
    """File names of all figures of a tier: every stem in each of its formats, and plotly.js."""
    figures = [
        f"{stem(model, kind)}.{suffix}"
        for model in tier.models
        for kind in kinds_of(tier, model)
        for suffix in KINDS[kind].formats
    ]
    return [*figures, LIBRARY]

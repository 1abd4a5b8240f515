"""Which tables and figures a tier has, known from its configuration alone, and what they show.

Light module: the workflow imports it while parsing, before anything has run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from mclr.config.tier import Tier
from mclr.objectives.catalogue import METHODS
from mclr.planning.files import Files
from mclr.planning.grid import Grid
from mclr.planning.job import Views
from mclr.planning.points import Run
from mclr.settings.section import dotted

CURVE_FORMATS = ("pdf", "png", "html")
GRID_FORMATS = ("pdf", "png")
TABLE_FORMATS = ("csv", "md", "tex")
LIBRARY = "plotly.min.js"


@dataclass(frozen=True)
class Kind:
    """One kind of figure, drawn once per model; ``per_net``: once per feature net too."""

    title: str
    caption: str
    paper: str
    formats: tuple[str, ...] = CURVE_FORMATS
    per_net: bool = False


BEST_OF_EACH = (
    "Of each value the line with the lowest FD is shown. Lines are means over seeds; bands are one "
    "sample standard deviation."
)

AVERAGED = tuple(name for name, method in METHODS.items() if method.trained)
"""Methods whose raw weights and averages may both be measured."""

KINDS = {
    "metrics-vs-step": Kind(
        "Metrics against fine-tuning steps",
        "Every metric at every checkpoint, without guidance, with the hyperparameters of Table 1. "
        "Start is the base model, before any fine-tuning. Lines are means over seeds; bands are "
        "one sample standard deviation.",
        "Figures 4–7, panels against training iterations",
        per_net=True,
    ),
    "fd-is": Kind(
        "FD against Inception Score",
        "Fidelity to the data (FD, lower is better) against class evidence (IS, higher is "
        "better): best is the upper left. +CFG moves along the guidance scale γ of the "
        "base model, every other method along its checkpoints from Start (base model) to End "
        "(last checkpoint), with the hyperparameters of its row in Table 1. A ring marks that row.",
        "Figure 4 (c, g, h); Figures 5–7, FD–IS panels",
        per_net=True,
    ),
    "precision-recall": Kind(
        "Precision against recall",
        "How many generated images look real (precision) against how much of the data is "
        "covered (recall): best is the upper right. +CFG moves along γ, every other method "
        "along its checkpoints from Start to End. A ring marks the row of Table 1.",
        "Figure 4 (f, i, j); Figures 5–7, precision–recall panels",
        per_net=True,
    ),
    "class-accuracy": Kind(
        "How well the classes are told apart",
        "The share of images that a classifier, trained on real images alone, assigns to the class "
        "they were made for: along training and along γ. Guidance and MCLR are meant to raise it.",
        "Section 3.1, the premise; the paper measures IS alone",
    ),
    "dsm-ablation": Kind(
        "MCLR with and without a DSM term",
        "Adding denoising score matching to the MCLR objective with weight β, Eq. (160): does it "
        f"help? {BEST_OF_EACH}",
        "Figure 20",
    ),
    "ccdpo-beta": Kind("CC-DPO over β", BEST_OF_EACH, "Figure 21"),
    "cca-lambda": Kind("CCA over λ", BEST_OF_EACH, "Figure 22"),
    "mclr-lr": Kind("MCLR over the learning rate", BEST_OF_EACH, "not there: ours"),
    "mclr-noise": Kind("MCLR over the noise levels", BEST_OF_EACH, "not there: ours"),
    "mclr-k": Kind("MCLR over K", BEST_OF_EACH, "not there: Approaches 1 and 2 of Section E.2"),
    **{
        f"{name}-average": Kind(
            f"Raw weights and their average, {METHODS[name].title}",
            "FD and Inception Score along training, and against each other, of the weights as they "
            "are and of the average that the run keeps of them. Of each the settings with the "
            "lowest FD are shown; lines are means over seeds, bands one sample standard deviation.",
            "not there: ours; EDM2 measures averages alone",
        )
        for name in AVERAGED
    },
    "sampling": Kind(
        "Other ways to sample the best MCLR checkpoint",
        "Trade-offs of CFG on the base model, CFG and autoguidance on top of MCLR, and CFG within "
        "an interval of noise levels; all but MCLR itself cost more than one evaluation a step.",
        "Figures 4 and 5 for MCLR with CFG; the rest is ours",
    ),
    "dial": Kind(
        "A dial without retraining",
        "Weights between (t < 1) and beyond (t > 1) the base model, t = 0, and the best MCLR "
        "checkpoint, t = 1, at the cost of one evaluation a step, beside CFG, which costs two.",
        "not there: ours; Section 7 names the missing dial as a limitation",
    ),
    "cost": Kind(
        "Quality against cost",
        "The rows of Table 1 and the best of each sampling study by network evaluations per image.",
        "NFE column of Table 1",
    ),
    "equal-cost": Kind(
        "Quality at equal total cost",
        "The lowest FD that each method reaches if making it and drawing so many images costs no "
        "more network passes than drawing them with CFG does. A marker is a checkpoint, at the "
        "number of images from which on it is worth its training; CFG and the base model cost "
        "nothing to make. The search for settings is not counted.",
        "not there: ours",
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

MEASURED = "optimizer.ema.evaluate"
"""Whether raw weights or their average were measured."""

SWEEPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "dsm-ablation": (("mclr", "mclr+dsm"), ("dsm",)),
    "ccdpo-beta": (("ccdpo",), ("beta",)),
    "cca-lambda": (("cca",), ("lambda",)),
    "mclr-lr": (("mclr",), ("lr",)),
    "mclr-noise": (("mclr",), ("P_mean", "P_std")),
    "mclr-k": (("mclr",), ("K",)),
    **{f"{name}-average": ((name,), (MEASURED,)) for name in AVERAGED},
}
"""Of each kind that shows a sweep: whose, and the hyperparameters that vary."""


def swept_value(tier: Tier, model: str, hyperparameters: str, keys: tuple[str, ...]) -> str:
    """The values of ``keys`` as JSON text; noise levels that a run does not name are its model's.

    ``hyperparameters`` is JSON text, as in ``metrics.parquet``.
    """
    settings = tier.models[model]
    values = settings.noise.model_dump() if settings.noise else {}
    values |= dotted(json.loads(hyperparameters))
    return json.dumps([values.get(key) for key in keys])


def kinds_of(tier: Tier, model: str) -> list[str]:
    """The kinds of figure that make sense for what is configured for one model."""
    runs = [run for run in Grid(tier).runs.values() if run.model == model and run.settings]
    tuned = {run.method for run in runs}
    kinds = ["metrics-vs-step"] if tuned else []
    kinds += ["fd-is", "precision-recall", "class-accuracy"]
    kinds += [kind for kind in SWEEPS if _is_swept(tier, model, runs, kind)]
    studied = [tier.studies[name] for name in tier.studies if _is_studied(tier, model, name)]
    if any(study.guidance or study.autoguidance or study.interval for study in studied):
        kinds.append("sampling")
    kinds += ["dial"] if any(study.dial for study in studied) else []
    kinds += ["cost", "equal-cost"] if tuned else []
    kinds += ["progressive"] if "mclr" in tuned else []
    return kinds


def _is_swept(tier: Tier, model: str, runs: list[Run], kind: str) -> bool:
    methods, keys = SWEEPS[kind]
    texts = [
        json.dumps(run.measured_as(averaged).hyperparameters)
        for run in runs
        if run.method in methods
        for averaged in run.evaluated
    ]
    return len({swept_value(tier, model, text, keys) for text in texts}) > 1


def _is_studied(tier: Tier, model: str, experiment: str) -> bool:
    """Whether a study is of MCLR on this model, or of the base model itself."""
    run = tier.tuned.get(experiment)
    if run is None:
        return experiment == f"{model}-base"
    return run.model == model and run.objective.method == "mclr"


def stem(model: str, kind: str, net: str = "") -> str:
    """File name of a figure, without its extension; ``net`` is not the report's feature net."""
    return f"{model}-{kind}" + (f"-{net}" if net else "")


def other_nets(tier: Tier) -> list[str]:
    """The feature nets beside that of the report."""
    return [name for name in tier.features if name != tier.report.features]


def figures_of(tier: Tier, model: str) -> list[tuple[str, str]]:
    """(kind, net) of each figure of a model; net is empty for the report's own."""
    return [
        (kind, net)
        for kind in kinds_of(tier, model)
        for net in ["", *(other_nets(tier) if KINDS[kind].per_net else [])]
    ]


def figure_names(tier: Tier) -> list[str]:
    """Stems of all figures of a tier, model by model."""
    return [stem(model, *figure) for model in tier.models for figure in figures_of(tier, model)]


def figure_files(tier: Tier) -> list[str]:
    """File names of all figures of a tier: every stem in each of its formats, and plotly.js."""
    figures = [
        f"{stem(model, kind, net)}.{suffix}"
        for model in tier.models
        for kind, net in figures_of(tier, model)
        for suffix in KINDS[kind].formats
    ]
    return [*figures, LIBRARY]


def similarity_files(tier: Tier) -> list[str]:
    """File names of the heat maps of ``mclr similarity``: a figure per model that MCLR tunes."""
    tuned = [run.model for run in tier.tuned.values() if run.objective.method == "mclr"]
    return [
        f"{stem(model, 'similarity')}.{suffix}"
        for model in tier.models
        if model in tuned
        for suffix in GRID_FORMATS
    ]


def views_of(tier: Tier) -> Views:
    """The files that are drawn of a tier's results."""
    files = Files(tier.tier)
    return Views(
        tables=[files.result(name) for name in table_files(tier)],
        figures=[files.figure(name) for name in figure_files(tier)],
        similarity=[files.figure(name) for name in similarity_files(tier)],
    )


def table_files(tier: Tier) -> list[str]:
    """File names of every version of Table 1."""
    names = ["table1", *(f"table1_{net}" for net in other_nets(tier))]
    names += ["table1_selected"] if tier.final else []
    return [f"{name}.{suffix}" for name in names for suffix in TABLE_FORMATS]

"""Words for readers of the MLflow UI: names of points, notes with the paper's equations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mclr.planning.points import Run

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run or an experiment (Markdown)."""

REWARD = "r = β [ℓ_θ(x, c) − ℓ_ref(x, c)]; ℓ is the log-likelihood, or its denoising bound."
METHODS = {
    "base": (
        "Base model: maximum likelihood (VAR) or denoising score matching (EDM2). Its points with "
        "guidance > 0 are CFG, Eq. (7):",
        "∇ log p_t(x|c) + γ (∇ log p_t(x|c) − ∇ log p_t(x))",
        "γ = 0 is without guidance.",
    ),
    "mclr": (
        "MCLR, Eq. (22), K other classes c̃_k per image:",
        "min −mean_k [ℓ_θ(x, c) − ℓ_θ(x, c̃_k)]",
        "ℓ is the log-likelihood, or its denoising bound.",
    ),
    "mclr+dsm": (
        "MCLR with a denoising term of weight β = `dsm`, Eq. (160):",
        "min −mean_k [ℓ_θ(x, c) − ℓ_θ(x, c̃_k)] − β ℓ_θ(x, c)",
        "ℓ is the log-likelihood, or its denoising bound.",
    ),
    "wmclr": (
        "Weighted MCLR, Eq. (23), whose optimum is the CFG score at γ = 1/β, β = `dsm`:",
        "min −mean_k (1 − p(c)) r_k [ℓ_θ(x, c) − ℓ_θ(x, c̃_k)] − β ℓ_θ(x, c)",
        "r_k = p_t(x_t|c̃_k) / p_t(x_t), estimated with the frozen base model.",
    ),
    "ccdpo": (
        "CC-DPO, Eq. (156), an image x_w of class c and an image x_l of another:",
        "min −log σ(r(x_w, c) − r(x_l, c))",
        REWARD,
    ),
    "cca": (
        "CCA, Eq. (159), an image x_w of class c and an image x_l of another:",
        "min −log σ(r(x_w, c)) − λ log σ(−r(x_l, c))",
        REWARD,
    ),
    "ddo": (
        "DDO (arXiv 2503.01103), real images x and images x̂ drawn from the frozen base model:",
        "min −log σ(r(x, c)) − α log σ(−r(x̂, c))",
        REWARD,
    ),
}
"""Of each method of a training run: what it is, its formula, its symbols."""

EXPERIMENT = """\
Runs of the MCLR reproduction: an experiment per tier and model, with a run per training and below
it a run per evaluated point. The tier's own experiment has a run `report`: figures and Table 1.

- `fd` ↓ (Fréchet distance), `is` ↑ (Inception Score), `precision` ↑ and `recall` ↑ have the same
  names everywhere; `best_…` are those of the checkpoint of lowest FD.
- The step of every metric is the number of images seen in training.
- `guidance` is CFG's γ (0: none), `nfe` the network evaluations per image.
- `mclr show` prints links to the trade-off of the points and to the training curves.
"""


def note(method: str) -> str:
    """Markdown for a training run of ``method``; nothing for a method without a formula."""
    if method not in METHODS:
        return ""
    title, formula, symbols = METHODS[method]
    return f"{title}\n\n    {formula}\n\n{symbols}"


def point_name(run: Run, row: Mapping[str, Any]) -> str:
    """The run, and what is special about an evaluated row; its seed if the run's name has none."""
    unusual = row["method"] not in (run.method, "cfg") and row["dial"] == 1
    words = [
        run.run_id,
        "" if run.is_base else f"step {row['step']}",
        row["method"] if unusual else "",
        f"γ {row['guidance']:g}" if row["guidance"] else "",
        f"t {row['dial']:g}" if row["dial"] != 1 else "",
        f"seed {row['seed']}" if run.is_base else "",
    ]
    return " ".join(word for word in words if word)

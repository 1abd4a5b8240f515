"""The objectives in words and equations, for people who read a model card."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """Name of an objective, where it comes from, what it does, and its equation."""

    name: str
    reference: str
    meaning: str
    equation: str


_RATIO = "r(x, c) = ℓ_θ(x, c) − ℓ_ref(x, c), ℓ_ref that of the frozen base model"

OBJECTIVES = {
    "mclr": Words(
        "MCLR",
        "Eq. (22)/(150) of the MCLR paper",
        "Each image becomes likelier under its own class c than under another image's class c̃.",
        "minimise  −E[ ℓ_θ(x, c) − ℓ_θ(x, c̃) ]",
    ),
    "mclr+dsm": Words(
        "MCLR + DSM",
        "Eq. (160) of the MCLR paper; β is `dsm`",
        "MCLR, with the likelihood of the own class kept in the objective.",
        "minimise  −E[ ℓ_θ(x, c) − ℓ_θ(x, c̃) ] − β E[ ℓ_θ(x, c) ]",
    ),
    "wmclr": Words(
        "weighted MCLR",
        "Eq. (23) and Theorem 3 of the MCLR paper; β is `dsm`",
        "MCLR weighted so that its optimum is the score of classifier-free guidance at γ = 1/β.",
        "minimise  −E[ (1 − p(c)) ρ (ℓ_θ(x, c) − ℓ_θ(x, c̃)) ] − β E[ ℓ_θ(x, c) ],\n"
        "          ρ = p_t(x_t|c̃) / p_t(x_t)",
    ),
    "ccdpo": Words(
        "CC-DPO",
        "Eq. (156) of the MCLR paper",
        "Direct preference optimization: an image x_w of the class is preferred to x_l of another.",
        f"minimise  −E[ log σ( β r(x_w, c) − β r(x_l, c) ) ],\n          {_RATIO}",
    ),
    "cca": Words(
        "CCA",
        "Eq. (159) of the MCLR paper",
        "Noise-contrastive estimation: x_w is of the class, x_l of another.",
        f"minimise  −E[ log σ(β r(x_w, c)) + λ log σ(−β r(x_l, c)) ],\n          {_RATIO}",
    ),
    "ddo": Words(
        "DDO",
        "arXiv 2503.01103",
        "Real images against images x̂ drawn from the frozen base model.",
        f"minimise  −E[ log σ(β r(x, c)) ] − α E[ log(1 − σ(β r(x̂, c))) ],\n          {_RATIO}",
    ),
    "base-edm2": Words(
        "denoising score matching",
        "EDM2, arXiv 2312.02696",
        "A base model, not fine-tuned; a share of the labels is dropped in training.",
        "minimise  E[ w(σ)/exp(u(σ)) ‖x − D_θ(x + σε; σ, c)‖² + u(σ) ]",
    ),
    "base-var": Words(
        "maximum likelihood",
        "VAR, arXiv 2404.02905",
        "A base model, not fine-tuned; a share of the labels is dropped in training.",
        "minimise  −E[ ℓ_θ(x, c) ]",
    ),
    "base-own": Words(
        "the loss of its class",
        "`base_loss`; −ℓ unless it says otherwise",
        "A base model, not fine-tuned; a share of the labels is dropped in training.",
        "minimise  −E[ ℓ_θ(x, c) ]",
    ),
}
"""By method of a run, ``base`` by family."""

LIKELIHOODS = {
    "edm2": "ℓ_θ(x, c) = −w(σ) ‖x − D_θ(x + σε; σ, c)‖² with one draw of σ and ε, the paper's "
    "surrogate for the log-likelihood of a diffusion model (Eq. (153)), "
    "w(σ) = (σ² + σ_d²) / (σ σ_d)²",
    "var": "ℓ_θ(x, c) = Σ_l log p_θ(x_l | x_<l, c) over the tokens x_l of an image: exact",
    "own": "ℓ_θ(x, c) is the log-likelihood of its class, `log_likelihood`",
}
"""By family."""

"""Base models and likelihoods in words and equations, for people who read a model card."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """What trains a base model, where it comes from, what it does, and its equation."""

    title: str
    source: str
    meaning: str
    equation: str


BASES = {
    "edm2": Words(
        "denoising score matching",
        "EDM2, arXiv 2312.02696",
        "A base model, not fine-tuned; a share of the labels is dropped in training.",
        "minimise  E[ w(σ)/exp(u(σ)) ‖x − D_θ(x + σε; σ, c)‖² + u(σ) ]",
    ),
    "var": Words(
        "maximum likelihood",
        "VAR, arXiv 2404.02905",
        "A base model, not fine-tuned; a share of the labels is dropped in training.",
        "minimise  −E[ ℓ_θ(x, c) ]",
    ),
    "diffusers": Words(
        "squared error of its prediction",
        "DDPM, arXiv 2006.11239; flow matching, arXiv 2210.02747",
        "A base model, not fine-tuned; a share of the labels is dropped in training.",
        "minimise  E[ ‖ŷ_θ(a (x + σε); σ, c) − y‖² ],  y the noise, the image, or a velocity",
    ),
    "base-own": Words(
        "the loss of its class",
        "`base_loss`; −ℓ unless it says otherwise",
        "A base model, not fine-tuned; a share of the labels is dropped in training.",
        "minimise  −E[ ℓ_θ(x, c) ]",
    ),
}
"""By family."""

LIKELIHOODS = {
    "edm2": "ℓ_θ(x, c) = −w(σ) ‖x − D_θ(x + σε; σ, c)‖² with one draw of σ and ε, the paper's "
    "surrogate for the log-likelihood of a diffusion model (Eq. (153)), "
    "w(σ) = (σ² + σ_d²) / (σ σ_d)²",
    "var": "ℓ_θ(x, c) = Σ_l log p_θ(x_l | x_<l, c) over the tokens x_l of an image: exact",
    "diffusers": "ℓ_θ(x, c) = −w(σ) ‖x − D_θ(x + σε; σ, c)‖² with one draw of σ and ε, the paper's "
    "surrogate for the log-likelihood of a diffusion model (Eq. (153)), D_θ by the network's "
    "prediction, w(σ) = (σ² + σ_d²) / (σ σ_d)²",
    "own": "ℓ_θ(x, c) is the log-likelihood of its class, `log_likelihood`",
}
"""By family."""

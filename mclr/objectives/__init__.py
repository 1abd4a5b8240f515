"""Every objective of the paper, written once over ℓ_θ(x, c) for all model families."""

from mclr.config.objectives import Cca, CcDpo, Ddo, Mclr, Wmclr
from mclr.objectives.base import (
    Batch,
    LogLikelihood,
    LogRatios,
    Loss,
    preference_log_ratios,
    preference_terms,
)
from mclr.objectives.cca import cca_loss
from mclr.objectives.ccdpo import ccdpo_loss
from mclr.objectives.contrast import Contrast, draw_partners
from mclr.objectives.ddo import ddo_loss
from mclr.objectives.mclr import mclr_loss
from mclr.objectives.weights import class_posterior_weights
from mclr.objectives.wmclr import NoisyLikelihood, wmclr_loss

__all__ = [
    "Batch",
    "Cca",
    "cca_loss",
    "CcDpo",
    "ccdpo_loss",
    "class_posterior_weights",
    "Contrast",
    "Ddo",
    "ddo_loss",
    "draw_partners",
    "LogLikelihood",
    "LogRatios",
    "Loss",
    "Mclr",
    "mclr_loss",
    "NoisyLikelihood",
    "preference_log_ratios",
    "preference_terms",
    "Wmclr",
    "wmclr_loss",
]

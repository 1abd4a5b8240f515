"""Every objective of the paper, written once over ℓ_θ(x, c) for all model families."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mclr.objectives.cca import Cca, cca_loss
    from mclr.objectives.ccdpo import CcDpo, ccdpo_loss
    from mclr.objectives.contrast import Contrast, draw_partners
    from mclr.objectives.ddo import Ddo, ddo_loss
    from mclr.objectives.distill import Distill, distill_loss
    from mclr.objectives.gft import Gft, gft_loss
    from mclr.objectives.loss import (
        Batch,
        LogLikelihood,
        LogRatios,
        Loss,
        NoisyLikelihood,
        Predictions,
        preference_log_ratios,
        preference_terms,
    )
    from mclr.objectives.mclr import Mclr, mclr_loss
    from mclr.objectives.mg import Mg, mg_loss
    from mclr.objectives.objective import Given, Needs
    from mclr.objectives.own import OwnObjective
    from mclr.objectives.weights import class_posterior_weights
    from mclr.objectives.wmclr import Wmclr, wmclr_loss
else:
    # Loaded when asked for: configurations are read with some of them, and without torch.
    _NAMES = {
        "loss": (
            *("Batch", "LogLikelihood", "LogRatios", "Loss", "NoisyLikelihood", "Predictions"),
            *("preference_log_ratios", "preference_terms"),
        ),
        "cca": ("Cca", "cca_loss"),
        "ccdpo": ("CcDpo", "ccdpo_loss"),
        "contrast": ("Contrast", "draw_partners"),
        "ddo": ("Ddo", "ddo_loss"),
        "distill": ("Distill", "distill_loss"),
        "gft": ("Gft", "gft_loss"),
        "mclr": ("Mclr", "mclr_loss"),
        "mg": ("Mg", "mg_loss"),
        "objective": ("Given", "Needs"),
        "own": ("OwnObjective",),
        "weights": ("class_posterior_weights",),
        "wmclr": ("Wmclr", "wmclr_loss"),
    }
    _HOMES = {name: module for module, names in _NAMES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


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
    "Distill",
    "distill_loss",
    "draw_partners",
    "Gft",
    "gft_loss",
    "Given",
    "LogLikelihood",
    "LogRatios",
    "Loss",
    "Mclr",
    "mclr_loss",
    "Mg",
    "mg_loss",
    "Needs",
    "NoisyLikelihood",
    "OwnObjective",
    "Predictions",
    "preference_log_ratios",
    "preference_terms",
    "Wmclr",
    "wmclr_loss",
]

"""Model families: EDM2 (diffusion) and VAR (visual autoregressive)."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mclr.likelihood import Draw
    from mclr.likelihood.prediction import Denoised, Logits, Prediction
    from mclr.models.families import make_family
    from mclr.models.family import Family, load_network
    from mclr.models.own.family import OwnFamily
    from mclr.models.seeded import seeded_noise, seeded_uniforms
else:
    # Loaded when asked for: a job imports the modules that it uses, and no others of the package.
    _NAMES = {
        "mclr.likelihood": ("Draw",),
        "mclr.models.families": ("make_family",),
        "mclr.models.family": ("Family", "load_network"),
        "mclr.models.own": ("OwnFamily",),
        "mclr.models.seeded": ("seeded_noise", "seeded_uniforms"),
        "mclr.likelihood.prediction": ("Denoised", "Logits", "Prediction"),
    }
    _HOMES = {name: module for module, names in _NAMES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


__all__ = [
    "Denoised",
    "Draw",
    "Family",
    "load_network",
    "Logits",
    "make_family",
    "OwnFamily",
    "Prediction",
    "seeded_noise",
    "seeded_uniforms",
]

"""Features of images and the metrics computed from them, through torch-fidelity."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mclr.metrics.extractor import register_classifier, register_dinov2, register_inception
    from mclr.metrics.scores import (
        frechet_distance,
        frechet_distance_of_moments,
        inception_score,
        kernel_inception_distance,
        precision_recall,
    )
    from mclr.metrics.statistics import Gaussian, Moments, gaussian
else:
    # Loaded when asked for: a job imports the modules that it uses, and no others of the package.
    _NAMES = {
        "mclr.metrics.extractor": ("register_classifier", "register_dinov2", "register_inception"),
        "mclr.metrics.scores": (
            "frechet_distance",
            "frechet_distance_of_moments",
            "inception_score",
            "kernel_inception_distance",
            "precision_recall",
        ),
        "mclr.metrics.statistics": ("Gaussian", "Moments", "gaussian"),
    }
    _HOMES = {name: module for module, names in _NAMES.items() for name in names}

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


__all__ = [
    "frechet_distance",
    "frechet_distance_of_moments",
    "Gaussian",
    "gaussian",
    "inception_score",
    "kernel_inception_distance",
    "Moments",
    "precision_recall",
    "register_classifier",
    "register_dinov2",
    "register_inception",
]

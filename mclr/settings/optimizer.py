"""How a fine-tuning run updates its weights, where not by Adam at a constant rate."""

from __future__ import annotations

from mclr.settings.base import OnlySet, Probability, Section


class Optimizer(OnlySet, Section):
    """Section ``optimizer`` of a run; without it, Adam (0.9, 0.99) at the rate ``lr``."""

    dropout: Probability = 0.0
    """Of activations (EDM2), or of the last block's branches, linear from 0 in the first (VAR).
    The base model, and all rows of a sample, share its masks. ``network.dropout`` and
    ``drop_path_rate`` take no part in fine-tuning."""

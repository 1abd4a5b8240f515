"""What a method is called, how it looks and what is said of it: an entry of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

LOG_RATIO = "r(x, c) = ℓ_θ(x, c) − ℓ_ref(x, c), ℓ_ref that of the frozen base model"
REWARD = "r = β [ℓ_θ(x, c) − ℓ_ref(x, c)]; ℓ is the log-likelihood, or its denoising bound."
LIKELIHOOD = "ℓ is the log-likelihood, or its denoising bound."


@dataclass(frozen=True)
class Method:
    """One method, trained or not: read by table, figures, cards, notes and claims.

    name: in files and configurations. suffix: in the table, after the label of the model; empty
    for the base model itself. title: in sentences. ``marker`` is matplotlib's code and ``symbol``
    plotly's name of one shape, ``colour`` is ``#rrggbb``.

    in_table: whether it is a row of Table 1. if_final: it is one of models that have a run of it
    without ``final: false``; elsewhere its runs are an ablation. exact: the suffix for models whose
    likelihoods are exact, where that is another. trained: whether it fine-tunes the network.
    saturates: whether the loss has a lower bound, so that training comes to rest by itself. dial:
    whether its network has one (``mclr.models.dial``).

    source, meaning, equation: for a model card. note: title, formula and symbols, for MLflow.
    """

    name: str
    suffix: str
    colour: str
    marker: str
    symbol: str
    in_table: bool = True
    if_final: bool = False
    exact: str = ""
    title: str = ""
    source: str = ""
    meaning: str = ""
    equation: str = ""
    note: tuple[str, str, str] | None = None
    trained: bool = False
    saturates: bool = False
    dial: bool = False

    def label(self, model_label: str) -> str:
        """Name in the paper's Table 1: the base model is called by the model's own label."""
        return self.suffix or model_label

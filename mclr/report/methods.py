"""The compared methods: their order in tables, their names, and one fixed look in every figure.

Light module: no plotting library is imported here, since the workflow reads names while parsing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from mclr.errors import UserError

SYMBOLS = {"alpha": "α", "beta": "β", "lambda": "λ"}


@dataclass(frozen=True)
class Method:
    """One method; ``marker`` is matplotlib's code and ``symbol`` plotly's name of one shape."""

    name: str
    suffix: str
    colour: str
    marker: str
    symbol: str
    in_table: bool = True

    def label(self, model_label: str) -> str:
        """Name in the paper's Table 1: the base model is called by the model's own label."""
        return self.suffix or model_label


# Colours: Okabe & Ito's palette, told apart with any colour vision, legible on white and black.
METHODS = {
    method.name: method
    for method in (
        Method("base", "", "#7f7f7f", "o", "circle"),
        Method("cfg", "+CFG", "#e69f00", "s", "square"),
        Method("ddo", "+DDO", "#56b4e9", "^", "triangle-up"),
        Method("cca", "+CCA", "#009e73", "v", "triangle-down"),
        Method("ccdpo", "+CC-DPO", "#cc79a7", "D", "diamond"),
        Method("mclr", "+MCLR", "#d55e00", "P", "cross"),
        Method("wmclr", "+wMCLR", "#882255", "*", "star"),
        Method("mclr+dsm", "+MCLR + DSM", "#0072b2", "X", "x", in_table=False),
        Method("mclr+cfg", "+MCLR + CFG", "#8c510a", "p", "pentagon", in_table=False),
        Method("mclr+autoguidance", "+MCLR + autoguidance", "#5e4fa2", "<", "triangle-left", False),
        Method("cfg-interval", "+CFG in an interval", "#b8860b", "h", "hexagon", in_table=False),
        Method("mclr-dial", "+MCLR, dialled", "#1b7837", ">", "triangle-right", in_table=False),
        Method("real", "Real images", "#6b6b6b", "d", "diamond-tall", in_table=False),
    )
}


def method(name: str) -> Method:
    """The method called ``name``; UserError lists the names if there is none."""
    if name not in METHODS:
        raise UserError(f"metrics: unknown method {name!r}; expected one of {', '.join(METHODS)}")
    return METHODS[name]


def describe(hyperparameters: str, only: Iterable[str] | None = None) -> str:
    """Words for hyperparameters given as JSON text, such as ``lr=0.0001, β=0.5``.

    With ``only``, the other keys are left out.
    """
    values = json.loads(hyperparameters)
    keys = [key for key in sorted(values) if only is None or key in set(only)]
    return ", ".join(f"{SYMBOLS.get(key, key)}={_text(values[key])}" for key in keys)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def varying(variants: Iterable[str]) -> set[str]:
    """The hyperparameters in which variants (JSON texts) of one method differ."""
    parsed = [json.loads(text) for text in variants]
    keys = {key for values in parsed for key in values}
    return {key for key in keys if len({json.dumps(v.get(key)) for v in parsed}) > 1}

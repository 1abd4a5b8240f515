"""Settings that no run can have are refused while the configuration is read."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tiny import TINY

from mclr.config.reading import parse_tier
from mclr.errors import UserError
from mclr.planning.plan import Plan

RUN = "edm2-mclr"


def planned(**changes: Any) -> Plan:
    """The tiny tier with keys ``a__b`` set, or removed (None)."""
    content: dict[str, Any] = copy.deepcopy(TINY)
    for path, value in changes.items():
        *parents, last = path.replace("_X_", "-").split("__")
        section = content
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
        if value is None:
            del section[last]
    return Plan(parse_tier(content, "tiny.yaml"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"evaluation__grid_classes": [10]}, "grid_classes: 10 of 10 classes"),
        ({"evaluation__isc_splits": 21}, "isc_splits 21: at most the n_samples"),
        ({"evaluation__neighbourhood": 20}, "neighbourhood 20: fewer than the n_samples"),
        ({"data__n_reference": 1788}, "n_reference: 1,788 of 1,797 images leave a split"),
        ({"final__seeds": [7, 7]}, r"final\.seeds: seeds must differ"),
        ({"models__edm2__guidance": [0.5, 0.50000001]}, "differ in their first six digits"),
        ({"models__edm2__label": "EDM\n2"}, "label: expected one line"),
        ({"models__edm2__label": " "}, "label: expected one line"),
        ({"models__var__tokenizer__network__vocab_size": 10**12}, "vocab_size: .*1048576"),
        ({"runs__edm2_X_mclr__recipe": {}}, "recipe: unknown name {}"),
        ({"runs__edm2_X_mclr__recipe": ["edm2-img64-s"]}, r"recipe: unknown name \["),
        ({"runs__edm2_X_mclr__sweep": {"final": [0, 1]}}, r"sweep\.final: expected numbers"),
        (
            {"runs__edm2_X_mclr__checkpoints": None, "runs__edm2_X_mclr__epochs": [1e300]},
            "epochs.0: .*1000000",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_what_no_run_can_have_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        planned(**changes)


def test_the_last_that_can_be_is_taken() -> None:
    planned(
        evaluation__grid_classes=[9],
        evaluation__isc_splits=20,
        evaluation__neighbourhood=19,
        data__n_reference=1787,
        models__edm2__guidance=[0.5, 0.500001],
    )

"""The table of all methods says what the catalogue and the objectives say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mclr.config.objectives import FineTuning
from mclr.cost.passes import Passes, objective_passes
from mclr.objectives.catalogue import METHODS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "concepts.md").read_text()
SECTION = PAGE.split("## All methods side by side")[1].split("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line[2:-2].split(" | ")]
    for line in SECTION.splitlines()
    if line.startswith("| ") and not line.startswith("| method")
]
K, DRAWS = 3, 5
OBJECTIVES = {
    "distill": {"gamma": 1},
    "gft": {"beta": 0.5},
    "gft+dial": {"beta": "input"},
    "mg": {"w": 0.5},
    "ddo": {"alpha": 1, "beta": 1, "n_negatives": 10},
    "cca": {"beta": 1, "lambda": 1, "K": K},
    "ccdpo": {"beta": 1, "K": K},
    "mclr": {"K": K},
    "wmclr": {"dsm": 1, "K": K, "draws": DRAWS},
    "mclr+dsm": {"dsm": 1, "K": K},
}


def count(cell: str) -> int:
    """The number that a cell like `2 draws (1 + K)` stands for."""
    text = cell.strip("`").replace("draws", str(DRAWS)).replace("K", str(K))
    assert re.fullmatch(r"[\d +()]+", text), cell
    product = 1
    for factor in re.findall(r"\([^)]*\)|\d+(?: \+ \d+)*", text):
        product *= sum(map(int, factor.strip("()").split("+")))
    return product


def test_every_method_has_a_row_in_the_order_of_table_1() -> None:
    titles = [m.title for m in METHODS.values() if m.trained or m.name == "cfg"]
    assert [row[0] for row in ROWS] == titles
    assert all(len(row) == 8 and all(row) for row in ROWS)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_row_has_the_passes_and_the_end_of_its_objective(name: str) -> None:
    row = next(row for row in ROWS if row[0] == METHODS[name].title)
    objective = {"name": name.split("+")[0], **OBJECTIVES[name]}
    settings = {"model": "m", "objective": objective, "lr": 1, "batch": 2, "checkpoints": [1]}
    run = FineTuning.model_validate(settings)
    assert run.objective.method == name
    assert Passes(count(row[3]), count(row[4])) == objective_passes(run.objective)
    assert row[6] == ("yes" if METHODS[name].saturates else "no")
    assert row[7] == ("β" if METHODS[name].dial else "no")
    assert METHODS[name].dial == run.objective.needs.dial
    stored = row[5]
    assert ("base model" in stored) == bool(run.objective.needs.reference or name == "wmclr")
    assert ("samples" in stored) == bool(run.objective.needs.negatives)


def test_every_trained_method_is_checked() -> None:
    assert OBJECTIVES.keys() == {name for name, method in METHODS.items() if method.trained}

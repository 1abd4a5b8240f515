"""The paper index: what it names exists, and what the code names of the paper is in it."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from mclr.config.reading import load_tier
from mclr.planning.job import flat
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.report.names import KINDS, figure_files, views_of
from mclr.theory.lab.run import TOPICS

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow"))
from paper_index import Place, checks_of, equation_numbers, equation_table, equations

ROOT = Path(__file__).resolve().parents[2]
PAPER = (ROOT / "docs" / "paper.md").read_text()
THEORY = (ROOT / "docs" / "theory.md").read_text()


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows of a page, headings and rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if row[0] not in ("Paper", "Statement")]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def found(path: str) -> Any:
    """The object at a dotted path; AttributeError or ModuleNotFoundError if there is none."""
    parts = path.split(".")
    module = importlib.import_module(".".join(parts[:2]))
    for part in parts[2:]:
        if not hasattr(module, part):
            importlib.import_module(f"{module.__name__}.{part}")
        module = getattr(module, part)
    return module


@functools.cache
def made() -> frozenset[str]:
    """Every file that jobs of the published tiers and the theory make."""
    files = {f"results/theory/{topic}{end}" for topic in TOPICS for end in ("", ".json")}
    for name in ("digits", "fashion"):
        tier = tier_of(name)
        jobs = Jobs(Plan(tier), views_of(tier)).behind()
        files |= {f.replace(f"/{name}/", "/<tier>/") for job in jobs for f in flat(job.outputs)}
    return frozenset(files)


def is_made(artefact: str) -> bool:
    """Whether some file is what an artefact says, with a name in the place of each <wildcard>."""
    parts = [re.escape(part) for part in re.split(r"(?<!/)<\w+>|(?<=/)<(?!tier>)\w+>", artefact)]
    return any(re.fullmatch(".+".join(parts), file) for file in made())


def tier_of(name: str) -> Any:
    return load_tier(ROOT / "config" / f"{name}.yaml")


@pytest.mark.parametrize("row", rows(PAPER), ids=lambda row: f"{row[0]} {row[1]}")
def test_a_row_of_the_paper_index_is_true(row: list[str]) -> None:
    _, _, functions, tests, artefacts = row
    for function in codes(functions):
        assert callable(found(function)), function
    for test in codes(tests):
        assert (ROOT / test).is_file(), test
    for artefact in codes(artefacts):
        assert is_made(artefact), artefact
    assert codes(functions) and codes(tests) and codes(artefacts)


def test_every_kind_of_figure_is_drawn_by_a_tier() -> None:
    drawn = {name for tier in ("digits", "fashion") for name in figure_files(tier_of(tier))}
    of_averages = {kind for kind in KINDS if kind.endswith("-average")}
    for kind in KINDS.keys() - of_averages:
        assert any(re.fullmatch(rf"[\w-]+-{kind}(-[\w-]+)?\.pdf", name) for name in drawn), kind
    micro = figure_files(load_tier(ROOT / "tests" / "workflow" / "options.yaml"))
    assert "pixel-mclr-average.pdf" in micro  # no published tier measures averages of fine-tuning


def test_functions_and_checks_of_the_theory_index_exist() -> None:
    statements = rows(THEORY)
    assert len(statements) > 40
    for _, _, functions, tests, _ in statements:
        module = ""
        for name in codes(functions):
            module = name.rsplit(".", 1)[0] if "." in name else module
            (place,) = (ROOT / "mclr" / "theory").glob(f"*/{module}.py")
            where = f"mclr.theory.{place.parent.name}.{module}"
            assert callable(found(f"{where}.{name.rsplit('.', 1)[-1]}")), name
        for test in codes(tests):
            assert list((ROOT / "tests").rglob(test)), test


def test_equations_that_the_code_names_are_in_the_index() -> None:
    written = {n for row in rows(PAPER) + rows(THEORY) for n in equation_numbers(" ".join(row[:2]))}
    assert set(equations()) <= written


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("(22)/(150)", [22, 150]), ("(10)-(12)", [10, 11, 12]), ("(67)–(69), (83)", [67, 68, 69, 83])],
)
def test_numbers_of_equations(text: str, numbers: list[int]) -> None:
    assert equation_numbers(text) == numbers


def test_places_are_read_from_comments_docstrings_and_methods() -> None:
    places = equations()
    assert Place("mclr.objectives.mclr", "mclr_loss") in places[22]  # the comment above
    assert Place("mclr.objectives.ccdpo", "CcDpo") in places[156]  # a docstring
    assert Place("mclr.theory.lab.tabular", "World.mixed") in places[18]  # a method
    assert 67 not in places  # Karras et al., Eq. 67: another paper's number has no parentheses


def test_tests_are_those_that_use_the_function() -> None:
    using = checks_of(Place("mclr.training.base", "redraw_labels"))
    assert "tests/training/test_label_noise.py" in using
    assert "tests/training/test_posthoc_ema.py" not in using


def test_the_generated_table_links_to_the_reference() -> None:
    line = next(line for line in equation_table().splitlines() if line.startswith("| (160)"))
    assert 'identifier="mclr.objectives.mclr.mclr_loss"' in line
    assert "`test_objectives.py`" in line

"""docs/quickstart.ipynb runs in a fresh clone, as Jupyter would run it, and shows what it says."""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from checkout import ROOT, Checkout
from PIL import Image
from test_publication import clone

from mclr.inference.grid import CELL, GAP

sys.path.insert(0, str(ROOT / "workflow"))
from notebook import EXECUTED, code_cells, digest

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
COMMITTED = json.loads(NOTEBOOK.read_text())
KINDS = [[], [], ["image"], ["table"], ["image"], ["image"]]
"""What each cell of code shows."""
SAME_NOISE, TABLE, PROGRESS, CURVES = 2, 3, 4, 5


@pytest.fixture(scope="module")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A clone without results, with the notebook and what runs it as they are here."""
    checkout = clone(tmp_path_factory.mktemp("notebook") / "mclr")
    for name in ("docs/quickstart.ipynb", "workflow/notebook.py"):
        shutil.copy(ROOT / name, checkout.folder / name)
    checkout.environment["PYTHONPATH"] = str(checkout.folder)
    yield checkout
    shutil.rmtree(checkout.folder)


@pytest.fixture(scope="module")
def executed(cloned: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook after it ran in docs/, where Jupyter starts it; it pulls the results itself."""
    return executed_in(cloned, "docs", NOTEBOOK, tmp_path_factory.mktemp("executed") / "run.ipynb")


def executed_in(checkout: Checkout, place: str, notebook: Path, made: Path) -> Any:
    """Run a notebook in a fresh process, in a folder of the checkout."""
    script = str(checkout.folder / "workflow" / "notebook.py")
    inside = Checkout(checkout.folder / place)
    inside.environment = checkout.environment
    inside.run("python", script, str(notebook), "--output", str(made))
    nbformat.validate(nbformat.read(made, as_version=4))
    return json.loads(made.read_text())


def kinds(notebook: Any) -> list[list[str]]:
    """What each cell of code shows: image, table or text."""
    names = {"image/png": "image", "text/html": "table"}
    return [
        [names.get(next(iter(output.get("data", {})), ""), "text") for output in cell["outputs"]]
        for cell in code_cells(notebook)
    ]


def picture(notebook: Any, cell: int) -> np.ndarray:
    """The picture that a cell shows: uint8 (height, width, 3)."""
    (output,) = code_cells(notebook)[cell]["outputs"]
    png = base64.b64decode(output["data"]["image/png"])
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def grid_rows(notebook: Any, cell: int, count: int) -> list[np.ndarray]:
    """Each row of images of a grid of ten columns, without labels: (CELL, 10 · (CELL + GAP), 3)."""
    shown, step = picture(notebook, cell), CELL + GAP
    top, left = shown.shape[0] - count * step, shown.shape[1] - 10 * step
    assert 0 < top < step and left > 0  # labels of columns and rows
    return [shown[top + i * step :][:CELL, left:] for i in range(count)]


def test_the_committed_outputs_are_those_of_the_committed_code() -> None:
    assert COMMITTED["metadata"][EXECUTED] == digest(COMMITTED)
    counts = [cell["execution_count"] for cell in code_cells(COMMITTED)]
    assert counts == list(range(1, len(KINDS) + 1))
    assert kinds(COMMITTED) == KINDS
    assert NOTEBOOK.stat().st_size < 400_000
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))


def test_it_shows_here_what_it_showed_there(executed: Any) -> None:
    assert digest(executed) == digest(COMMITTED)
    assert kinds(executed) == KINDS
    for cell in (SAME_NOISE, PROGRESS, CURVES):
        assert picture(executed, cell).shape == picture(COMMITTED, cell).shape
    # The same weights and noise: on another machine sums are rounded otherwise, no more.
    seen, meant = (picture(each, SAME_NOISE).astype(int) for each in (executed, COMMITTED))
    assert np.abs(seen - meant).mean() < 1
    assert (picture(executed, CURVES) != 255).mean() > 0.01


def test_methods_change_images_of_the_same_noise(executed: Any) -> None:
    rows = grid_rows(executed, SAME_NOISE, 9)
    bases = rows[::3]
    noises = min(distance(bases[i], bases[i - 1]) for i in range(3))
    for base, guided, tuned in (rows[:3], rows[3:6], rows[6:]):
        assert 1 < distance(base, guided) < noises
        assert 1 < distance(base, tuned) < noises
        assert distance(guided, tuned) > 1


def test_fine_tuning_moves_away_from_the_base(executed: Any) -> None:
    base, *tuned = grid_rows(executed, PROGRESS, 5)
    assert np.array_equal(base, grid_rows(executed, SAME_NOISE, 9)[0])
    distances = [distance(base, each) for each in tuned]
    assert distances[0] > 1 and distances == sorted(distances)
    (output,) = code_cells(executed)[TABLE]["outputs"]
    assert all(f"<th>{step}</th>" in output["data"]["text/html"] for step in (20, 40, 80, 160))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two rows of images, in levels of grey."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def test_it_runs_from_the_root_too(cloned: Checkout, executed: Any, tmp_path: Path) -> None:
    """With fewer steps; after the other run, so that nothing is to be pulled."""
    text = NOTEBOOK.read_text()
    assert "steps = [20, 40, 80, 160]" in text
    short = tmp_path / "short.ipynb"
    short.write_text(text.replace("steps = [20, 40, 80, 160]", "steps = [1, 2, 3, 10]"))
    shown = executed_in(cloned, ".", short, tmp_path / "run.ipynb")
    assert kinds(shown) == KINDS
    assert np.array_equal(picture(shown, SAME_NOISE), picture(executed, SAME_NOISE))

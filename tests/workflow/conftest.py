"""The real Snakefile in a copy of this checkout, run once and shared by the tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from checkout import Checkout, copy_tree


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the whole micro tier has run; read only."""
    checkout = copy_tree(tmp_path_factory.mktemp("finished"))
    (checkout.folder / "output.txt").write_text(checkout.snakemake("all").stdout)
    return checkout


@pytest.fixture
def fresh(tmp_path: Path) -> Checkout:
    """A checkout in which nothing has run."""
    return copy_tree(tmp_path / "fresh")


@pytest.fixture
def copy_of_finished(finished: Checkout, tmp_path: Path) -> Callable[[], Checkout]:
    """Make copies of the finished checkout, to change and to break."""

    def make() -> Checkout:
        target = tmp_path / "copy"
        shutil.copytree(finished.folder, target, symlinks=True)
        return Checkout(target)

    return make

"""A model's folder through the real Snakefile: taken over, and taken over again when it changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkout import Checkout, copy_tree
from diffusers_folders import dit_folder
from safetensors.torch import load_file, save_file

BASE = "results/diffusers/runs/dit-base/config.yaml"
FOLDER = Path("data", "raw", "tiny-dit")


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the base of ``diffusers.yaml`` has been taken over."""
    checkout = copy_tree(tmp_path_factory.mktemp("dit"), "tests/workflow/diffusers.yaml")
    dit_folder(checkout.folder / FOLDER)
    checkout.snakemake(BASE)
    return checkout


def test_a_folder_is_taken_over(taken: Checkout) -> None:
    assert (taken.folder / BASE).exists()
    assert (taken.results / "tokenizers" / "dit.safetensors").exists()
    assert taken.planned("--", BASE) == {}


def test_a_change_of_the_folder_is_noticed(taken: Checkout) -> None:
    weights = taken.folder / FOLDER / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({name: 2 * value for name, value in load_file(weights).items()}, weights)
    assert taken.planned("--", BASE) == {"import_base_dit": 1}


def test_a_folder_that_is_gone_is_named(taken: Checkout) -> None:
    (taken.folder / FOLDER).rename(taken.folder / "elsewhere")
    (taken.folder / BASE).unlink()
    result = taken.snakemake("--dry-run", BASE, check=False)
    assert result.returncode and f"{FOLDER}/transformer" in result.stdout

"""Text of the user's own in a tier is text, whatever it has in common with Snakemake's language."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from checkout import Checkout, copy_tree

IMAGES = "tests/workflow/images.yaml"
ODD = "{x} %s {{y}} {wildcards.model} <z> $HOME 'q' \"d\""
RUN = {"model": "edm2", "lr": 0.01, "batch": 16, "checkpoints": [1]}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """One's own images in a folder with an odd name, a class and a label of such names."""
    found = copy_tree(tmp_path / "here", IMAGES)
    folder = f"photos {ODD.replace('$HOME', '')}"
    found.run("python", "docs/examples/digit_images.py", folder)
    classes = sorted(path for path in (found.folder / folder).iterdir() if path.is_dir())
    classes[0].rename(classes[0].with_name(f"0 {ODD}"))
    (found.folder / ODD).mkdir()
    shutil.copy(found.folder / "docs/examples/own_objective.py", found.folder / ODD / "ipo.py")
    content = yaml.safe_load((found.folder / IMAGES).read_text())
    content["data"]["path"] = folder
    content["models"]["edm2"]["label"] = f"EDM2 {ODD}"
    objective = {"implementation": f"{ODD}/ipo.py:Ipo", "beta": 0.05, "K": 2}
    content["runs"]["edm2-ipo"] = RUN | {"objective": objective}
    (found.folder / IMAGES).write_text(yaml.safe_dump(content))
    return found


def test_they_reach_the_jobs_as_they_are(checkout: Checkout) -> None:
    planned = checkout.planned("all")
    assert {"prepare_images", "effective_config", "finetune_edm2_ipo_seed0"} <= planned.keys()
    config, manifest = "results/images/config.yaml", "data/prepared/images/manifest.json"
    checkout.snakemake(config, manifest)
    written = yaml.safe_load((checkout.folder / config).read_text())
    assert written["data"]["path"].startswith("photos {x} %s {{y}} {wildcards.model}")
    assert written["models"]["edm2"]["label"] == f"EDM2 {ODD}"
    assert json.loads((checkout.folder / manifest).read_text())["class_names"][0] == f"0 {ODD}"
    assert checkout.planned("--nolock", config, manifest) == {}


def test_names_of_input_files_that_are_patterns_are_refused(checkout: Checkout) -> None:
    content = yaml.safe_load((checkout.folder / IMAGES).read_text())
    content["models"]["edm2"]["base"] = {"released": "weights/{x}.pkl"}
    (checkout.folder / IMAGES).write_text(yaml.safe_dump(content))
    refused = checkout.snakemake("--dry-run", check=False)
    assert refused.returncode != 0
    said = [line for line in refused.stdout.splitlines() if "mclr: error" in line]
    assert said and "released: weights/{x}.pkl: Snakemake reads braces" in said[0]


def test_a_key_that_comes_twice_is_refused(checkout: Checkout) -> None:
    text = (checkout.folder / IMAGES).read_text()
    (checkout.folder / IMAGES).write_text(f"{text}seeds: [1]\n")
    refused = checkout.snakemake("--dry-run", check=False)
    assert refused.returncode != 0 and "seeds comes twice, on lines " in refused.stdout

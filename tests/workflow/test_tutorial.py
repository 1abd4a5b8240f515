"""docs/tutorial.md, followed command by command from images to a drawn grid."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
from checkout import Checkout, copy_tree, follow
from PIL import Image

from mclr.events import read_events
from mclr.files import load_tensors


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = copy_tree(tmp_path_factory.mktemp("tutorial") / "mclr")
    follow(checkout, "tutorial.md")
    return checkout


def test_the_tutorial(followed: Checkout) -> None:
    results = followed.folder / "results" / "tutorial"
    with (results / "table1.csv").open() as table:
        methods = {row["method"] for row in csv.DictReader(table)}
    assert {"base", "cfg", "mclr"} <= methods
    assert (results / "report.html").is_file()
    card = (followed.folder / "my-generator" / "README.md").read_text()
    assert "three" in card and "the author's own images (center-crop-dhariwal)" in card
    with Image.open(followed.folder / "grid.png") as grid:
        assert grid.width > 8 * 8


def test_a_base_that_one_has(followed: Checkout) -> None:
    """The tutorial's base model, as a file, is fine-tuned in a tier of its own to the same end."""
    runs = followed.folder / "results" / "tutorial" / "runs"
    (weights,) = (runs / "edm2-base" / "checkpoints").glob("step-*")
    given = ("--base", str(shutil.copy(weights, followed.folder / "my-base.safetensors")))
    followed.run("mclr", "new", "again", "--images", "pictures", *given, "--hours", "0.05")
    followed.run("snakemake", "--configfile", "config/again.yaml", "--cores", "2", "--", "all")

    results = followed.folder / "results" / "again"
    base = results / "runs" / "edm2-base"
    assert [event["event"] for event in read_events(base / "events.jsonl")] == ["end"]
    source = json.loads((base / "provenance.json").read_text())["source"]
    assert source["file"] == "my-base.safetensors"
    (taken,) = (base / "checkpoints").glob("step-*")
    ours, theirs = (load_tensors(path)[0] for path in (taken, followed.folder / given[1]))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    with (results / "table1.csv").open() as table:
        fd = {row["method"]: float(row["fd"]) for row in csv.DictReader(table)}
    assert fd["mclr"] < fd["base"]

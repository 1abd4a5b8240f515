"""docs/tutorial.md, followed command by command from images to a drawn grid."""

from __future__ import annotations

import csv

from checkout import Checkout, follow
from PIL import Image


def test_the_tutorial(fresh: Checkout) -> None:
    follow(fresh, "tutorial.md")
    results = fresh.folder / "results" / "tutorial"
    with (results / "table1.csv").open() as table:
        methods = {row["method"] for row in csv.DictReader(table)}
    assert {"base", "cfg", "mclr"} <= methods
    assert (results / "report.html").is_file()
    card = (fresh.folder / "my-generator" / "README.md").read_text()
    assert "three" in card and "the author's own images (center-crop-dhariwal)" in card
    with Image.open(fresh.folder / "grid.png") as grid:
        assert grid.width > 8 * 8

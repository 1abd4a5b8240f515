"""docs/use-a-model.md: its commands and its code work, in order, on the published results."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from published import ROOT, bring_experiments

from mclr import cli

PAGE = (ROOT / "docs" / "use-a-model.md").read_text()


@pytest.fixture
def mclr(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs a line ``mclr …`` in this process: exit status, standard output, standard error."""

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        try:
            cli.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        else:
            status = 0
        found = capfd.readouterr()
        return status, found.out, found.err

    return run


def run_page(mclr: Any) -> list[str]:
    """What each command of the page printed; its Python blocks share their names."""
    names: dict[str, Any] = {}
    printed = []
    for language, block in re.findall(r"```(bash|python)\n(.*?)```", PAGE, re.DOTALL):
        if language == "python":
            exec(block, names)
            continue
        for line in block.splitlines():
            status, out, err = mclr(line)
            assert status == 0, err
            printed.append(out)
    return printed


def test_the_page_works(mclr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring_experiments(tmp_path, "edm2-mclr", "var-mclr")
    monkeypatch.chdir(tmp_path)
    exported, drawn, guided, sent, taken = run_page(mclr)
    rows = re.findall(r"^\| `(\S+\.\w+)` \|", PAGE, re.MULTILINE)
    files = set(rows) - {"tokenizer.safetensors"}
    assert {Path(line).name for line in exported.split()} == files
    assert "grid.png: 24 images" in drawn
    with Image.open("grid.png") as grid:
        width, height = grid.size
        assert width >= 8 * 64 and 3 * 64 <= height < 4 * 64 + 40
    found = json.loads(guided)
    assert found["out"] == "guided.png" and found["guidance"] == 0.5
    assert found["classes"] == [{"label": 3, "name": "3"}] and found["seeds"] == [0, 1, 2, 3]
    assert found["sampler"]["num_steps"] == 16
    stored = np.load("guided.npz")
    assert stored["arr_0"].shape == (4, 8, 8, 1) and stored["arr_0"].dtype == np.uint8
    assert stored["arr_1"].tolist() == [3] * 4 and stored["seeds"].tolist() == [0, 1, 2, 3]
    with Image.open("three.png") as image:
        assert image.size == (8, 8)
    for line, text in (
        ("mclr draw --model my-model --classes 3,twelve --output x.png", "class 'twelve': no such"),
        (
            "mclr draw --model my-model --classes '3,\"a, b\"' --output x.png",
            "class 'a, b': no such",
        ),
        ("mclr draw --model my-model --classes 12 --output x.png", "label 12: out of range"),
        ("mclr draw --model my-model --classes , --output x.png", "class labels: none given"),
        ("mclr draw --model my-model --sampler top_k=3 --output x.png", "'top_k' is unknown"),
        ("mclr draw --model my-model --seed -1 --output x.png", "seed -1 is out of range"),
        ("mclr draw --model nowhere --output x.png", "nowhere: no such folder"),
        ("mclr draw --model my-model --classes 3 --output my-model", "is a folder"),
        (
            "mclr draw --model my-model --output x.txt",
            "x.txt: .txt is no format of a picture; expected",
        ),
        (
            "mclr draw --model my-model --output x",
            "x: has no ending of a picture; expected one of .png",
        ),
    ):
        status, out, err = mclr(line)
        assert (status, out) == (2, "") and text in err and "Traceback" not in err, line
    assert not Path("x.png").exists()
    assert Path("var-mclr.pth").is_file() and "var-mclr.safetensors" in sent + taken


def test_settings_are_names_and_numbers(mclr: Any) -> None:
    status, _, err = mclr("mclr draw --model m --sampler num_steps --output x.png")
    assert status == 2 and "expected NAME=NUMBER, got 'num_steps'" in err

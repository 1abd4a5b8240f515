"""The recorded numbers: complete provenance, and nothing but numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

FOLDER = Path(__file__).parent / "golden"
FILES = sorted(path.name for path in FOLDER.iterdir() if path.name != "README.md")
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_file_has_its_provenance() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", PAGE, flags=re.MULTILINE)
    assert sorted(name for name, _ in rows) == FILES
    for _, cells in rows:
        for test in re.findall(r"`(\w+/[\w.]*)`", cells):
            assert (FOLDER.parent / test).exists(), test


@pytest.mark.parametrize("name", FILES)
def test_files_hold_named_numbers_and_their_configuration(name: str) -> None:
    if name.endswith(".npz"):
        with np.load(FOLDER / name, allow_pickle=False) as arrays:
            assert isinstance(json.loads(str(arrays["meta_json"])), dict)
            assert {arrays[key].dtype.kind for key in arrays.files} <= set("biufU")
    else:
        with safe_open(FOLDER / name, "pt") as stored:
            assert len(stored.keys()) > 0
            if stored.metadata():
                assert isinstance(json.loads(stored.metadata()["config"]), dict)


def test_unused_arrays_exist() -> None:
    unused = PAGE.split("## Arrays that no test uses")[1].split("##")[0]
    found = re.findall(r"`(\w+\.npz)`: `(\w+)`", unused)
    assert len(found) == 2
    for name, array in found:
        with np.load(FOLDER / name) as arrays:
            assert array in arrays.files

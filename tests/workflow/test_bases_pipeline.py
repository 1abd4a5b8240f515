"""Final rows with base models of their own, end to end: three seeds over two bases."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
from checkout import Checkout, copy_tree

BASES = "tests/workflow/bases.yaml"


@pytest.fixture(scope="module")
def based(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the whole tier has run; its results are read only."""
    checkout = copy_tree(tmp_path_factory.mktemp("bases"), BASES)
    checkout.snakemake("all")
    return checkout


@pytest.fixture(scope="module")
def final(based: Checkout) -> pd.DataFrame:
    metrics = pd.read_parquet(based.results / "metrics.parquet")
    return metrics[metrics["stage"] == "final"]


def provenance(based: Checkout, run_id: str) -> Any:
    return json.loads((based.results / "runs" / run_id / "provenance.json").read_text())


def test_base_and_cfg_rows_sample_the_base_of_their_seed(final: pd.DataFrame) -> None:
    for method in ("base", "cfg"):
        rows = final[final["method"] == method].sort_values("seed")
        assert rows["run_id"].tolist() == [
            "pixel-base-seed1", "pixel-base-seed2", "pixel-base-seed1"
        ]  # fmt: skip
        assert rows["seed"].tolist() == [1, 2, 3], "images are of the row's own seed"
        assert rows["fd_cnn"].nunique() == 3


def test_bases_differ_in_their_seed_alone(based: Checkout) -> None:
    made = [provenance(based, f"pixel-base{s}") for s in ("", "-seed1", "-seed2")]
    assert [facts["seed"] for facts in made] == [0, 1, 2]
    assert len({facts["config_sha256"] for facts in made}) == 3
    weights = [
        next((based.results / "runs" / f"pixel-base{s}").glob("checkpoints/*.safetensors"))
        for s in ("", "-seed1", "-seed2")
    ]
    assert len({path.read_bytes() for path in weights}) == 3


def test_final_runs_read_the_base_of_their_seed(based: Checkout) -> None:
    """What a run read is in its provenance: base and, of DDO, negatives that this base drew."""
    folder = f"results/{based.results.name}"
    for seed, base in ((1, 1), (2, 2), (3, 1)):
        checkpoint = f"{folder}/runs/pixel-base-seed{base}/checkpoints/step-000006.safetensors"
        for name in ("mclr", "ddo"):
            read = provenance(based, f"pixel-{name}-final-seed{seed}")["inputs"]
            assert checkpoint in read and not any("/runs/pixel-base/" in path for path in read)
        assert f"{folder}/negatives/pixel-base-seed{base}.safetensors" in read
        first = f"pixel-ddo-final-seed{seed}"
        again = provenance(based, f"pixel-ddo-2-final-seed{seed}")["inputs"]
        assert f"{folder}/runs/{first}/checkpoints/final.safetensors" in again
        assert f"{folder}/negatives/{first}.safetensors" in again


def test_the_grid_stays_on_the_models_own_base(based: Checkout) -> None:
    read = provenance(based, "pixel-mclr-seed0")["inputs"]
    assert any("/runs/pixel-base/" in path for path in read)


def test_the_footnote_of_the_table_says_so(based: Checkout) -> None:
    text = (based.results / "table1.md").read_text()
    assert "the rows of each seed have one of 2 base models in turn, trained with another" in text
    selected = (based.results / "table1_selected.md").read_text()
    assert "base models in turn" not in selected, "the grid has one base"


def test_nothing_is_left_to_do(based: Checkout) -> None:
    assert based.planned("all") == {}

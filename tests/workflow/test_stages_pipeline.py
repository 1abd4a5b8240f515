"""What follows the grid, end to end: final runs, studies, separation, claims; on latents."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pandas as pd
import pytest
from checkout import STAGES, Checkout, copy_tree

AFTER_METRICS = ("metrics", "table1", "figures", "claims", "separation", "report", "track")


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the whole tier has run; its results are read only."""
    checkout = copy_tree(tmp_path_factory.mktemp("stages"), STAGES)
    checkout.snakemake("all")
    return checkout


@pytest.fixture(scope="module")
def metrics(staged: Checkout) -> pd.DataFrame:
    return pd.read_parquet(staged.results / "metrics.parquet")


def load(path: Any) -> Any:
    return json.loads(path.read_text())


def test_every_stage_has_its_methods(metrics: pd.DataFrame) -> None:
    measured = metrics[metrics["method"] != "real"]
    assert measured.groupby(["stage", "method"]).size().to_dict() == {
        ("grid", "base"): 1,
        ("grid", "cfg"): 1,
        ("grid", "mclr"): 2,
        ("final", "base"): 1,
        ("final", "cfg"): 1,
        ("final", "mclr"): 1,
        ("study", "mclr+cfg"): 1,
        ("study", "mclr-dial"): 1,
        ("study", "mclr+autoguidance"): 1,
        ("study", "cfg-interval"): 1,
    }
    assert measured.groupby("stage")["seed"].unique().map(list).to_dict() == {
        "grid": [0],
        "final": [1],
        "study": [0],
    }
    by_method = measured[measured["stage"] == "study"].set_index("method")
    assert by_method["dial"].to_dict() == {
        **dict.fromkeys(("mclr+cfg", "mclr+autoguidance", "cfg-interval"), 1.0),
        "mclr-dial": 0.5,
    }
    # Heun's two steps are three evaluations; only the first of the two levels is in the interval.
    assert by_method["nfe"].to_dict() == {
        "mclr+cfg": 6,
        "mclr-dial": 3,
        "mclr+autoguidance": 6,
        "cfg-interval": 4,
    }


def test_real_images_are_measured_by_the_protocol_of_the_samples(
    staged: Checkout, metrics: pd.DataFrame
) -> None:
    protocols = load(staged.results / "protocols.json")
    assert set(metrics["protocol"]) == set(protocols)
    assert all(protocols[p]["n_samples"] == n for p, n in metrics[["protocol", "n_samples"]].values)
    real = metrics[metrics["method"] == "real"].set_index("n_samples")
    generated = metrics[metrics["method"] != "real"]
    assert list(generated["protocol"].unique()) == [real.loc[20, "protocol"]]
    assert real["fd_cnn"].is_monotonic_decreasing  # with the number of images
    assert real.loc[20, "fd_cnn"] < generated["fd_cnn"].min()


def test_final_runs_train_as_selected(staged: Checkout, metrics: pd.DataFrame) -> None:
    chosen = load(staged.results / "selections" / "latent-mclr.json")
    grid = metrics[(metrics["stage"] == "grid") & (metrics["method"] == "mclr")]
    best = grid.loc[grid["fd_cnn"].idxmin()]
    assert (chosen["run_id"], chosen["step"]) == (best["run_id"], best["step"])
    assert chosen["hyperparameters"] == json.loads(best["hyperparameters"])

    final = metrics[(metrics["stage"] == "final") & (metrics["method"] == "mclr")].iloc[0]
    assert json.loads(final["hyperparameters"]) == chosen["hyperparameters"]
    assert (final["run_id"], final["step"]) == ("latent-mclr-final-seed1", chosen["step"])
    assert (staged.folder / final["checkpoint"]).is_file()
    facts = load(staged.results / "runs" / final["run_id"] / "provenance.json")
    assert (facts["hyperparameters"], facts["seed"]) == (chosen["hyperparameters"], 1)
    assert facts["hyperparameters"]["P_mean"] == 0.5  # noise levels of the fine-tuning alone
    studied = metrics[(metrics["stage"] == "study") & (metrics["method"] != "cfg-interval")]
    assert set(studied["run_id"]) == {chosen["run_id"]}


def test_guidance_of_the_finals_is_the_selected_one(
    staged: Checkout, metrics: pd.DataFrame
) -> None:
    chosen = load(staged.results / "selections" / "latent-base.json")
    final = metrics[(metrics["stage"] == "final") & (metrics["method"] == "cfg")].iloc[0]
    assert (final["guidance"], final["step"]) == (chosen["guidance"], chosen["step"])


def test_table_1_is_of_the_finals(staged: Checkout) -> None:
    table = pd.read_csv(staged.results / "table1.csv")
    shown = table[table["method"] != "real"]
    assert shown[["method", "stage", "n_seeds"]].values.tolist() == [
        ["base", "final", 1],
        ["cfg", "final", 1],
        ["mclr", "final", 1],
    ]
    selected = pd.read_csv(staged.results / "table1_selected.csv")
    assert set(selected["stage"]) == {"grid"}
    for suffix in ("md", "tex"):
        assert (staged.results / f"table1_selected.{suffix}").stat().st_size > 0


def test_the_report_shows_every_analysis(staged: Checkout) -> None:
    results = staged.results
    claims = load(results / "claims.json")
    judged = {(c["id"], f["model"]) for c in claims["claims"] for f in c.get("findings", [])}
    assert ("mclr-lowers-fd", "latent") in judged
    compared = load(results / "similarity.json")["models"]["latent"]
    assert (compared["scales"], compared["steps"]) == ([2], [1])
    separated = load(results / "separation" / "latent.json")
    assert set(separated["images"]) == {"real", "base", "cfg", "cfg-highest", "mclr"}

    page = (results / "report.html").read_text()
    for anchor in ("table1", "claims", "similarity", "separation", "floors"):
        assert f'id="{anchor}"' in page, anchor
    assert "table1_selected: the same by the paper’s rule" in page
    for picture in ("latent-sampling", "latent-dial", "latent-mclr-lr"):
        assert (results / "figures" / f"{picture}.png").is_file()
    for title in (
        "Other ways to sample the best MCLR checkpoint",
        "A dial without retraining",
        "MCLR over the learning rate",
        "MCLR lowers the FD of the base model",
    ):
        assert title in page, title


def test_nothing_to_do_the_second_time(staged: Checkout) -> None:
    assert staged.planned("all") == {}


def test_a_study_more_trains_nothing(staged: Checkout) -> None:
    old, new = "dial: [0.5]", "dial: [0.5, 2]"
    staged.edit(STAGES, old, new)
    try:
        assert staged.planned() == {
            **dict.fromkeys({*AFTER_METRICS, "effective_config"}, 1),
            "sample": 1,
            "evaluate": 1,
        }
    finally:
        staged.edit(STAGES, new, old)


def test_features_and_encodings_can_be_absent(staged: Checkout) -> None:
    """They are not published: who pulls the results has none, and makes none again."""
    away = [staged.results / name for name in ("features", "encoded", "state")]
    for folder in away:
        shutil.move(folder, staged.folder / folder.name)
    try:
        assert staged.planned("all") == {}
    finally:
        for folder in away:
            shutil.move(staged.folder / folder.name, folder)

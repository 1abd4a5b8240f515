"""All claims of a tier: asked, judged, and written for programs and for people."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from claim_rows import base, rows
from click.testing import CliRunner

from mclr.claims.catalogue import catalogue
from mclr.claims.verdicts import Finding, as_json, counts, findings
from mclr.cli import cli
from mclr.config.reading import load_tier
from mclr.config.tier import Tier
from mclr.jobs.claims import claims


@pytest.fixture(scope="module")
def tier() -> Tier:
    full = load_tier(Path("config/digits.yaml"))
    return full.model_copy(update={"models": {"edm2": full.models["edm2"]}})


@pytest.fixture(scope="module")
def metrics() -> pd.DataFrame:
    falling = {
        step: {"fd": fd, "is": 6 + step / 100, "precision": 0.7 + step / 1000, "recall": r}
        for step, fd, r in ((50, 7.0, 0.58), (100, 5.0, 0.55), (200, 8.0, 0.5))
    }
    return pd.concat(
        [
            base(fd=[10.0, 10.2], **{"is": 6.0}),
            rows("mclr", falling),
            rows("cfg", {0.5: {"fd": [4.0, 4.4], "is": 7.0}, 1.0: {"fd": 6.0}}, guided=True),
            rows("cca", {50: {"fd": [4.5, 5.6]}}, **{"lambda": 1.0}),
        ]
    )


@pytest.fixture(scope="module")
def found(metrics: pd.DataFrame, tier: Tier) -> dict[str, Finding]:
    return {finding.claim.id: finding for finding in findings(metrics, tier)}


def test_ids_are_unique_and_every_claim_names_its_source() -> None:
    entries = catalogue()
    assert len({claim.id for claim in entries}) == len(entries) >= 50
    assert all(claim.source and claim.statement and claim.question.rule() for claim in entries)


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ("mclr-lowers-fd", "supported"),
        ("mclr-is-rises", "supported"),
        ("mclr-recall-falls", "supported"),
        ("mclr-fd-turns", "supported"),
        ("cfg-at-most-mclr", "supported"),
        ("mclr-below-cca", "inconclusive"),
        ("half-the-evaluations", "supported"),
        ("mclr-below-ddo", "not measured"),
        ("cfg-oversaturates", "not measured"),
    ],
)
def test_verdicts(found: dict[str, Finding], claim: str, verdict: str) -> None:
    assert found[claim].verdict == verdict


def test_claims_on_autoregressive_models_are_not_asked_of_diffusion(
    found: dict[str, Finding],
) -> None:
    assert "mclr-comparable-ccdpo" not in found


def test_one_seed_decides_nothing_but_shapes_and_counts(metrics: pd.DataFrame, tier: Tier) -> None:
    single = metrics[metrics["seed"] == 0]
    alone = {finding.claim.id: finding for finding in findings(single, tier)}
    assert alone["mclr-lowers-fd"].verdict == "inconclusive"
    assert alone["mclr-lowers-fd"].note == "one seed"
    assert alone["mclr-fd-turns"].verdict == "supported"
    assert alone["half-the-evaluations"].note == ""


def test_json_holds_what_was_judged_and_its_rows(
    metrics: pd.DataFrame, tier: Tier, found: dict[str, Finding]
) -> None:
    content = as_json(list(found.values()), tier)
    assert content["verdicts"] == counts(list(found.values()))
    entry = next(claim for claim in content["claims"] if claim["id"] == "cfg-at-most-mclr")
    assert entry["supported_if"] == "≤ 0" and "Section 6.2" in entry["source"]
    (finding,) = entry["findings"]
    assert (finding["model"], finding["net"], finding["seeds"]) == ("edm2", "cnn", 2)
    assert finding["effect"] == pytest.approx(4.2 - 5.0)
    assert finding["interval"] == pytest.approx([-1.0, -0.6])
    assert [row["value"] for row in finding["rows"]] == [4.0, 4.4, 5.0, 5.0]
    assert finding["rows"][0].keys() >= {"run_id", "step", "guidance", "seed", "stage", "column"}


def test_files(metrics: pd.DataFrame, tmp_path: Path) -> None:
    metrics = pd.concat([metrics, rows("base", {0: {}}, model="var")])
    metrics.drop(columns=["stage", "dial"]).to_parquet(tmp_path / "metrics.parquet")
    options = ["--metrics", str(tmp_path / "metrics.parquet"), "--output", str(tmp_path)]
    result = CliRunner().invoke(cli, ["claims", *options], catch_exceptions=False)
    assert result.exit_code == 0
    assert json.loads((tmp_path / "claims.json").read_text())["tier"] == "digits"
    text = (tmp_path / "claims.md").read_text()
    line = next(row for row in text.splitlines() if row.startswith("| CFG's best FD is at most"))
    assert "cnn: ✓ −16 % [−20, −12]" in line and line.endswith("|  |")
    again = tmp_path / "again"
    claims(load_tier(Path("config/digits.yaml")), tmp_path / "metrics.parquet", again)
    for name in ("claims.json", "claims.md"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()

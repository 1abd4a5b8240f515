"""All claims of a tier: asked, judged, and written for programs and for people."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from claim_rows import rows
from click.testing import CliRunner

from mclr.claims.catalogue import catalogue
from mclr.claims.verdicts import Finding, as_json, counts, findings
from mclr.cli import cli
from mclr.config.reading import load_tier
from mclr.config.tier import Tier
from mclr.jobs.claims import claims

SEEDS = (0, 1, 2)


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
    guided_points = {0.5: {"fd": [4.0, 4.4, 4.2], "is": 7.0}, 1.0: {"fd": 6.0}}
    return pd.concat(
        [
            rows("base", {0: {"fd": [10.0, 10.2, 9.9], "is": 6.0}}, seeds=SEEDS),
            rows("mclr", falling, seeds=SEEDS),
            rows("cfg", guided_points, seeds=SEEDS, guided=True),
            rows("cca", {50: {"fd": [4.5, 5.6, 5.1]}}, seeds=SEEDS, **{"lambda": 1.0}),
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
        ("mclr-is-rises", "inconclusive"),  # ρ = 1 on each of three seeds: sign flips decide
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


def test_one_seed_and_two_are_an_observation(metrics: pd.DataFrame, tier: Tier) -> None:
    for n, words in ((1, "one seed, as claimed"), (2, "2 seeds, as claimed")):
        few = {f.claim.id: f for f in findings(metrics[metrics["seed"] < n], tier)}
        assert few["mclr-lowers-fd"].verdict == few["mclr-lowers-fd"].corrected == "observation"
        assert few["mclr-lowers-fd"].note == words and few["mclr-lowers-fd"].p is None
        assert few["cca-lowers-fd"].note.startswith(words)
        decided = {i for i, f in few.items() if f.verdict in ("supported", "not supported")}
        assert decided == {"half-the-evaluations"}, "counted, without chance"
    single = {f.claim.id: f for f in findings(metrics[metrics["seed"] == 0], tier)}
    assert single["mclr-below-cca"].note.startswith("one seed, not as claimed")


def test_holm_corrects_within_a_family(found: dict[str, Finding]) -> None:
    families: dict[str, list[Finding]] = {}
    for finding in found.values():
        if finding.p is not None:
            families.setdefault(finding.claim.topic, []).append(finding)
    assert len(families) > 2
    for members in families.values():
        smallest = min(members, key=lambda finding: finding.p or 0)
        assert smallest.p is not None
        assert smallest.holm == pytest.approx(min(1, len(members) * smallest.p))
    cfg = found["cfg-at-most-mclr"]
    assert cfg.p is not None and cfg.p < 0.05 < (cfg.holm or 0)
    assert (cfg.verdict, cfg.corrected) == ("supported", "inconclusive")
    base = found["mclr-lowers-fd"]
    assert (base.verdict, base.corrected) == ("supported", "supported")
    assert base.signs == 0.25, "the least that three seeds can give"


def test_json_holds_what_was_judged_and_its_rows(
    metrics: pd.DataFrame, tier: Tier, found: dict[str, Finding]
) -> None:
    content = as_json(list(found.values()), tier)
    assert content["verdicts"] == counts(list(found.values()))
    entry = next(claim for claim in content["claims"] if claim["id"] == "cfg-at-most-mclr")
    assert entry["supported_if"] == "≤ 0" and "Section 6.2" in entry["source"]
    (finding,) = entry["findings"]
    assert (finding["model"], finding["net"], finding["seeds"]) == ("edm2", "cnn", 3)
    assert finding["effect"] == pytest.approx(4.2 - 5.0)
    half = 4.302653 * 0.2 / 3**0.5  # t(0.975, 2) · s / √n
    assert finding["interval"] == pytest.approx([-0.8 - half, -0.8 + half], abs=1e-5)
    assert finding["effects"] == pytest.approx([-1.0, -0.6, -0.8])
    assert [row["value"] for row in finding["rows"]] == [4.0, 4.4, 4.2, 5.0, 5.0, 5.0]
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
    assert "cnn: ✓ ? −0.8 [−1.3, −0.303], −16 % (p 0.02, Holm 0.061, sign flips 0.25; " in line
    assert "3 seeds could show 0.65)" in line and line.endswith("|  |")
    lines = list(csv.DictReader((tmp_path / "claims.csv").open()))
    one = next(entry for entry in lines if entry["id"] == "cfg-at-most-mclr")
    assert (one["verdict"], one["corrected"], one["seeds"]) == ("supported", "inconclusive", "3")
    assert one["family"] == "MCLR and CFG" and float(one["p_holm"]) > float(one["p"]) > 0
    again = tmp_path / "again"
    claims(load_tier(Path("config/digits.yaml")), tmp_path / "metrics.parquet", again)
    for name in ("claims.json", "claims.md", "claims.csv"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()

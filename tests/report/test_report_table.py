"""Summaries over seeds, best rows, and Table 1 in its four forms."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from mclr.cli import cli
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.report.names import table_files
from mclr.report.rows import make_table
from mclr.report.summary import best_rows as best_rows_of
from mclr.report.summary import floors
from mclr.report.summary import summarise as summarise_of
from mclr.report.table import tables, terminal_table, write_tables
from mclr.settings.section import canonical

FEATURES = "digits-net"
STD = 0.2 / math.sqrt(2)  # sample standard deviation of two values 0.2 apart


def summarise(metrics: pd.DataFrame) -> pd.DataFrame:
    return summarise_of(metrics, FEATURES)


def best_rows(metrics: pd.DataFrame) -> pd.DataFrame:
    return best_rows_of(metrics, FEATURES)


def only(frame: pd.DataFrame, **values: object) -> pd.Series:
    """The single row with these values."""
    for name, value in values.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_summary_is_mean_and_sample_std_over_seeds(metrics: pd.DataFrame) -> None:
    row = only(summarise(metrics), model="edm2", method="cfg", guidance=2.0)
    assert row["fd"] == pytest.approx(8 + 3)
    assert row["is"] == pytest.approx(8 + 0.2)
    assert row["precision"] == pytest.approx(0.82)
    assert row["recall"] == pytest.approx(0.53)
    assert row["fd_std"] == pytest.approx(STD)
    assert row["precision_std"] == pytest.approx(0, abs=1e-12)
    assert (row["n_seeds"], row["nfe"], row["n_samples"]) == (2, 62, 1000)


def test_one_seed_has_no_std(metrics: pd.DataFrame) -> None:
    row = only(summarise(metrics[metrics["seed"] == 0]), model="var", method="base")
    assert row["fd"] == pytest.approx(19.9)
    assert math.isnan(row["fd_std"]) and row["n_seeds"] == 1


def test_summary_does_not_depend_on_row_order(metrics: pd.DataFrame) -> None:
    shuffled = metrics.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(summarise(metrics), summarise(shuffled))


def test_a_point_evaluated_twice_counts_once(metrics: pd.DataFrame) -> None:
    twice = pd.concat([metrics, metrics.head(3)])
    pd.testing.assert_frame_equal(summarise(metrics), summarise(twice))


def test_a_missing_value_is_never_averaged_away(metrics: pd.DataFrame) -> None:
    chosen = (metrics["method"] == "cfg") & (metrics["guidance"] == 1.0) & (metrics["seed"] == 0)
    metrics.loc[chosen, "fd_digits-net"] = math.nan
    row = only(summarise(metrics), model="edm2", method="cfg", guidance=1.0)
    assert math.isnan(row["fd"])
    assert only(best_rows(metrics), model="edm2", method="cfg")["guidance"] != 1.0


def test_best_rows_have_the_lowest_mean_fd(metrics: pd.DataFrame) -> None:
    best = best_rows(metrics)
    found = best[["model", "method"]].agg("/".join, axis=1).tolist()
    methods = ["base", "cfg", "ddo", "cca", "ccdpo", "mclr", "mclr+dsm"]
    assert found == [f"edm2/{name}" for name in methods] + ["var/base", "var/cfg", "var/mclr"]
    assert only(best, model="edm2", method="cfg")["guidance"] == 1.0
    mclr = only(best, model="edm2", method="mclr")
    assert mclr["step"] == 100 and '"lr":0.0001' in mclr["hyperparameters"]
    assert '"beta":1.0' in only(best, model="edm2", method="ccdpo")["hyperparameters"]


def test_best_is_by_the_mean_not_by_a_lucky_seed(metrics: pd.DataFrame) -> None:
    lucky = (metrics["method"] == "cfg") & (metrics["guidance"] == 2.0) & (metrics["seed"] == 0)
    metrics.loc[lucky, "fd_digits-net"] = 7.0  # mean with the other seed: 9.05, not below 8
    assert only(best_rows(metrics), model="edm2", method="cfg")["guidance"] == 1.0


def test_other_protocols_are_refused_by_name(metrics: pd.DataFrame, tier: Tier) -> None:
    metrics.loc[0, "protocol"] = "p-other"  # of an EDM2 row
    for view in (summarise, best_rows, lambda m: terminal_table(m, tier)):
        with pytest.raises(UserError, match=r"p-0123abcd, p-other"):
            view(metrics)


def test_unknown_names_are_refused_with_the_valid_ones(metrics: pd.DataFrame, tier: Tier) -> None:
    with pytest.raises(UserError, match="measured with digits-net"):
        summarise_of(metrics, "dino")
    with pytest.raises(UserError, match=r"unknown method 'magic'.*ccdpo"):
        make_table(metrics.replace({"method": {"ddo": "magic"}}), tier)
    with pytest.raises(UserError, match="model 'gan' is not in tier digits; expected edm2, var"):
        make_table(metrics.replace({"model": {"var": "gan"}}), tier)
    with pytest.raises(UserError, match="no row of method 'base' for model 'var'"):
        make_table(metrics[metrics["model"] == "edm2"], tier)


def test_blocks_follow_the_paper_and_leave_the_ablation_out(
    metrics: pd.DataFrame, tier: Tier
) -> None:
    edm2, var = make_table(metrics, tier).blocks
    # † CC-DPO at the largest β, MCLR at the largest rate of their sweeps.
    labels = ["EDM2", "+CFG", "+DDO", "+CCA", "+CC-DPO †", "+MCLR †"]
    assert [row.method for row in edm2.rows] == labels
    assert [row.method for row in var.rows] == ["VAR", "+CFG", "+MCLR"]
    assert [row.nfe for row in edm2.rows] == ["31", "62", "31", "31", "31", "31"]
    assert edm2.rows[0].chosen == "" and edm2.rows[1].chosen == "γ = 1"
    assert edm2.rows[4].chosen == "step 100, K=1, batch=64, β=1, lr=0.0001 († β largest)"


def test_anchored_mclr_is_a_row_of_its_own_where_it_has_final_seeds(
    anchored_metrics: pd.DataFrame, anchored_tier: Tier
) -> None:
    """Of diffusion "+ DSM", of exact likelihoods "+ likelihood"; the ablation takes no part."""
    ablation = anchored_metrics["hyperparameters"].str.contains('"dsm":4.0')
    anchored_metrics.loc[ablation, "fd_digits-net"] = 1.0
    edm2, var = make_table(anchored_metrics, anchored_tier).blocks
    labels = ["EDM2", "+CFG", "+DDO", "+CCA", "+CC-DPO", "+MCLR", "+MCLR + DSM"]
    named = [[row.method.removesuffix(" †") for row in block.rows] for block in (edm2, var)]
    assert named == [labels, ["VAR", "+CFG", "+MCLR", "+MCLR + likelihood"]]
    values = {row.method.removesuffix(" †"): row.cells[0].value for row in edm2.rows}
    assert (values["+MCLR"], values["+MCLR + DSM"]) == ("9.10", "9.20")
    assert "dsm=1" in edm2.rows[-1].chosen and "dsm=0" in edm2.rows[-2].chosen


def test_anchored_mclr_of_one_model_makes_no_row_of_another_ones_ablation(
    anchored_metrics: pd.DataFrame, anchored_tier: Tier
) -> None:
    runs = {n: run for n, run in anchored_tier.runs.items() if n != "edm2-anchored"}
    tier = anchored_tier.model_copy(update={"runs": runs})
    text = anchored_metrics["hyperparameters"]
    of_edm2 = (anchored_metrics["model"] == "edm2") & text.str.contains('"dsm":1.0')
    edm2, var = make_table(anchored_metrics[~of_edm2], tier).blocks
    assert not [row.method for row in edm2.rows if row.method.startswith("+MCLR + DSM")]
    assert var.rows[-1].method.startswith("+MCLR + likelihood")


def test_anchored_mclr_is_a_row_of_a_tier_without_final_seeds(
    metrics: pd.DataFrame, tier: Tier
) -> None:
    """As every other method is there, unless its run says that it is an ablation."""
    run = tier.runs["edm2-mclr-dsm"].model_copy(update={"final": True})
    compared = tier.model_copy(update={"runs": tier.runs | {"edm2-mclr-dsm": run}})
    row = make_table(metrics, compared).blocks[0].rows[-1]
    assert (row.method, row.cells[0].value) == ("+MCLR + DSM", "9.10")
    assert [r.method for r in make_table(metrics, tier).blocks[0].rows][-1] == "+MCLR †"


def test_the_caption_names_anchored_mclr_where_it_is_an_ablation_alone(
    metrics: pd.DataFrame, tier: Tier, anchored_metrics: pd.DataFrame, anchored_tier: Tier
) -> None:
    note = "Measured as an ablation, without final seeds, and so no row: MCLR + DSM (EDM2)."
    assert note in make_table(metrics, tier).caption
    assert "ablation" not in make_table(anchored_metrics, anchored_tier).caption
    unmeasured = metrics[metrics["method"] != "mclr+dsm"]
    assert "ablation" not in make_table(unmeasured, tier).caption


def test_marks_best_second_and_ties(metrics: pd.DataFrame, tier: Tier) -> None:
    rows = {row.method: row for row in make_table(metrics, tier).blocks[0].rows}
    ranks = {name: [cell.rank for cell in row.cells] for name, row in rows.items()}
    # Precision of +CFG and +MCLR prints the same: both are best and nobody is second.
    assert ranks == {
        "EDM2": [0, 0, 2, 0],
        "+CFG": [1, 1, 0, 1],
        "+DDO": [0, 0, 1, 0],
        "+CCA": [0, 0, 0, 0],
        "+CC-DPO †": [0, 0, 0, 0],
        "+MCLR †": [2, 1, 0, 2],
    }


def test_a_method_that_never_was_finite_prints_as_such(metrics: pd.DataFrame, tier: Tier) -> None:
    metrics.loc[metrics["method"] == "ddo", "fd_digits-net"] = math.nan
    row = next(row for row in make_table(metrics, tier).blocks[0].rows if row.method == "+DDO")
    assert (row.cells[0].value, row.cells[0].rank) == ("n/a", 0)


def test_small_fds_keep_three_digits(metrics: pd.DataFrame, tier: Tier) -> None:
    metrics["fd_digits-net"] /= 1000
    cells = [row.cells[0].value for row in make_table(metrics, tier).blocks[1].rows]
    assert cells == ["0.02000", "0.00800", "0.00900"]


def test_written_files(metrics: pd.DataFrame, tier: Tier, tmp_path: Path) -> None:
    paths = write_tables(metrics, tier, tmp_path)
    assert [path.name for path in paths] == ["table1.csv", "table1.md", "table1.tex"]
    table = pd.read_csv(tmp_path / "table1.csv")
    assert ",".join(table.columns) == (
        "model,method,nfe,training_passes,fd,fd_std,precision,precision_std,recall,recall_std,is,is_std,"
        "step,guidance,hyperparameters,n_seeds,stage,accuracy,accuracy_std,edge"
    )
    assert len(table) == 9
    assert only(table, model="edm2", method="mclr")["fd_std"] == pytest.approx(STD, rel=1e-5)

    markdown = (tmp_path / "table1.md").read_text()
    assert "| Method | NFE | FD ↓ | Prec. ↑ | Rec. ↑ | IS ↑ |" in markdown
    assert (
        "| +MCLR † | 31 | <u>9.00</u> ± 0.14 | **0.800** ± 0.000 | 0.500 ± 0.000 | "
        "<u>7.60</u> ± 0.14 |" in markdown
    )
    latex = (tmp_path / "table1.tex").read_text()
    assert "+CFG & 62 & \\textbf{8.00} $\\pm$ 0.14 & \\textbf{0.800}" in latex
    assert "\\underline{9.00} $\\pm$ 0.14" in latex
    for text in (markdown, latex):
        assert "1,000 images per seed, 2 seeds per row" in text
        assert "features digits-net; protocol p-0123abcd." in text


def test_one_seed_prints_without_spread(metrics: pd.DataFrame, tier: Tier) -> None:
    single = metrics[metrics["seed"] == 0]
    assert "±" not in terminal_table(single, tier)
    assert "1 seed per row." in make_table(single, tier).caption


def test_latex_escapes_labels(metrics: pd.DataFrame, tier: Tier, tmp_path: Path) -> None:
    label = {"label": "EDM2_S & 100%"}
    models = {**tier.models, "edm2": tier.models["edm2"].model_copy(update=label)}
    write_tables(metrics, tier.model_copy(update={"models": models}), tmp_path)
    assert "EDM2\\_S \\& 100\\% & 31" in (tmp_path / "table1.tex").read_text()


def test_terminal_table_is_aligned(metrics: pd.DataFrame, tier: Tier) -> None:
    lines = terminal_table(metrics, tier).splitlines()
    rows = [line for line in lines if line.startswith(("+", "EDM2 ", "VAR "))]
    assert len(rows) == 9
    assert len({line.index("±") for line in rows}) == 1
    assert max(map(len, lines)) <= 80
    assert any("9.00 ± 0.14+" in line for line in rows)
    assert any("8.00 ± 0.14*" in line for line in rows)


def test_models_may_have_protocols_of_their_own(metrics: pd.DataFrame, tier: Tier) -> None:
    metrics.loc[metrics["model"] == "var", "protocol"] = "p-other"
    assert "protocol p-0123abcd (edm2), p-other (var)." in make_table(metrics, tier).caption


# ------------------------------------------------------------------ final seeds, other nets


def test_final_rows_are_reported_at_the_point_selected_on_the_grid(
    rich_metrics: pd.DataFrame, rich_tier: Tier
) -> None:
    final = rich_metrics["stage"] == "final"
    rich_metrics.loc[final & (rich_metrics["method"] == "mclr"), "fd_digits-net"] = [
        6.0,
        7.0,
        8.0,
    ] * 2
    table = make_table(rich_metrics, rich_tier)
    row = only(table.rows, model="edm2", method="mclr")
    assert (row["fd"], row["fd_std"], row["n_seeds"], row["step"]) == (7.0, 1.0, 3, 100)
    assert "trained again with other seeds and reported on other images" in table.caption
    selected = make_table(rich_metrics, rich_tier, stage="grid")
    row = only(selected.rows, model="edm2", method="mclr")
    assert (row["fd"], row["n_seeds"], row["step"]) == (pytest.approx(9.0), 2, 100)
    assert "selected and reported on the same images" in selected.caption


def test_only_points_that_have_final_rows_are_candidates(
    rich_metrics: pd.DataFrame, rich_tier: Tier
) -> None:
    unfinal = rich_metrics["hyperparameters"].str.contains("P_mean")
    rich_metrics.loc[unfinal, "fd_digits-net"] = 0.1
    row = only(make_table(rich_metrics, rich_tier).rows, model="edm2", method="mclr")
    assert "P_mean" not in row["hyperparameters"] and row["stage"] == "final"


def test_another_net_shows_the_points_that_the_report_net_selected(
    rich_metrics: pd.DataFrame, rich_tier: Tier
) -> None:
    chosen = (rich_metrics["method"] == "cfg") & (rich_metrics["guidance"] == 2.0)
    rich_metrics.loc[chosen, "fd_other-net"] = 0.1
    row = only(make_table(rich_metrics, rich_tier, "other-net").rows, model="edm2", method="cfg")
    assert row["guidance"] == 1.0 and row["fd"] == pytest.approx(2 * 8.1)


def test_real_images_lead_the_block_unranked_and_studies_stay_out(
    rich_metrics: pd.DataFrame, rich_tier: Tier
) -> None:
    block = make_table(rich_metrics, rich_tier).blocks[0]
    labels = ["Real images", "EDM2", "+CFG", "+DDO", "+CCA †", "+CC-DPO †", "+MCLR †"]
    assert [row.method for row in block.rows] == labels
    real = block.rows[0]
    assert real.nfe == "–" and [cell.rank for cell in real.cells] == [0, 0, 0, 0]
    assert real.cells[0].value == "0.50" and block.rows[2].cells[0].rank == 1
    assert floors(rich_metrics)["n_samples"].unique().tolist() == [500, 1000]


def test_every_version_of_the_table_is_written(
    rich_metrics: pd.DataFrame, rich_tier: Tier, tmp_path: Path
) -> None:
    paths = write_tables(rich_metrics, rich_tier, tmp_path)
    assert [path.name for path in paths] == table_files(rich_tier)
    names = ["table1", "table1_other-net", "table1_selected"]
    assert [table.name for table in tables(rich_metrics, rich_tier)] == names
    assert "+MCLR" in (tmp_path / "table1_selected.md").read_text()


def test_show_prints_the_table_for_people_and_for_programs(
    metrics: pd.DataFrame, tier: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    Path("tier.yaml").write_text(canonical(tier))
    missing = CliRunner().invoke(cli, ["show", "--config", "tier.yaml"])
    assert isinstance(missing.exception, UserError) and "no results yet" in str(missing.exception)
    Path("results", tier.tier).mkdir(parents=True)
    metrics.to_parquet(Path("results", tier.tier, "metrics.parquet"))
    shown = CliRunner().invoke(cli, ["show", "--config", "tier.yaml"])
    assert shown.stdout.startswith(terminal_table(metrics, tier))
    command = f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db --port 5000"
    assert command in shown.stdout
    found = json.loads(CliRunner().invoke(cli, ["show", "--config", "tier.yaml", "--json"]).stdout)
    rows = make_table(metrics, tier).rows
    assert [row["method"] for row in found["rows"]] == list(rows["method"])
    assert [row["fd"] for row in found["rows"]] == pytest.approx(list(rows["fd"]), nan_ok=True)
    assert found["report"] == f"results/{tier.tier}/report.html"
    assert (found["mlflow"], found["links"]) == (command, [])


def test_rows_made_with_other_packages_are_told_below_the_table(
    metrics: pd.DataFrame, tier: Tier
) -> None:
    assert "packages" not in make_table(metrics, tier).caption
    metrics["packages"] = None
    metrics.loc[metrics.index[:2], "packages"] = "torch 2.13.0 (requirements.lock: 2.14.1)"
    told = (
        "Made with other packages than the lock file's, so numbers may differ from its: torch "
        f"2.13.0 (requirements.lock: 2.14.1) (2 of {len(metrics)} rows)."
    )
    assert make_table(metrics, tier).caption.endswith(told)
    assert told in " ".join(terminal_table(metrics, tier).split())

"""Names of figures, what the curves hold, and the files written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from grid_levels import CLASSES, level
from PIL import Image

from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.objectives.catalogue import METHODS
from mclr.planning.plan import Plan
from mclr.report.chart import Chart, Panel, Series, has_band
from mclr.report.curves import charts, write_figures
from mclr.report.grids import mosaic, progressive_columns, progressive_grid, write_grids
from mclr.report.interactive import drawing, write_html
from mclr.report.methods import describe, varying
from mclr.report.names import LIBRARY, figure_files, figure_names, similarity_files
from mclr.report.scale import LINEAR, LOG, of_metric, of_steps
from mclr.report.static import write_static
from mclr.report.words import spots

NAMES = [str(label) for label in range(CLASSES)]


@pytest.fixture(scope="session")
def drawn(_metrics: pd.DataFrame, tier: Tier) -> dict[str, Chart]:
    return {chart.stem: chart for chart in charts(_metrics, tier)}


def series(chart: Chart, label: str, panel: int = 0) -> Series:
    return next(line for line in chart.panels[panel].series if line.label == label)


# ------------------------------------------------------------------ names


def test_figure_names_come_from_the_configuration(tier: Tier) -> None:
    shared = ["fd-is", "precision-recall", "class-accuracy"]
    sweeps = ["dsm-ablation", "ccdpo-beta", "mclr-lr"]
    edm2 = ["metrics-vs-step", *shared, *sweeps, "cost", "equal-cost", "progressive"]
    var = ["metrics-vs-step", *shared, "cost", "equal-cost", "progressive"]
    assert figure_names(tier) == [f"edm2-{k}" for k in edm2] + [f"var-{k}" for k in var]
    bare = tier.model_copy(update={"runs": {}})
    assert figure_names(bare) == [f"{m}-{kind}" for m in ("edm2", "var") for kind in shared]
    assert similarity_files(bare) == [] and "edm2-similarity.png" in similarity_files(tier)


def test_studies_sweeps_and_other_nets_have_figures_of_their_own(rich_tier: Tier) -> None:
    names = set(figure_names(rich_tier))
    per_net = {"metrics-vs-step", "fd-is", "precision-recall"}
    assert {f"edm2-{kind}-other-net" for kind in per_net} <= names
    assert {f"edm2-{k}" for k in ("cca-lambda", "mclr-noise", "sampling", "dial")} <= names
    assert not {f"var-{k}" for k in ("cca-lambda", "mclr-noise", "sampling", "dial")} & names


def test_names_import_no_plotting_library() -> None:
    code = (
        "import sys, mclr.report.names, mclr.report.methods\n"
        "print([m for m in ('torch', 'matplotlib', 'plotly', 'pandas') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_methods_look_different() -> None:
    assert len({method.colour for method in METHODS.values()}) == len(METHODS)
    assert len({method.marker for method in METHODS.values()}) == len(METHODS)
    assert len({method.symbol for method in METHODS.values()}) == len(METHODS)


def test_only_varying_hyperparameters_are_named() -> None:
    variants = ['{"K":1,"beta":0.1,"lr":0.001}', '{"K":1,"beta":2.0,"lr":0.001}']
    assert varying(variants) == {"beta"}
    assert describe(variants[1], {"beta"}) == "β=2"
    assert describe(variants[0]) == "K=1, β=0.1, lr=0.001"


# ------------------------------------------------------------------ curves


def test_steps_start_at_the_base_model(drawn: dict[str, Chart]) -> None:
    chart = drawn["edm2-metrics-vs-step"]
    assert [panel.y_label for panel in chart.panels] == [
        "FD ↓",
        "Inception Score ↑",
        "Precision ↑",
        "Recall ↑",
    ]
    line = series(chart, "+MCLR")
    assert line.x == (0, 50, 100, 200)
    assert line.y == pytest.approx((20, 12, 9, 12))
    assert line.spread == pytest.approx([0.2 / np.sqrt(2)] * 4)
    labels = [line.label for line in chart.panels[0].series]
    assert labels == ["+DDO", "+CCA", "+CC-DPO", "+MCLR", "+MCLR + DSM", "Start (EDM2)"]


def test_sweeps_show_a_line_per_value(drawn: dict[str, Chart]) -> None:
    chart = drawn["edm2-mclr-lr"]
    labels = [line.label for line in chart.panels[0].series]
    assert labels == ["lr = 1e-05", "lr = 0.0001", "Start (EDM2)"]
    assert series(chart, "lr = 0.0001").y == pytest.approx((20, 12, 9, 12))
    assert len({line.colour for line in chart.panels[0].series}) == 3


def test_trade_offs_follow_guidance_and_the_best_variant(drawn: dict[str, Chart]) -> None:
    chart = drawn["edm2-fd-is"]
    labels = [line.label for line in chart.panels[0].series]
    assert labels == ["+CFG", "+DDO", "+CCA", "+CC-DPO", "+MCLR", "Start (EDM2)"]
    cfg = series(chart, "+CFG")
    assert cfg.x == pytest.approx((20, 11, 8, 11))
    assert cfg.y == pytest.approx((6, 7.8, 8, 8.2))
    assert cfg.notes == {1: "γ=0.5", 2: "γ=1", 3: "γ=2"} and cfg.ring == 2
    mclr = series(chart, "+MCLR")
    assert mclr.x == pytest.approx((20, 12, 9, 12)) and mclr.ring == 2
    assert mclr.notes == {3: "End"} and series(chart, "Start (EDM2)").notes == {0: "Start"}
    recall = series(drawn["edm2-precision-recall"], "+MCLR")
    assert recall.x == pytest.approx((0.61, 0.53, 0.50, 0.47))
    assert recall.hover[2] == (
        "<b>+MCLR</b>, step 100<br>FD 9.00 ± 0.14<br>Inception Score 7.60 ± 0.14"
        "<br>Precision 0.800 ± 0.000<br>Recall 0.500 ± 0.000"
        "<br>K=1, batch=64, dsm=0, lr=0.0001"
    )
    assert recall.hover[0].startswith("<b>+MCLR</b>, base model<br>FD 20.00")


@pytest.fixture(scope="session")
def rich(_rich_metrics: pd.DataFrame, rich_tier: Tier) -> dict[str, Chart]:
    return {chart.stem: chart for chart in charts(_rich_metrics, rich_tier)}


def test_studies_start_at_the_checkpoint_they_sample(rich: dict[str, Chart]) -> None:
    on_top = series(rich["edm2-fd-is"], "+MCLR + CFG")
    assert on_top.x == pytest.approx((9.0, 8.5 + 3 - 0.1, 8.5 - 0.1))
    assert on_top.notes == {2: "γ=1"}
    interval = series(rich["edm2-sampling"], "+CFG in an interval")
    assert interval.x[0] == pytest.approx(20.0)  # the base model


def test_dial_goes_from_the_base_through_mclr(rich: dict[str, Chart]) -> None:
    line = series(rich["edm2-dial"], "+MCLR, dialled (NFE 31)")
    assert line.x == (0.0, 0.5, 1.0, 1.5)
    assert line.y[0] == pytest.approx(20.0) and line.y[2] == pytest.approx(9.0)


def test_real_images_are_a_dotted_level_that_does_not_stretch_the_scale(
    rich: dict[str, Chart],
) -> None:
    panel = rich["edm2-metrics-vs-step"].panels[0]
    real = next(line for line in panel.series if line.label == "Real images")
    assert real.guide and real.y == (0.5, 0.5) and real.x == (0, 200)
    assert panel.y != LOG and not has_band(real)


def test_another_net_has_its_own_values(rich: dict[str, Chart]) -> None:
    assert series(rich["edm2-metrics-vs-step-other-net"], "+MCLR").y[2] == pytest.approx(18.0)


def test_cost_holds_a_point_per_method(rich: dict[str, Chart]) -> None:
    points = {line.label: line.x for line in rich["edm2-cost"].panels[0].series}
    assert points["+MCLR"] == (31,) and points["+CFG"] == points["+MCLR + CFG"] == (62,)
    assert 31 < points["+CFG in an interval"][0] < 62


def test_noise_levels_of_a_run_without_its_own_are_the_models(rich: dict[str, Chart]) -> None:
    labels = [line.label for line in rich["edm2-mclr-noise"].panels[0].series]
    assert labels[:2] == ["P_mean = -0.8, P_std = 1.6", "P_mean = 0.5, P_std = 1"]


def test_dsm_ablation_holds_both_methods(drawn: dict[str, Chart]) -> None:
    methods = {line.method.name for line in drawn["edm2-dsm-ablation"].panels[1].series}
    assert methods == {"base", "mclr", "mclr+dsm"}
    assert "var-dsm-ablation" not in drawn


def test_anchored_mclr_has_a_path_where_it_has_a_row(
    anchored_metrics: pd.DataFrame, anchored_tier: Tier
) -> None:
    """Called as in Table 1 of the model."""
    found = {chart.stem: chart for chart in charts(anchored_metrics, anchored_tier)}
    for model, label in (("edm2", "+MCLR + DSM"), ("var", "+MCLR + likelihood")):
        for kind in ("fd-is", "metrics-vs-step"):
            assert label in {line.label for line in found[f"{model}-{kind}"].panels[0].series}


def test_one_run_that_diverges_does_not_squeeze_the_rest(metrics: pd.DataFrame, tier: Tier) -> None:
    assert charts(metrics, tier)[0].panels[0].y == LINEAR
    last = (metrics["step"] == 200) & (metrics["method"] == "mclr")
    metrics.loc[last, "fd_digits-net"] = 4000.0
    panel = charts(metrics, tier)[0].panels[0]
    assert panel.titles[0] == "Fine-tuning step"
    assert re.fullmatch(r"FD ↓\n\(compressed above \d+(\.\d)?\)", panel.titles[1])
    assert panel.y.ticks[-1][1] == "4e+03"
    rest, outlier = panel.y.place(20.0) - panel.y.place(9.0), panel.y.place(4000.0)
    assert rest == pytest.approx(11.0) and outlier < 30
    assert charts(metrics, tier)[1].panels[0].x.note.startswith("compressed above")


def test_an_fd_axis_turns_logarithmic_where_values_are_far_apart() -> None:
    spread = [2.0**i for i in range(12)]
    assert of_metric(spread, log=True) == LOG and not of_metric(spread).log


def test_a_step_axis_shows_the_first_steps_as_well_as_the_last() -> None:
    scale = of_steps([0, 5, 10, 20, 40, 80, 160, 320])
    assert [scale.place(step) for step in (0, 2.5, 5, 10, 40, 320)] == [0, 0.5, 1, 2, 4, 7]
    assert [words for _, words in scale.ticks] == ["0", "5", "10", "20", "40", "80", "160", "320"]
    assert scale.note == "logarithmic" and of_steps([0, 50, 100, 200]) == LINEAR
    many = of_steps([2.0**i for i in range(30)])
    assert len(many.ticks) <= 10


def test_both_drawings_of_an_outlier_place_it_alike(
    metrics: pd.DataFrame, tier: Tier, tmp_path: Path
) -> None:
    last = (metrics["step"] == 200) & (metrics["method"] == "mclr")
    metrics.loc[last, "fd_digits-net"] = 4000.0
    chart = charts(metrics, tier)[0]
    panel = chart.panels[0]
    drawn = drawing(chart)
    named = [t for t in drawn["data"] if t.get("name") == "+MCLR" and t["xaxis"] == "x"]
    (trace,) = named
    assert trace["y"][-1] == pytest.approx(panel.y.place(4000.0))
    assert drawn["layout"]["yaxis"]["ticktext"][-1] == "4e+03"
    assert drawn["layout"]["yaxis"]["title"]["text"].startswith("FD ↓<br>(compressed above")
    assert write_static(chart, tmp_path / "chart.pdf").read_bytes().startswith(b"%PDF")


# ------------------------------------------------------------------ words


def of_points(*points: tuple[float, float], note: str = "End") -> Panel:
    """A panel of lines of one point each, all with a word beside it."""
    return Panel(
        "x",
        "y",
        tuple(
            Series(f"{i}", METHODS["mclr"], (x, 0.0), (y, 0.0), (None, None), ("", ""), {0: note})
            for i, (x, y) in enumerate(points)
        ),
    )


def test_words_do_not_cover_each_other() -> None:
    apart = spots(of_points((0.5, 0.5), (1.0, 1.0)), 1)
    assert set(apart) == {(0, 0), (1, 0)}
    near = spots(of_points((1.0, 1.0), (0.99, 0.99), note="γ=1"), 1)
    assert len(near) == 2 and len(set(near.values())) == 2
    crowd = spots(of_points(*[(1.0 + i / 1000, 1.0) for i in range(20)]), 2)
    assert 1 <= len(crowd) < 9


def test_a_method_without_finite_fd_is_drawn_without_ring(
    metrics: pd.DataFrame, tier: Tier
) -> None:
    metrics.loc[metrics["method"] == "mclr", "fd_digits-net"] = np.nan
    assert series(charts(metrics, tier)[1], "+MCLR").ring is None


def test_files_written_are_those_named_and_the_same_each_time(
    metrics: pd.DataFrame, tier: Tier, stored_grids: dict[str, Path], tmp_path: Path
) -> None:
    # One model with a single variant of one method has few figures, and is quick.
    runs = {"edm2-mclr": tier.runs["edm2-mclr"].model_copy(update={"sweep": {"lr": [1e-4]}})}
    small = tier.model_copy(update={"models": {"edm2": tier.models["edm2"]}, "runs": runs})
    rows = metrics[(metrics["model"] == "edm2") & metrics["method"].isin(["base", "cfg", "mclr"])]
    paths = write_figures(rows, small, tmp_path)
    paths += write_grids(rows, small, stored_grids, NAMES, tmp_path)
    assert sorted(path.name for path in paths) == sorted(figure_files(small))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(figure_files(small))
    stems = {path.stem for path in paths if path.name != LIBRARY}
    assert stems == set(figure_names(small))
    again = tmp_path / "again"
    chart = charts(rows, small)[1]
    for path in (write_static(chart, again / f"{chart.stem}.{end}") for end in ("pdf", "png")):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    page = write_html(chart, again / f"{chart.stem}.html")
    assert page.read_bytes() == (tmp_path / page.name).read_bytes()


# ------------------------------------------------------------------ grids


def test_grid_columns_are_base_by_guidance_then_best_run_by_step(
    metrics: pd.DataFrame, tier: Tier
) -> None:
    top, bottom = progressive_columns(metrics, tier, "edm2")
    assert [text for text, _ in top] == ["0", "0.5", "1", "2"]
    assert [text for text, _ in bottom] == ["0", "50", "100", "200"]
    assert {point.seed for _, point in [*top, *bottom]} == {0}
    assert bottom[0][1] == top[0][1]
    assert {point.run.run_id for _, point in bottom[1:]} == {"edm2-mclr-lr0.0001-seed0"}


def test_a_run_that_goes_on_from_the_grid_adds_its_steps(metrics: pd.DataFrame, tier: Tier) -> None:
    """The same hyperparameters in another experiment, whose name comes first."""
    later = tier.runs["edm2-mclr"].model_copy(
        update={"sweep": {}, "lr": 1e-4, "checkpoints": [400]}
    )
    longer = tier.model_copy(update={"runs": tier.runs | {"edm2-mclr-late": later}})
    end = (metrics["run_id"] == "edm2-mclr-lr0.0001-seed0") & (metrics["step"] == 200)
    more = metrics[end].assign(run_id="edm2-mclr-late-seed0", step=400)
    _, bottom = progressive_columns(pd.concat([metrics, more]), longer, "edm2")
    assert [text for text, _ in bottom] == ["0", "50", "100", "200", "400"]
    runs = [point.run.run_id for _, point in bottom[1:]]
    assert runs == [*["edm2-mclr-lr0.0001-seed0"] * 3, "edm2-mclr-late-seed0"]


def test_mosaic_enlarges_without_smoothing_and_pads_with_white() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    canvas = mosaic([[image, image]], width=3)
    pitch = 96 + 4
    assert canvas.shape == (96, 3 * pitch - 4, 3)
    for y, x in ((0, 0), (47, 47), (48, 0), (95, 95)):
        expected = image[y // 48, x // 48]
        assert canvas[y, x].tolist() == canvas[y, pitch + x].tolist() == expected.tolist()
    assert (canvas[:, 96:pitch] == 255).all() and (canvas[:, 2 * pitch :] == 255).all()


def test_every_image_of_the_figure_is_its_own_cell(
    metrics: pd.DataFrame, tier: Tier, stored_grids: dict[str, Path]
) -> None:
    figure = progressive_grid(metrics, tier, "edm2", stored_grids, NAMES)
    plan = Plan(tier)
    numbers = {
        point.path: number
        for number, point in enumerate(p for name in plan.experiments for p in plan.points(name))
    }
    blocks = progressive_columns(metrics, tier, "edm2")
    assert len(figure.axes) == 4
    for i, axes in enumerate(figure.axes):
        canvas = np.asarray(axes.images[0].get_array())
        for label in range(CLASSES):
            for column, (_, point) in enumerate(blocks[i // 2]):
                shown = canvas[label * 100 + 10, column * 100 + 10].tolist()
                assert shown == [level(numbers[point.path], i % 2, label)] * 3


def test_colour_grids_and_many_classes(metrics: pd.DataFrame, tier: Tier, tmp_path: Path) -> None:
    colour = (9, 90, 200)
    path = tmp_path / "shard-000.png"
    Image.fromarray(np.full((2 * 4, 100 * 4, 3), colour, dtype=np.uint8)).save(path)
    plan = Plan(tier)
    grids = {point.path: path for name in plan.experiments for point in plan.points(name)}
    figure = progressive_grid(metrics, tier, "var", grids, [f"c{i}" for i in range(100)])
    axes = figure.axes[0]
    shown = np.asarray(axes.images[0].get_array())
    assert tuple(shown[5, 5]) == colour
    classes = [text.get_text() for text in axes.get_yticklabels()]
    assert len(classes) == 10 and (classes[0], classes[-1]) == ("c0", "c99")


def test_missing_and_odd_grids_are_refused_by_path(
    metrics: pd.DataFrame, tier: Tier, stored_grids: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"guidance-0/seed-0: image grid is missing"):
        write_grids(metrics, tier, {}, NAMES, tmp_path)
    with pytest.raises(UserError, match=r"shard-000.png: 80×16 pixels are not 2 rows of 7"):
        write_grids(metrics, tier, stored_grids, NAMES[:7], tmp_path)
    untuned = metrics[metrics["method"] != "mclr"]
    with pytest.raises(UserError, match="no row of method 'mclr' for model 'edm2'"):
        write_grids(untuned, tier, stored_grids, NAMES, tmp_path)

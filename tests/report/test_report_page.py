"""The report page: complete, self-contained, and the same for the same inputs."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from mclr.claims.render import shown
from mclr.claims.verdicts import as_json, findings
from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.planning.plan import Plan
from mclr.report import facts
from mclr.report.cost import Cost
from mclr.report.curves import charts
from mclr.report.interactive import write_html, write_library
from mclr.report.names import KINDS, figure_names, figures_of
from mclr.report.page import Sources, write_report
from mclr.settings.data import OwnImages

INFO: dict[str, Any] = {
    "digits-net": {"held_out_accuracy": 0.986, "train_accuracy": 1.0, "settings": {}}
}
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects tags and text, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            self.scripts.append(data)
        elif inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def figures(tier: Tier, tmp_path: Path) -> Path:
    """A small PNG in the place of each figure."""
    folder = tmp_path / "figures"
    folder.mkdir()
    for name in figure_names(tier):
        Image.new("RGB", (4, 4), "white").save(folder / f"{name}.png")
    return folder


@pytest.fixture
def provenance(tier: Tier) -> list[dict[str, Any]]:
    return [
        {
            "git_commit": "c0ffee1234567890",
            "git_dirty": True,
            "hardware": "Some CPU, 2 cores",
            "python": "3.11.2",
            "packages": {"torch": "2.14.1", "numpy": "2.4.6"},
            "data_sha256": "ab" * 32,
            "config_sha256": "cd" * 32,
            "experiment": run.experiment,
            "method": run.method,
            "hyperparameters": run.hyperparameters,
            "seed": run.seed,
            "seconds": 90.0,
        }
        for run in Plan(tier).runs.values()
    ]


@pytest.fixture(scope="session")
def claims(_metrics: pd.DataFrame, tier: Tier) -> dict[str, Any]:
    return shown(as_json(findings(_metrics, tier), tier), list(tier.models))


@pytest.fixture
def sources(provenance: list[dict[str, Any]], claims: dict[str, Any]) -> Sources:
    return Sources(provenance, INFO, claims)


@pytest.fixture
def report(
    metrics: pd.DataFrame, tier: Tier, figures: Path, sources: Sources, tmp_path: Path
) -> str:
    path = tmp_path / "report.html"
    write_report(metrics, tier, figures, sources, path)
    return path.read_text(encoding="utf-8")


def loads(page: Page) -> list[str]:
    """Addresses that a browser would fetch to show the page."""
    sources = [attrs.get("src") for _, attrs in page.tags]
    links = [attrs.get("href") for tag, attrs in page.tags if tag in ("link", "image", "use")]
    return [address for address in [*sources, *links] if address]


def test_page_is_well_formed_and_loads_nothing(report: str) -> None:
    page = Page(report)
    assert page.open == []
    assert all(address.startswith("data:image/webp;base64,") for address in loads(page))
    styles = "".join(re.findall(r"<style>(.*?)</style>", report, re.DOTALL))
    assert "url(" not in styles and "@import" not in styles
    assert "prefers-color-scheme: dark" in styles
    assert ("html", {"lang": "en"}) in page.tags
    assert any(attrs.get("name") == "viewport" for tag, attrs in page.tags if tag == "meta")


def unpacked(text: str, name: str) -> str:
    """What the page holds compressed under an id."""
    found = re.search(rf'<script type="text/plain" id="{name}">(.*?)</script>', text)
    assert found
    return gzip.decompress(base64.b64decode(found[1])).decode()


def test_charts_and_their_library_are_held_once_and_compressed(
    report: str, metrics: pd.DataFrame, tier: Tier
) -> None:
    page = Page(report)
    assert "plotly.js v" in unpacked(report, "plotly")[:200]
    drawn = json.loads(unpacked(report, "charts"))
    assert list(drawn) == [chart.stem for chart in charts(metrics, tier)] and len(drawn) == 15
    places = [attrs["id"] for _, attrs in page.tags if "plot" in (attrs.get("class") or "").split()]
    assert places == [f"chart-{name}" for name in drawn]
    assert all("min-height" in (a["style"] or "") for _, a in page.tags if "style" in a)
    assert len(report) < 2.4e6  # of which the library is 2 MB


def test_every_heading_can_be_linked_to_and_every_table_has_a_caption(report: str) -> None:
    page = Page(report)
    headings = [attrs for tag, attrs in page.tags if tag in ("h1", "h2", "h3", "h4")]
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(headings) > 20 and all(attrs.get("id") for attrs in headings)
    assert len(set(ids)) == len(ids)
    tags = [tag for tag, _ in page.tags]
    tables = [i for i, tag in enumerate(tags) if tag == "table"]
    assert len(tables) > 5 and all(tags[i + 1] == "caption" for i in tables)
    links = [attrs["href"] or "" for tag, attrs in page.tags if tag == "a"]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_claims_are_folded_and_say_what_they_come_to(report: str) -> None:
    page = Page(report)
    topics = [attrs for tag, attrs in page.tags if attrs.get("class") == "topic"]
    assert len(topics) > 5 and all("open" not in attrs for attrs in topics)
    assert re.search(r"Better than the base model \d+ observation", page.text)


def test_the_page_begins_with_what_came_out(report: str) -> None:
    assert Page(report).text.startswith("MCLR, tier digits: results MCLR, tier digits: results In")
    assert 'class="answer">In these settings MCLR lowers FD on 2 of 2 models' in report


def test_own_images_have_their_own_verdict_and_nothing_of_the_paper(
    metrics: pd.DataFrame, tier: Tier, figures: Path, sources: Sources, tmp_path: Path
) -> None:
    data = OwnImages(source="images", path="pictures", resolution=8, n_reference=500)
    own = tier.model_copy(update={"data": data})
    path = tmp_path / "own.html"
    write_report(metrics, own, figures, sources, path)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert "MCLR helped on these images: FD 9 against 20 without it (−55 %)" in page.text
    assert "Guidance 1 of the base model goes further: FD 8 at 62" in page.text
    for word in ("In the paper", "the paper", "ImageNet", "EDM2-S", "supported"):
        assert word not in page.text, word
    imagenet = tier.model_copy(update={"data": data.model_copy(update={"classes": 1000})})
    write_report(metrics, imagenet, figures, sources, path)
    assert "EDM2-S, ImageNet" in path.read_text(encoding="utf-8")


def test_the_page_says_in_short_what_came_out(report: str) -> None:
    text = Page(report).text
    assert (
        "EDM2: FD 20.00 without guidance (NFE 31), 8.00 with CFG (NFE 62), 9.00 with MCLR" in text
    )
    assert "MCLR, without guidance (NFE 3)" in text


def test_the_papers_numbers_stand_beside_ours(report: str) -> None:
    text = Page(report).text
    assert "EDM2-S, ImageNet 64×64 in the paper; here EDM2" in text
    assert "+CFG 43.75 8.00 0.46 0.40 0.800 0.800 0.565 0.560 127.40 8.00 2.11 1.33" in text


def test_cost_is_told_or_said_to_be_unknown(
    report: str, metrics: pd.DataFrame, tier: Tier, figures: Path, sources: Sources, tmp_path: Path
) -> None:
    assert "EDM2 31 62" in Page(report).text and "How long the jobs took is not known" in report
    measured = replace(sources, costs=[Cost("train base models", 2, 7200, 5400)])
    write_report(metrics, tier, figures, measured, tmp_path / "costs.html")
    text = Page((tmp_path / "costs.html").read_text(encoding="utf-8")).text
    assert "train base models 2 2.0 h 1.0 h 1.5 h" in text and "(2 jobs, 1.50 core-hours)" in text


def test_images_are_embedded_once_and_sliders_are_labelled(
    report: str,
    metrics: pd.DataFrame,
    tier: Tier,
    figures: Path,
    sources: Sources,
    stored_grids: dict[str, Path],
    tmp_path: Path,
) -> None:
    assert "From the same noise" not in report and 'id="sheets">{}<' in report
    names = [str(label) for label in range(10)]
    full = replace(sources, grids=stored_grids, class_names=names)
    write_report(metrics, tier, figures, full, tmp_path / "full.html")
    page = Page((tmp_path / "full.html").read_text(encoding="utf-8"))
    assert page.open == []
    sheets = json.loads(
        next(text for text in page.scripts if text.startswith('{"') and "data:" in text)
    )
    assert len(set(sheets.values())) == len(sheets)  # each embedded once
    stops = [
        json.loads(attrs["data-stops"] or "") for _, attrs in page.tags if "data-stops" in attrs
    ]
    assert [len(track) for track in stops] == [1, 4, 4, 1, 4, 3]
    assert {stop["key"] for track in stops for stop in track} <= set(sheets)
    labels = {attrs["for"] for tag, attrs in page.tags if tag == "label"}
    controls = [attrs for tag, attrs in page.tags if tag in ("input", "select")]
    assert len(controls) == 4 + 4 and {attrs["id"] for attrs in controls} == labels


def test_every_figure_has_alt_text_and_names_the_papers_figure(report: str, tier: Tier) -> None:
    page = Page(report)
    anchors = [attrs["id"] for tag, attrs in page.tags if tag == "figure"]
    assert anchors == [f"figure-{name}" for name in figure_names(tier)]
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 2 and all(attrs["alt"] for attrs in images)  # progressive grids
    plots = [a for _, a in page.tags if "plot" in (a.get("class") or "").split()]
    assert len(plots) + len(images) == len(anchors)
    assert all(a["role"] == "group" and a["aria-label"] for a in plots)
    for kind in {
        name: KINDS[name] for m in tier.models for name, _ in figures_of(tier, m)
    }.values():
        assert f"{kind.caption} In the paper: {kind.paper}." in page.text


def test_unknown_code_is_no_clean_code() -> None:
    unknown = {"git_commit": "unknown", "git_dirty": None}
    assert facts.sources([unknown]) == [("git commit", ["unknown"]), ("git dirty", ["unknown"])]
    assert facts.run(unknown)["commit"] == "unknown"
    older = {"git_commit": "", "git_dirty": False}
    assert facts.sources([older, unknown])[0] == ("git commit", ["unknown"])


def test_table_claims_features_protocol_and_provenance_are_told(report: str) -> None:
    text = Page(report).text
    assert "MCLR reaches a lower FD than CC-DPO" in text
    assert "○ −3, −25 % digits-net" in text
    assert "not measured, counted per model" in text and "With Holm’s correction" in text
    assert (
        "What would change our mind" in text and "Seen on too few seeds (2): 5 would tell" in text
    )
    assert "training passes" in text and re.search(r"\+MCLR † 31 [\d,]{4,} 9\.00", text)
    assert "digits-net 98.6 % 100.0 %" in text
    assert "protocol id p-0123abcd" in text and "k = 3 nearest neighbours" in text
    assert "git commit c0ffee1234567890 git dirty yes hardware Some CPU, 2 cores" in text
    assert "packages numpy 2.4.6, torch 2.14.1" in text
    assert '<strong>8.00</strong> <span class="spread">± 0.14</span>' in report
    assert "<u>9.00</u>" in report
    assert "All 18 training runs" in text


def test_text_from_the_configuration_is_escaped(
    metrics: pd.DataFrame,
    tier: Tier,
    figures: Path,
    sources: Sources,
    tmp_path: Path,
) -> None:
    label = {"label": "<script>alert(1)</script>"}
    models = {**tier.models, "edm2": tier.models["edm2"].model_copy(update=label)}
    changed = tier.model_copy(update={"models": models})
    write_report(metrics, changed, figures, sources, tmp_path / "report.html")
    write_html(charts(metrics, changed)[0], tmp_path / "chart.html")
    for name in ("report.html", "chart.html"):
        assert "<script>alert" not in (tmp_path / name).read_text(encoding="utf-8")


def test_same_inputs_same_bytes(
    report: str,
    metrics: pd.DataFrame,
    tier: Tier,
    figures: Path,
    sources: Sources,
    tmp_path: Path,
) -> None:
    again = tmp_path / "again.html"
    write_report(metrics, tier, figures, sources, again)
    assert again.read_text(encoding="utf-8") == report


def test_a_missing_figure_is_named(
    metrics: pd.DataFrame, tier: Tier, figures: Path, sources: Sources, tmp_path: Path
) -> None:
    (figures / "var-progressive.png").unlink()
    with pytest.raises(UserError, match=r"var-progressive\.png: figure is missing"):
        write_report(metrics, tier, figures, sources, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_interactive_chart_is_a_page_that_works_offline(
    metrics: pd.DataFrame, tier: Tier, tmp_path: Path
) -> None:
    chart = charts(metrics, tier)[0]
    page = Page(write_html(chart, tmp_path / "chart.html").read_text(encoding="utf-8"))
    library = write_library(tmp_path)
    assert page.open == [] and loads(page) == [library.name]
    assert "EDM2: Metrics against fine-tuning steps" in page.text
    assert "plotly.js v" in library.read_text(encoding="utf-8")[:200]
    assert any(attrs.get("id") == f"chart-{chart.stem}" for _, attrs in page.tags)


SHARED = {"mean": 120.0, "error": 3.0, "top": 0.9, "black": 0.5, "white": 0.01}
SIMILARITY = {
    "models": {
        "edm2": {
            "steps": [50, 100],
            "scales": [0.5, 1.0],
            "nets": {
                "digits-net": {
                    "classes": [[0.2, 0.3], [0.7, 0.4]],
                    "images": [[0.1, 0.1], [0.6, 0.1]],
                    "control": [[0.1, 0.1], [0.35, 0.1]],
                }
            },
        }
    }
}
SEPARATION = {
    "edm2": {
        "images": {
            "real": SHARED | {"guidance": 0.0, "contrast": 0.25, "saturation": 0.0},
            "cfg": SHARED | {"guidance": 1.5, "contrast": 0.31, "saturation": 0.0},
        }
    }
}


def test_analyses_are_shown_where_they_were_made(
    report: str,
    metrics: pd.DataFrame,
    tier: Tier,
    figures: Path,
    sources: Sources,
    tmp_path: Path,
) -> None:
    assert "Similarity of effect</h2>" not in report and "Class separation and pixels" not in report
    Image.new("RGB", (4, 4), "white").save(figures / "edm2-similarity.png")
    full = replace(sources, similarity=SIMILARITY, separation=SEPARATION)
    write_report(metrics, tier, figures, full, tmp_path / "full.html")
    page = Page((tmp_path / "full.html").read_text(encoding="utf-8"))
    assert "EDM2 digits-net 0.70 step 100, γ = 0.5 0.60 0.35" in page.text
    assert "CFG, γ of Table 1 = 1.5 120 ± 3 90.0 % 50.0 % 1.00 % 0.310 0.000" in page.text


def test_other_tables_and_floors_are_shown(
    rich_metrics: pd.DataFrame, rich_tier: Tier, claims: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    for name in figure_names(rich_tier):
        Image.new("RGB", (4, 4), "white").save(folder / f"{name}.png")
    path = tmp_path / "report.html"
    write_report(rich_metrics, rich_tier, folder, Sources([], INFO, claims, shared_images=3), path)
    text = Page(path.read_text(encoding="utf-8")).text
    assert "table1_other-net: the same with another feature net" in text
    assert "table1_selected: the same by the paper’s rule" in text
    assert "What real images score" in text and "edm2 500 0.5 0.9 0.9 0.5 0.9 0.9 9" in text
    assert "seeds 0, 1; final: 2, 3, 4" in text
    assert "held-out images of digits; 3 were trained on, too" in text

"""The lab: topics by name, results gathered into one file and one page."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

from mclr.commands.theory import theory, theory_page
from mclr.errors import UserError
from mclr.theory.lab import run as lab
from mclr.theory.lab.drawing import panels, save, style
from mclr.theory.lab.statement import Statement

TOPICS = ("theorem1", "cca")
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Collects tags, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def statement(name: str, deviation: float) -> Statement:
    return Statement(
        id=name,
        title="Theorem 0",
        equations="(0)",
        claim="1 < 2 & so on",
        world="numbers",
        deviation=np.float64(deviation),
        tolerance=1e-9,
        reason="none",
        figure="shown",
    )


def draw(folder: Path) -> None:
    with style():
        figure, (axes,) = panels()
        axes.plot([0, 1], [1, 10])
        axes.set_yscale("log")
        save(figure, folder, "shown")


@pytest.fixture(autouse=True)
def two_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics that take no time, under the names of real ones."""
    for topic in TOPICS:
        module = ModuleType(f"mclr.theory.topics.{topic}")

        def run(figures: Path, topic: str = topic) -> list[Statement]:
            draw(figures)
            return [statement(f"{topic}-good", 1e-12), statement(f"{topic}-bad", 0.123456)]

        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for topic in TOPICS:
        lab.run_topic(topic, tmp_path)
    return tmp_path


def test_every_topic_has_a_module() -> None:
    for topic in lab.TOPICS:
        source = Path(lab.__file__).parents[1] / "topics" / f"{topic}.py"
        assert "\ndef run(figures: Path) -> list[Statement]:" in source.read_text(), topic


def test_unknown_topic_lists_the_topics(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown topic 'theorem9'; expected one of .*theorem1"):
        lab.run_topic("theorem9", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_topic_leaves_statements_and_figures(results: Path) -> None:
    stored = json.loads((results / "cca.json").read_text())
    assert [(entry["id"], entry["holds"]) for entry in stored] == [
        ("cca-good", True),
        ("cca-bad", False),
    ]
    names = sorted(path.name for path in (results / "cca").iterdir())
    assert names == ["shown.pdf", "shown.png"]


def test_figures_are_the_same_every_time(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        draw(tmp_path / folder)
    for kind in ("pdf", "png"):
        first, second = (tmp_path / f / f"shown.{kind}" for f in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_gather_counts_and_says_what_made_it(results: Path) -> None:
    summary = lab.gather(results, "theory-page 7", TOPICS)
    assert summary == json.loads((results / "theory.json").read_text())
    assert (summary["count"], summary["holding"]) == (4, 2)
    assert {entry["topic"] for entry in summary["statements"]} == set(TOPICS)
    assert set(summary["packages"]) == {"numpy", "scipy", "torch"}
    assert summary["code"] == "theory-page 7"
    for entry in summary["statements"]:
        assert all((results / path).is_file() for path in entry["figures"])


def test_page_is_whole_and_self_contained(results: Path) -> None:
    lab.gather(results, "theory-page 7", TOPICS)
    text = (results / "theory.html").read_text()
    page = Page(text)
    images = page.all("img")
    assert len(images) == 2
    for image in images:
        assert (image["src"] or "").startswith("data:image/webp;base64,")
        assert "1 < 2 & so on" in (image["alt"] or "")
    assert [a.get("class") for a in page.all("article")] == [None, "fails"] * 2
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    targets = {(a["href"] or "").removeprefix("#") for a in page.all("a")}
    assert targets <= anchors
    assert "2 of 4 statements hold" in text
    assert "1 &lt; 2 &amp; so on" in text
    assert '>0.12</span>, tolerance <span class="number">1e-09<' in text
    assert "prefers-color-scheme: dark" in text
    assert page.all("meta")[1]["content"] == "width=device-width, initial-scale=1"
    assert not page.all("link") and not page.all("script")


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ({"cca-bad", "theorem1-bad"}, "2 of 4 statements hold; the other 2 are sentences of the"),
        ({"cca-bad"}, "2 of 4 statements hold; of the others, 1 is a sentence of the paper"),
    ],
)
def test_sentences_of_the_paper_are_not_taken_for_ours(
    results: Path, printed: set[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "AS_PRINTED", frozenset(printed))
    lab.gather(results, "theory-page 7", TOPICS)
    text = (results / "theory.html").read_text()
    assert said in text
    _, _, rest = text.partition("Sentences of the paper that do not hold as printed: ")
    mine, _, others = rest.partition("</header>")[0].partition("Statements that do not hold:")
    assert {name for name in ("cca-bad", "theorem1-bad") if name in mine} == printed
    assert ("theorem1-bad" in others) == ("theorem1-bad" not in printed)


def test_every_sentence_of_the_paper_has_its_reason() -> None:
    reasons = Path("docs/theory.md").read_text().partition("Statements that do not hold, and why")
    assert set(re.findall(r"^\*\*`([\w-]+)`\.\*\*", reasons[2], re.M)) == lab.AS_PRINTED


def test_gather_names_what_is_missing(results: Path) -> None:
    (results / "cca" / "shown.png").unlink()
    with pytest.raises(UserError, match=r"cca/shown\.png: figure is missing"):
        lab.gather(results, "theory-page 7", TOPICS)
    (results / "cca.json").unlink()
    with pytest.raises(UserError, match=r"cca\.json: no result; run `mclr theory cca"):
        lab.gather(results, "theory-page 7", TOPICS)


def test_ids_must_differ(results: Path) -> None:
    (results / "cca.json").write_text((results / "theorem1.json").read_text())
    with pytest.raises(UserError, match="statements with one id: theorem1-bad, theorem1-good"):
        lab.gather(results, "theory-page 7", TOPICS)


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CliRunner()
    for topic in TOPICS:
        done = runner.invoke(theory, [topic, "--output", str(tmp_path)])
        assert done.exit_code == 0, done.output
    monkeypatch.setattr(lab.gather, "__defaults__", (TOPICS,))
    done = runner.invoke(theory_page, ["--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "2 of 4 hold" in done.output
    assert "theorem1" in runner.invoke(theory, ["--help"]).output

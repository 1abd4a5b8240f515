"""The report in a real browser: keyboard, mouse, phone, the dark, and no network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from browser import Browser, chromium
from grid_levels import CLASSES
from PIL import Image

from mclr.claims.render import shown
from mclr.claims.verdicts import as_json, findings
from mclr.config.tier import Tier
from mclr.report.cost import Cost
from mclr.report.interactive import INK
from mclr.report.names import figure_names
from mclr.report.page import Sources, write_report

DESKTOP, PHONE = (1280, 900), (390, 844)
# Of every text outside the drawings: its contrast with what is behind it (WCAG 2.2, 1.4.3).
CONTRASTS = """(() => {
  const channel = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const parts = (text) => text.match(/[0-9.]+/g).map(Number);
  const light = (text) => {
    const [r, g, b] = parts(text).map((v) => channel(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let n = node; n; n = n.parentElement) {
      const colour = getComputedStyle(n).backgroundColor;
      if (parts(colour)[3] !== 0) return light(colour);
    }
    return 1;
  };
  const found = {};
  for (const node of document.body.querySelectorAll("*:not(script):not(option)")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest(".js-plotly-plot")) continue;
    const [a, b] = [light(getComputedStyle(node).color), behind(node)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const name = `${node.tagName} ${node.className}`;
    found[name] = Math.min(found[name] ?? 99, ratio);
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def page(
    _metrics: pd.DataFrame,
    tier: Tier,
    stored_grids: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A report with images."""
    folder = tmp_path_factory.mktemp("report")
    for name in figure_names(tier):
        Image.new("RGB", (1200, 300), "white").save(folder / f"{name}.png")
    sources = Sources(
        provenance=[],
        features={"digits-net": {}},
        claims=shown(as_json(findings(_metrics, tier), tier), list(tier.models)),
        grids=stored_grids,
        class_names=[f"class {label}" for label in range(CLASSES)],
        costs=[Cost("train base models", 2, 60, 60)],
    )
    write_report(_metrics, tier, folder, sources, folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def desktop(browser: Browser, page: Path) -> Browser:
    browser.open(page.as_uri(), *DESKTOP)
    return browser


def drawn(browser: Browser, name: str) -> str:
    """The chart of a figure, in the window and drawn."""
    chart = f"document.getElementById('chart-{name}')"
    browser.run(f"{chart}.scrollIntoView()")
    eventually(browser, f"{chart}.classList.contains('js-plotly-plot')")
    return chart


def eventually(browser: Browser, script: str) -> Any:
    """The value of an expression once it is true."""
    for _ in range(100):
        value = browser.run(script)
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"never true: {script}")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_no_errors_no_network_no_sideways_scrolling(
    browser: Browser, page: Path, size: tuple[int, int], dark: bool
) -> None:
    browser.open(page.as_uri(), *size, dark=dark)
    browser.run("document.getElementById('same-noise').scrollIntoView()")
    # Kept with pytest's other temporary files, to be looked at.
    shot = browser.screenshot(page.parent / f"{size[0]}-{'dark' if dark else 'light'}.png")
    assert shot.stat().st_size > 10_000
    assert browser.errors == []
    assert [a for a in browser.requests if not a.startswith("data:")] == [page.as_uri()]
    assert browser.run("document.documentElement.scrollWidth") <= size[0]
    contrasts = browser.run(CONTRASTS)
    assert {"P ", "TD number soft", "P name", "SELECT "} <= {*contrasts, "SELECT "}
    assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}
    # Drawings are made for a light page, and turned over in the dark.
    look = browser.run(f"getComputedStyle({drawn(browser, 'edm2-fd-is')}).filter")
    assert look == ("invert(1) hue-rotate(180deg)" if dark else "none")
    assert max(int(INK[i : i + 2], 16) for i in (1, 3, 5)) < 0x60


def test_sliders_move_by_keyboard(desktop: Browser) -> None:
    slider, still = "document.querySelector('#track-edm2-2')", "#same-noise .still img"
    image = f"{slider}.closest('.track').querySelector('img')"
    desktop.run(f"{slider}.focus()")
    assert desktop.run(f"{slider}.value") == "2"
    assert "step 100 (row of Table 1); FD 9.00" in desktop.run(f"{slider}.ariaValueText")
    before = desktop.run(f"{image}.src")
    desktop.press("ArrowRight")
    assert desktop.run(f"{slider}.ariaValueText").startswith("step 200; FD 12.00")
    assert desktop.run(f"{image}.src") != before
    assert "step 200" in desktop.run(f"{image}.alt")
    desktop.press("Home")
    assert desktop.run(f"{slider}.ariaValueText").startswith("step 0 (base model)")
    assert desktop.run(f"{image}.src === document.querySelector('{still}').src")
    assert desktop.run(f"{image}.naturalWidth") > 0
    # The other slider is the next stop of the keyboard.
    desktop.press("Tab")
    assert desktop.run("document.activeElement.id") == "track-edm2-3"


def test_charts_are_drawn_when_they_are_seen(desktop: Browser) -> None:
    drawings = "document.querySelectorAll('.js-plotly-plot').length"
    assert desktop.run(drawings) == 0 and desktop.run("typeof Plotly") == "undefined"
    before = desktop.run("document.documentElement.scrollHeight")
    drawn(desktop, "edm2-fd-is")
    assert 1 <= desktop.run(drawings) < 6
    drawn(desktop, "var-cost")
    after = desktop.run("document.documentElement.scrollHeight")
    assert abs(after - before) < 0.1 * before  # room was kept
    assert desktop.errors == []


def test_the_first_screen_has_verdict_and_picture(desktop: Browser) -> None:
    ends = desktop.run(
        "['.answer', '#hero img'].map((name) =>"
        " document.querySelector(name).getBoundingClientRect().bottom)"
    )
    assert all(0 < end < DESKTOP[1] for end in ends)
    assert desktop.run("[...document.querySelectorAll('#hero img')].every((i) => i.naturalWidth)")


def test_what_is_pointed_at_is_readable_in_the_dark(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri(), *DESKTOP, dark=True)
    chart = drawn(browser, "edm2-fd-is")
    browser.run(f"Plotly.Fx.hover({chart}, [{{curveNumber: 0, pointNumber: 1}}])")
    box = f"{chart}.querySelector('.hovertext')"
    eventually(browser, f"{box} !== null")
    colours = browser.run(
        f"[getComputedStyle({box}.querySelector('path')).fill,"
        f" getComputedStyle({box}.querySelector('text')).fill]"
    )
    assert colours == ["rgb(255, 255, 255)", "rgb(27, 31, 36)"]  # turned over together


def test_names_of_methods_stay_on_a_phone(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri(), *PHONE)
    name = "document.querySelector('.results tbody tr:nth-child(3) th')"
    before = browser.run(f"{name}.getBoundingClientRect().left")
    browser.run(f"{name}.closest('.wide').scrollLeft = 200")
    assert browser.run(f"{name}.getBoundingClientRect().left") == pytest.approx(before, abs=20)
    cut = browser.run(
        "[...document.querySelectorAll('caption')].filter((c) => c.checkVisibility()"
        f" && c.getBoundingClientRect().width > {PHONE[0]}).length"
    )
    assert cut == 0


def test_points_are_chosen_in_a_list_or_pointed_at(desktop: Browser) -> None:
    drawn(desktop, "edm2-fd-is")
    panel = "document.querySelector('[data-chart=chart-edm2-fd-is]')"
    select, image = f"{panel}.querySelector('select')", f"{panel}.querySelector('img')"
    groups = desktop.run(f"[...{select}.querySelectorAll('optgroup')].map((g) => g.label)")
    assert groups[0] == "Start (EDM2)" and {"+CFG", "+MCLR", "+DDO"} <= set(groups)
    names = f"[...{select}.options].map((option) => option.text)"
    assert desktop.run(names)[:4] == [
        *("Start (EDM2), base model", "+CFG, γ = 0.5", "+CFG, γ = 1", "+CFG, γ = 2")
    ]
    first = desktop.run(f"{image}.src")
    desktop.run(f"{select}.scrollIntoView({{block: 'center'}})")
    desktop.run(f"{select}.focus()")
    desktop.press("ArrowDown")
    words = eventually(desktop, f"{panel}.querySelector('.words').innerText")
    assert words.split("\n")[:2] == ["+CFG, γ = 0.5", "FD 11.00 ± 0.14"]
    assert desktop.run(f"{image}.src") != first
    place = desktop.run(
        "(() => { const chart = document.getElementById('chart-edm2-fd-is');"
        "const mclr = [...chart.querySelectorAll('.scatterlayer .trace')].find((trace) =>"
        " trace.__data__[0].trace.name === '+MCLR');"
        "const box = [...mclr.querySelectorAll('path.point')].at(-1).getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    desktop.point(5, 5)
    desktop.point(*place)
    eventually(desktop, f"{select}.selectedOptions[0].text === '+MCLR, step 200'")
    words = desktop.run(f"{panel}.querySelector('.words').innerText")
    assert "batch=64" in words and "lr=0.0001" in words  # what was chosen


def test_every_control_has_a_name_for_screen_readers(desktop: Browser) -> None:
    for name in ("edm2-fd-is", "edm2-precision-recall", "var-fd-is", "var-precision-recall"):
        drawn(desktop, name)
        eventually(desktop, f"!document.querySelector('[data-chart=chart-{name}]').hidden")
    nodes = desktop.send("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and "role" in node
    ]
    controls = [name for role, name in named if role in ("slider", "combobox")]
    assert len(set(controls)) == len(controls) == 4 + 4
    assert "Fine-tuning step MCLR, without guidance EDM2" in controls
    assert "Point of: FD against Inception Score, EDM2 (edm2)" in controls
    groups = {name for role, name in named if role == "group"}
    assert {"MCLR, without guidance", "Base model with CFG", "Base model"} <= groups
    assert desktop.run("document.images.length") > 10
    assert desktop.run("[...document.images].filter((image) => !image.alt).length") == 0

"""The documentation as a phone and a desk show it: nothing is cut, and nothing is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium

ROOT = Path(__file__).resolve().parents[2]
PHONE, DESK = (390, 844), (1400, 1000)
# Of what lies beyond the edge of the window and cannot be scrolled to within its own box.
CUT = """
[...document.querySelectorAll('article img, article table, article pre, article p, article li')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .filter(e => { for (let p = e; p; p = p.parentElement)
    if (/auto|scroll/.test(getComputedStyle(p).overflowX)) return false; return true; })
  .map(e => e.tagName + ' ' + e.textContent.trim().slice(0, 60))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    build = (sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder))
    subprocess.run(build, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return folder


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """Each with a profile of its own: pages remember whether they were dark."""
    with chromium(tmp_path / "profile") as opened:
        yield opened


@pytest.mark.parametrize(("size", "dark"), [(PHONE, True), (DESK, False)])
def test_every_page_fits_the_window(
    site: Path, browser: Browser, size: tuple[int, int], dark: bool
) -> None:
    pages = [page for page in sorted(site.rglob("*.html")) if page.name != "404.html"]
    assert len(pages) > 40
    for page in pages:
        name = page.relative_to(site).as_posix()
        browser.open(page.as_uri(), *size, dark=dark)
        assert browser.errors == [], name
        assert browser.run("document.documentElement.scrollWidth") <= size[0], name
        assert browser.run(CUT) == [], name
        assert browser.run("[...document.images].filter(i => !i.naturalWidth).length") == 0, name
        # Kept with pytest's other temporary files, to be looked at.
        browser.screenshot(site.parent / f"{name.replace('/', '-')}-{size[0]}.png")

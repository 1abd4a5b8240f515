"""Colours of Snakemake's output."""

from __future__ import annotations

from checkout import Checkout
from ptys import COLOUR, written_to_a_terminal


def test_snakemake_colours_nothing_where_no_color_says_so(fresh: Checkout) -> None:
    target = "data/prepared/micro/manifest.json"
    command = ("snakemake", "--configfile", fresh.config, "--dry-run", target)
    environment = {"TERM": "xterm", "PATH": fresh.environment["PATH"], "PYTHONPATH": ""}
    told = {
        value: written_to_a_terminal(*command, cwd=fresh.folder, NO_COLOR=value, **environment)
        for value in ("", "1")
    }
    assert all("rule prepare:" in text for text in told.values()), told
    assert COLOUR.search(told[""]) and not COLOUR.search(told["1"])

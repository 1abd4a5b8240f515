"""DVC's stages depend on the versions of the jobs that make their files, and on no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mclr.config.reading import load_tier
from mclr.versions.used import kinds_of

ROOT = Path(__file__).resolve().parents[2]


def versions(tier: str, stages: dict[str, Any]) -> Iterator[str]:
    """The kinds that stages name; ``foreach`` goes over a section of the tier's configuration."""
    sections = yaml.safe_load((ROOT / "config" / f"{tier}.yaml").read_text())
    for stage in stages.values():
        items: dict[str, Any] = {"": {}}
        if "foreach" in stage:
            items, stage = sections[stage["foreach"].strip("${}")], stage["do"]
        for key, item in items.items():
            for params in stage["params"]:
                for name in params.get("workflow/versions.yaml", []):
                    yield filled(name, key, item)


def filled(name: str, key: str, item: Any) -> str:
    """A name with what DVC puts in the place of ``${key}`` and ``${item.model}``."""

    def value(found: re.Match[str]) -> str:
        first, *rest = found[1].split(".")
        inner = key if first == "key" else item
        for part in rest:
            inner = inner[part]
        return str(inner)

    return re.sub(r"\$\{([\w.]+)\}", value, name)


@pytest.mark.parametrize(
    ("tier", "file"), [("digits", "dvc.yaml"), ("fashion", "workflow/fashion/dvc.yaml")]
)
def test_stages_depend_on_the_kinds_of_their_tier(tier: str, file: str) -> None:
    stages = yaml.safe_load((ROOT / file).read_text())["stages"]
    named = {name.removeprefix("versions.") for name in versions(tier, stages)}
    of_tier = {name for name in named if not name.startswith("theory")}
    # A whole group of kinds would change with one that this tier has no job of.
    assert of_tier == kinds_of(load_tier(ROOT / "config" / f"{tier}.yaml"))
    assert named - of_tier in (set(), {"theory", "theory-page"})

"""The tiers of the tests, which between them have every kind of job; and one of released models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from tiny import TINY

from mclr.config.reading import parse_tier
from mclr.planning.jobs import Jobs
from mclr.planning.plan import Plan
from mclr.report.names import views_of

ROOT = Path(__file__).parents[2]
NAMES: tuple[str, ...] = (
    "tiny",
    "micro",
    "stages",
    "options",
    "own",
    "images",
    "diffusers",
    "imagenet",
)
NAMES += ("imagenet-first", "fashion-var")
PUBLISHED = ("digits", "fashion", "fashion-var", "imagenet", "imagenet-first")


def content_of(name: str) -> dict[str, Any]:
    """What the file of a tier says."""
    if name == "tiny":
        return TINY
    folder = ROOT / ("config" if name in PUBLISHED else "tests/workflow")
    found: dict[str, Any] = yaml.safe_load((folder / f"{name}.yaml").read_text())
    return found


def jobs_of(name: str) -> Jobs:
    """The jobs of a tier; read where the paths in it are those of the repository."""
    tier = parse_tier(content_of(name), name)
    return Jobs(Plan(tier), views_of(tier))

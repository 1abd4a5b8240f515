"""The job that asks a tier's metrics what the paper claims."""

from __future__ import annotations

import json
from pathlib import Path

from mclr.claims.render import csv_text, markdown
from mclr.claims.verdicts import as_json, findings
from mclr.config.tier import Tier
from mclr.files import read_table, write_text


def claims(tier: Tier, metrics: Path, folder: Path) -> None:
    """Write ``claims.json``, ``claims.md`` and ``claims.csv`` into ``folder``."""
    content = as_json(findings(read_table(metrics), tier), tier)
    # Compact: it lists some hundred rows for each claim.
    write_text(folder / "claims.json", json.dumps(content, ensure_ascii=False) + "\n")
    write_text(folder / "claims.md", markdown(content, list(tier.models)))
    write_text(folder / "claims.csv", csv_text(content))

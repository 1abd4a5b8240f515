"""Values and comments as YAML text."""

from __future__ import annotations

from typing import Any

import yaml

COLUMN = 31
"""Where comments begin, as in the other configurations."""


def aligned(text: str) -> str:
    """The text with the comments behind values in one column, where there is room."""
    lines = []
    for line in text.splitlines():
        code, mark, comment = line.rpartition("  # ")
        lines.append(f"{code.ljust(COLUMN - 1)} # {comment}" if mark and code.strip() else line)
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """As YAML reads a number: never 3e-05, which it takes for a word."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


def plain(values: Any) -> str:
    """A list of numbers."""
    return f"[{', '.join(number(value) for value in values)}]"


def scalar(value: str) -> str:
    """A word, in quotes if it needs them."""
    return yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True)[1:-2]


def flow(value: dict[str, Any]) -> str:
    """A section on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False).strip()

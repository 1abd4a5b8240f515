"""Text of others in a Markdown page: it is read as text, whatever it looks like."""

from __future__ import annotations

import re
from typing import Any

from mclr.checkpoints.vocabulary import one_line

ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
MARKS = re.compile(r"[\\`*\[\]|$~]|(?<!\w)_|_(?!\w)")


class Raw(str):
    """Markdown of our own, which goes into the page as it is."""


def escaped(value: Any) -> Any:
    """A value as a page shows it: of text one line, without HTML, links, marks or table rules."""
    if isinstance(value, Raw) or not isinstance(value, str):
        return value
    text = one_line(re.sub(r"\s+", " ", value))
    return Raw(MARKS.sub(r"\\\g<0>", text).translate(ENTITIES))


def joined(values: list[Any], between: str) -> Raw:
    """Values, each escaped, with Markdown of ours between them."""
    return Raw(between.join(str(escaped(value)) for value in values))


def fenced(text: str, language: str = "") -> Raw:
    """A block of code, whose fence is longer than any in it."""
    ticks = "`" * max([3, *(len(found) + 1 for found in re.findall("`{3,}", text))])
    lines = (one_line(line) for line in text.split("\n"))
    return Raw("\n".join([ticks + language, *lines, ticks]))

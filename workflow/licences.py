"""Write docs/packages.md: each pinned package and the licence that it states.

Read from the packages as installed; `tests/test_environment.py` says when the page is out of date.
"""

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "packages.md"
STRICT = re.compile("GPL|EPL|MPL|Mozilla|ZPL|Zope|NVIDIA|Proprietary|not stated|not read", re.I)
OTHER_SYSTEM = "not read: for another system"
LONGEST = 120
"""Characters of a licence's name; what is longer is a text."""

HEADER = """# Packages and their licences

What `make env` installs, from `requirements.lock`. None of it is in this repository. The licence is
what the package says: its field `License-Expression`, else `License`, else its classifiers,
else the first line of its licence file. Read on Linux x86-64 by `python workflow/licences.py`.
"""


def pins(lock: str) -> list[tuple[str, str]]:
    """Names and versions in the text of a lock file."""
    return re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE)


def licence(name: str, version: str) -> str:
    """What the installed package states; ``OTHER_SYSTEM`` where this version is not installed."""
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return OTHER_SYSTEM
    if found.version.split("+")[0] != version:
        return OTHER_SYSTEM
    return next(stated(found), "not stated")


def stated(package: importlib.metadata.Distribution) -> Iterator[str]:
    """The licence as each of the fields gives it, the most exact first."""
    fields = package.metadata
    for name in ("License-Expression", "License"):
        text = (fields[name] or "").strip() if name in fields else ""
        if text and "\n" not in text and len(text) <= LONGEST and text != "UNKNOWN":
            yield text
    kinds = [kind.split(" :: ") for kind in fields.get_all("Classifier") or []]
    names = [kind[-1] for kind in kinds if kind[0] == "License" and kind[-1] != "OSI Approved"]
    if names:
        yield ", ".join(names)
    for file in package.files or []:
        if re.search(r"licen[cs]e|copying", file.name, re.I) and file.suffix in ("", ".txt", ".md"):
            yield f"its file {file.name}: “{file.read_text().strip().splitlines()[0].strip()}”"


def page(lock: str) -> str:
    """The text of the page for the text of a lock file."""
    rows = [(name, version, licence(name, version)) for name, version in pins(lock)]
    strict = [row for row in rows if STRICT.search(row[2])]
    free = [row for row in rows if not STRICT.search(row[2])]
    return "\n".join(
        (
            HEADER,
            "## Copyleft, proprietary, or not known\n",
            *table(strict),
            "\n## All others\n",
            *table(free),
            "",
        )
    )


def shown(text: str) -> str:
    """A licence as the cell of a table."""
    return text.replace("|", "or")


def table(rows: list[tuple[str, str, str]]) -> list[str]:
    """Lines of Markdown."""
    cells = [(name, version, shown(text)) for name, version, text in rows]
    return ["| package | version | licence |", "|---|---|---|"] + [
        f"| {' | '.join(row)} |" for row in cells
    ]


if __name__ == "__main__":
    PAGE.write_text(page((ROOT / "requirements.lock").read_text()))

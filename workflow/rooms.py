"""The rooms of the package, what each of them leans on, and the circles among them.

    python workflow/rooms.py        draws them, with the imports behind each circle

A room is a folder of ``mclr/``; the modules beside the folders are the ground, each of its own.
Imports inside functions and for type checkers count like those at the top of a module.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "mclr"


class Import(NamedTuple):
    """A line of a module, and the module of the package that it imports from."""

    path: str
    line: int
    target: str


Arrow = tuple[str, str]
"""Two rooms, or modules of the ground, of which the first imports the second."""


def modules(root: Path = ROOT) -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the package of a checkout."""
    for path in sorted((root / PACKAGE).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def arrows(root: Path = ROOT) -> dict[Arrow, list[Import]]:
    """Which room imports which, and where."""
    found: dict[Arrow, list[Import]] = {}
    for path, tree in modules(root):
        place = path.relative_to(root)
        here = place.with_suffix("").parts[1]
        for line, target in _imports(tree):
            there = f"{target}.__init__".split(".")[1]
            if there != here:
                found.setdefault((here, there), []).append(Import(str(place), line, target))
    return found


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, module) of each import from the package."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom(module=str(module)) if module == PACKAGE:
                names = [f"{module}.{alias.name}" for alias in node.names]
            case ast.ImportFrom(module=str(module)):
                names = [module]
            case _:
                continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == PACKAGE)


def circles(known: Set[Arrow]) -> list[list[str]]:
    """Groups of rooms that lead from each to each."""
    beyond = {room: _reached(room, known) for arrow in known for room in arrow}
    groups = {
        tuple(sorted(other for other in reached if room in beyond[other]))
        for room, reached in beyond.items()
        if room in reached
    }
    return [list(group) for group in sorted(groups)]


def _reached(room: str, known: Set[Arrow]) -> set[str]:
    found, pending = set[str](), [room]
    while pending:
        here = pending.pop()
        new = {there for start, there in known if start == here} - found
        found |= new
        pending += new
    return found


def drawing(known: Mapping[Arrow, list[Import]]) -> str:
    """The rooms with their arrows, one a line, then what makes each circle."""
    starts = sorted({start for start, _ in known})
    lines = [f"{s:12} → {', '.join(sorted(end for a, end in known if a == s))}" for s in starts]
    for group in circles(known.keys()):
        lines += ["", f"circle: {', '.join(group)}"]
        for start, end in sorted(arrow for arrow in known if set(arrow) <= set(group)):
            lines.append(f"  {start} → {end}")
            lines += [f"    {i.path}:{i.line} {i.target}" for i in known[start, end]]
    return "\n".join(lines)


if __name__ == "__main__":
    print(drawing(arrows()))

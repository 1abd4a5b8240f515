"""Where the paper's equations and figures are in the code, read from the code itself.

Comments and docstrings name equations as ``Eq. (22)`` or ``Eqs. (10)-(12)``. The documentation
site shows what is found (docs/paper.md), and a test compares it with what is written there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NUMBERS = r"\(\d+\)(?:(?:[-–/]|, | and )\(\d+\))*"
NAMED = re.compile(rf"Eqs?\.\s({NUMBERS})")


@dataclass(frozen=True)
class Place:
    """A function, method or class of a module; an empty name is the module itself."""

    module: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module


def equation_numbers(text: str) -> list[int]:
    """The numbers in text such as ``(22)/(150)`` or ``(10)-(12)``, ranges filled in."""
    found: list[int] = []
    for separator, digits in re.findall(r"([-–]?)\((\d+)\)", text):
        number = int(digits)
        found += range(found[-1] + 1, number + 1) if separator and found else [number]
    return found


def equations() -> dict[int, list[Place]]:
    """For each equation that the code names, in order: the places that name it."""
    found: dict[int, list[Place]] = {}
    for path in sorted((ROOT / "mclr").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        owners = list(_owners(ast.parse(source), source.splitlines()))
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for match in NAMED.finditer(source):
            line = source.count("\n", 0, match.start()) + 1
            inside = [(end - start, name) for start, end, name in owners if start <= line <= end]
            place = Place(module.removesuffix(".__init__"), min(inside, default=(0, ""))[1])
            for number in equation_numbers(match[1]):
                places = found.setdefault(number, [])
                places += [place] if place not in places else []
    return {number: _named(found[number]) for number in sorted(found)}


def _named(places: list[Place]) -> list[Place]:
    """Without modules of which a function is named, too."""
    inner = {place.module for place in places if place.name}
    return [place for place in places if place.name or place.module not in inner]


def _owners(tree: ast.AST, lines: list[str], prefix: str = "") -> Iterator[tuple[int, int, str]]:
    """First line, comment above included, last line and name of each function and class."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            while start > 1 and lines[start - 2].lstrip().startswith("#"):
                start -= 1
            yield start, node.end_lineno or node.lineno, prefix + node.name
            # Functions inside functions are not part of the interface: their owner is named.
            if isinstance(node, ast.ClassDef):
                yield from _owners(node, lines, f"{prefix}{node.name}.")


def checks_of(place: Place) -> list[str]:
    """Test files that use the place by name; for what is private, those that use its module."""
    last = place.name.rsplit(".", 1)[-1]
    known = last and not last.startswith("_")
    using = [name for name, (modules, _) in _tests().items() if place.module in modules]
    if known:
        return [name for name in using if last in _tests()[name][1]] or using
    return using


@cache
def _tests() -> dict[str, tuple[set[str], set[str]]]:
    """For each test file: the modules it imports, and every name in it."""
    found = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        modules, names = set[str](), set[str]()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                modules |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Attribute):
                names.add(node.attr)
            elif isinstance(node, ast.Name):
                names.add(node.id)
        found[str(path.relative_to(ROOT))] = modules, names
    return found


def equation_table() -> str:
    """Markdown: each equation that the code names, where, and the tests of that."""
    lines = ["| Equation | Named by | Tests |", "|---|---|---|"]
    for number, places in equations().items():
        named = [_link(place) for place in places]
        tests = sorted({Path(test).name for place in places for test in checks_of(place)})
        lines.append(f"| ({number}) | {'<br>'.join(named)} | {_code(tests)} |")
    return "\n".join(lines)


def figure_table() -> str:
    """Markdown: each kind of figure, what it stands for in the paper, and its files."""
    from mclr.report.names import KINDS, stem

    lines = ["| Figure of the paper | What is drawn | Files in `results/<tier>/figures/` |"]
    lines.append("|---|---|---|")
    for name, kind in KINDS.items():
        net = "[-<features>]" if kind.per_net else ""
        files = f"`{stem('<model>', name)}{net}.{{{','.join(kind.formats)}}}`"
        lines.append(f"| {kind.paper} | {kind.title} | {files} |")
    return "\n".join(lines)


def _link(place: Place) -> str:
    """The place as a link to the reference, where it is in there."""
    text = place.path.removeprefix("mclr.")
    return f'<autoref identifier="{place.path}" optional><code>{text}</code></autoref>'


def _code(names: list[str]) -> str:
    return "<br>".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    print(equation_table())

"""Digests of the code that a kind of job runs: of what it says, not of its names and places.

A job runs a command, and what that refers to: functions, classes and constants, found from name to
name through the imports. A digest is taken over the syntax of these definitions alone, so that it
stays when a module is renamed or moved, or a definition goes to another file. Left out is what
cannot change a result: comments, docstrings, annotations of functions, messages (of errors, of the
log, of the command line's help).
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from mclr.errors import UserError
from mclr.versions.syntax import is_words, text_of

PACKAGE = "mclr"


DEPTH = 6
"""How far away a definition's references tell it apart from others of the same text."""


class Symbol(NamedTuple):
    """A definition of a module; ``name`` is empty for the module as a whole."""

    module: str
    name: str


@dataclass
class Module:
    """What a module defines, and where its other names come from."""

    name: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, list[Symbol]] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)
    """Statements that define nothing and run when the module is imported."""


class Code:
    """The package of one checkout, read as it is needed.

    Args:
        root: the top folder of the checkout.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._modules: dict[str, Module | None] = {}
        self._said: dict[int, tuple[str, list[str]]] = {}
        self._next: dict[Symbol, list[Symbol]] = {}
        self._marks: dict[Symbol, str] = {}

    @cached_property
    def commands(self) -> dict[str, Symbol]:
        """The function of each command of the command line, by the command's name."""
        found: dict[str, Symbol] = {}
        for module in self._every_module():
            for name, definitions in module.definitions.items():
                command = _command_name(definitions[-1])
                if command in found:
                    places = f"{found[command].module} and {module.name}"
                    raise ValueError(f"command {command} is defined twice: in {places}")
                if command:
                    found[command] = Symbol(module.name, name)
        return found

    @cached_property
    def entry(self) -> str:
        """The text of what runs before every command: the groups that they are in."""
        texts = [
            self._said_by(definition)[0]
            for module in self._every_module()
            for definitions in module.definitions.values()
            for definition in definitions
            if _decorated(definition, "click.group(")
        ]
        return "\n".join(sorted(texts))

    def _every_module(self) -> Iterator[Module]:
        """All modules of the package; files whose names are none of a module's are passed over."""
        for path in sorted((self.root / PACKAGE).rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            if all(part.isidentifier() for part in parts):
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                yield self._read(name)

    def named(self, name: str) -> list[Symbol]:
        """The definitions with a name, in any module."""
        return [Symbol(m.name, name) for m in self._every_module() if name in m.definitions]

    def reached(
        self, roots: Iterable[Symbol], without: frozenset[str] = frozenset()
    ) -> dict[Symbol, list[Symbol]]:
        """All that the roots refer to, directly or not, and what each of it refers to.

        Nothing that is named in ``without``, nor what only that refers to.
        """
        pending, found = list(roots), dict[Symbol, list[Symbol]]()
        while pending:
            symbol = pending.pop()
            if symbol not in found:
                found[symbol] = [s for s in self._following(symbol) if s.name not in without]
                pending += found[symbol]
        return found

    def digest(
        self, roots: Iterable[Symbol], without: frozenset[str] = frozenset(), *others: str
    ) -> str:
        """Digest of all that the roots reach, and of ``others``, texts that count too.

        A definition is told apart by its text and by what its names stand for, as far as some
        steps away: a call that goes to another function of the same name is another text.
        """
        reached = self.reached(roots, without)
        marks = {symbol: self._mark_of(symbol) for symbol in reached}
        for _ in range(DEPTH):
            marks = {s: _mark(marks[s], *(marks[t] for t in to)) for s, to in reached.items()}
        return _mark(*sorted(marks.values()), *sorted(map(_mark, others)))

    def _following(self, symbol: Symbol) -> list[Symbol]:
        """What a definition refers to, each once; nothing of one of another package."""
        if symbol not in self._next:
            found: list[Symbol] = []
            if module := self._module(symbol.module):
                found += self._imported_with(symbol) if symbol.name else []
                for statement in self._statements(module, symbol):
                    found += self._references(module, statement)
            self._next[symbol] = list(dict.fromkeys(found)) if module else []
        return self._next[symbol]

    def _imported_with(self, symbol: Symbol) -> Iterator[Symbol]:
        """What runs when a definition's module is imported, and what that imports in turn."""
        pending, seen = [symbol.module], set[str]()
        while pending:
            name = pending.pop()
            module = self._module(name)
            if name in seen or module is None:
                continue
            seen.add(name)
            if module.effects:
                yield Symbol(name, "")
            pending.append(name.rpartition(".")[0])
            pending += [target.module for found in module.imports.values() for target in found]

    def _mark_of(self, symbol: Symbol) -> str:
        if symbol not in self._marks:
            module = self._module(symbol.module)
            said = f"{symbol.module}:{symbol.name}"  # of another package nothing else counts
            if module:
                said = "\n".join(self._said_by(s)[0] for s in self._statements(module, symbol))
            self._marks[symbol] = _mark(said)
        return self._marks[symbol]

    def _statements(self, module: Module, symbol: Symbol) -> list[ast.stmt]:
        return module.definitions.get(symbol.name, []) if symbol.name else module.effects

    def _references(self, module: Module, statement: ast.stmt) -> Iterator[Symbol]:
        inside = _imports([statement], self._is_module)
        for words in self._said_by(statement)[1]:
            first, *rest = words.split(".")
            # A name may stand for several things, here and there: all of them count.
            for target in [*inside.get(first, []), *module.imports.get(first, [])]:
                yield from self._of_import(target, rest)
            if first in module.definitions:
                yield Symbol(module.name, first)

    def _of_import(self, target: Symbol, rest: list[str]) -> Iterator[Symbol]:
        """What ``target.rest`` refers to: attributes of modules are looked up."""
        module = self._module(target.module)
        if module is None:
            yield Symbol(target.module, ".".join([target.name, *rest]).strip("."))
        elif target.name in module.definitions:
            yield target
        elif target.name in module.imports:
            for following in module.imports[target.name]:
                yield from self._of_import(following, rest)
        elif target.name:
            raise ValueError(f"{target.module} has no {target.name}")
        elif rest:
            inside = f"{target.module}.{rest[0]}"
            known = rest[0] in module.definitions or rest[0] in module.imports
            following = Symbol(target.module, rest[0]) if known else Symbol(inside, "")
            yield from self._of_import(following, rest[1:])
        else:  # the module itself is handed on: all of it counts
            yield from (Symbol(target.module, name) for name in module.definitions)

    def _said_by(self, statement: ast.stmt) -> tuple[str, list[str]]:
        if id(statement) not in self._said:
            names: list[str] = []
            self._said[id(statement)] = text_of(statement, names), names
        return self._said[id(statement)]

    def _is_module(self, name: str) -> bool:
        return self._path(name) is not None

    def _path(self, name: str) -> Path | None:
        if name.split(".")[0] != PACKAGE:
            return None
        place = self.root.joinpath(*name.split("."))
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
        return None

    def _module(self, name: str) -> Module | None:
        """A module of the package, or None for one of another package."""
        if name not in self._modules:
            path = self._path(name)
            self._modules[name] = _read(path, name, self._is_module) if path else None
        return self._modules[name]

    def _read(self, name: str) -> Module:
        if (module := self._module(name)) is None:
            raise ValueError(f"{name} is no module of {PACKAGE}")
        return module


def _mark(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _read(path: Path, name: str, is_module: Callable[[str], bool]) -> Module:
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not Python that can be read ({error}); mend it first") from None
    module = Module(name)
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom) or is_words(statement):
            continue
        if isinstance(statement, ast.If) and _is_of_no_run(statement.test):
            continue
        defined = list(_defined(statement))
        for each in defined:
            module.definitions.setdefault(each, []).append(statement)
        if not defined:
            module.effects.append(statement)
    run = [s for s in body if not (isinstance(s, ast.If) and _is_of_no_run(s.test))]
    top = [s for s in run if not isinstance(s, ast.FunctionDef | ast.ClassDef)]
    module.imports = _imports(top, is_module)
    return module


def _is_of_no_run(test: ast.expr) -> bool:
    """Whether a block is for type checkers, or for a module that is run as a program."""
    words = ast.unparse(test)
    return words == "TYPE_CHECKING" or "__name__" in words


def _defined(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
            yield statement.name
        case ast.Assign():
            names = [n for t in statement.targets for n in ast.walk(t)]
            if not any(isinstance(n, ast.Attribute | ast.Subscript) for n in names):
                yield from (n.id for n in names if isinstance(n, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name


def _imports(
    statements: Iterable[ast.stmt], is_module: Callable[[str], bool]
) -> dict[str, list[Symbol]]:
    """What each imported name stands for."""
    found: dict[str, list[Symbol]] = {}
    for node in (n for s in statements for n in ast.walk(s)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.split(".")[0]
                found.setdefault(alias.asname or whole, []).append(Symbol(whole, ""))
        elif isinstance(node, ast.ImportFrom):
            if node.level or not node.module or any(alias.name == "*" for alias in node.names):
                raise ValueError("relative imports, and imports of *, cannot be followed")
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                known = is_module(inside)
                target = Symbol(inside, "") if known else Symbol(node.module, alias.name)
                found.setdefault(alias.asname or alias.name, []).append(target)
    return found


def _command_name(definition: ast.stmt) -> str:
    """The name of a command of the command line; empty for other functions."""
    if isinstance(definition, ast.FunctionDef) and _decorated(definition, "click.command("):
        return definition.name.replace("_", "-")
    return ""


def _decorated(definition: ast.stmt, start: str) -> bool:
    decorators = definition.decorator_list if isinstance(definition, ast.FunctionDef) else []
    return any(ast.unparse(decorator).startswith(start) for decorator in decorators)

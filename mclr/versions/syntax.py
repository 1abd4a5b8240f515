"""What of a piece of code can change a result, as text, and the names that it refers to."""

from __future__ import annotations

import ast
import builtins

SAID = ("LOG.", "warnings.warn", "click.echo")
"""What is called to tell people something."""
SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)
"""What has variables of its own."""
HELP = {"help", "short_help", "epilog", "description"}
"""Arguments that are words for people."""


def text_of(node: ast.AST, names: list[str], local: frozenset[str] | None = None) -> str:
    """What counts of a piece of code, as text; adds the names it refers to, with their attributes.

    local: names of the function that the node is in, which stand for nothing outside it.
    """
    match node:
        case ast.Raise():
            kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(kind, ast.Name) and _is_exception(kind.id):
                names.append(kind.id)
                return f"raise {kind.id}"
        case ast.Name() | ast.Attribute() if dotted := _dotted(node):
            if dotted.split(".")[0] not in (local or ()):
                names.append(dotted)
            return dotted
        case ast.Call(func=ast.Name(id=name)) if _is_exception(name):
            return f"{name}()"
        case ast.arg():
            return f"arg {node.arg}"
    inner = local
    if isinstance(node, ast.FunctionDef | ast.Lambda | ast.AsyncFunctionDef):
        inner = (local or frozenset()) | _local(node)
    parts = []
    for name, value in ast.iter_fields(node):
        # Annotations do something in classes alone.
        if name in ("returns", "type_comment", "ctx") or (
            name == "annotation" and local is not None
        ):
            continue
        if value == [] or (value is None and not isinstance(node, ast.Constant)):
            continue  # which fields there are depends on the version of Python
        around = local if name in ("decorator_list", "args") else inner
        if isinstance(value, ast.AST):
            parts.append(f"{name}={text_of(value, names, around)}")
        elif isinstance(value, list):
            kept = [text_of(v, names, around) if isinstance(v, ast.AST) else repr(v)
                    for v in value if not _is_dropped(v, node)]  # fmt: skip
            parts.append(f"{name}=[{','.join(kept)}]")
        else:
            parts.append(f"{name}={value!r}")
    return f"{type(node).__name__}({','.join(parts)})"


def _local(function: ast.FunctionDef | ast.Lambda | ast.AsyncFunctionDef) -> frozenset[str]:
    """Arguments and variables of a function; not those of functions and comprehensions in it."""
    found = {n.arg for n in ast.walk(function.args) if isinstance(n, ast.arg)}
    declared = set[str]()
    body = function.body
    pending: list[ast.AST] = list(body) if isinstance(body, list) else [body]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Global):
            declared.update(node.names)
        if not isinstance(node, SCOPES):
            pending += ast.iter_child_nodes(node)
    return frozenset(found - declared)


def _is_exception(name: str) -> bool:
    kind = getattr(builtins, name, None)
    return name == "UserError" or (isinstance(kind, type) and issubclass(kind, BaseException))


def _dotted(node: ast.AST) -> str:
    """``a.b.c`` of such an expression; empty for others."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _is_dropped(node: object, parent: ast.AST) -> bool:
    """What of a list cannot change a result: imports, words, messages."""
    if isinstance(node, ast.keyword) and isinstance(parent, ast.Call):
        called = _dotted(parent.func)
        return node.arg in HELP and (called.startswith("click.") or called == "Field")
    return isinstance(node, ast.Import | ast.ImportFrom) or is_words(node)


def is_words(node: object) -> bool:
    """A docstring, or a call that tells people something."""
    if not isinstance(node, ast.Expr):
        return False
    value = node.value
    if isinstance(value, ast.Constant):
        return isinstance(value.value, str)
    if not isinstance(value, ast.Call) or not _dotted(value.func).startswith(SAID):
        return False
    return not any(isinstance(n, ast.Call) for given in value.args for n in ast.walk(given))

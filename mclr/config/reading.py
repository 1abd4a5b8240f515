"""Reading a configuration file: every mistake becomes one line with file, key and choices."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mclr.config.tier import Tier
from mclr.errors import UserError
from mclr.settings.bounded import bounded, bounded_yaml
from mclr.settings.origin import RELEASED, TRAINED


def load_tier(path: Path) -> Tier:
    """Read and validate a configuration file.

    Raises:
        UserError: file missing, not YAML, or not a valid tier; one line per mistake.
    """
    return parse_tier(read_yaml(path), str(path))


def read_yaml(path: Path) -> Any:
    """The content of a configuration file, as plain values.

    Raises:
        UserError: file missing, not YAML, a key twice, or out of all bounds.
    """
    try:
        return bounded_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such configuration file; run this in the checkout, or name another file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a text file: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}: not valid YAML{line}: {getattr(error, 'problem', error)}"
        ) from None


def parse_tier(content: object, source: str) -> Tier:
    """Validate the parsed content of a configuration; ``source`` names it in errors."""
    if not isinstance(content, dict):
        raise UserError(f"{source}: expected a mapping of keys, got {type(content).__name__}")
    try:
        return Tier.model_validate(bounded(content))
    except ValidationError as error:
        lines = [f"{source}: {_describe(item)}" for item in error.errors()]
        raise UserError("\n".join(lines)) from None
    except ValueError as error:
        raise UserError(f"{source}: {error}") from None


def _describe(item: Any) -> str:
    """One line for one pydantic error: where, what was found, what is allowed."""
    where, allowed = _walk(item["loc"])
    kind, context = item["type"], item.get("ctx", {})
    if kind == "extra_forbidden":
        _, allowed = _walk(item["loc"][:-1])
        close = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ";"
        return f"{where}: unknown key{hint} valid keys: {', '.join(allowed)}"
    if kind == "missing":
        return f"{where}: required key is missing"
    if kind == "union_tag_invalid":
        key = context["discriminator"].strip("'")
        return f"{where}.{key}: got {context['tag']!r}, expected one of {context['expected_tags']}"
    if kind == "union_tag_not_found":
        key = context["discriminator"].strip("'")
        return f"{where}.{key}: required key is missing"
    if kind == "value_error":
        return ": ".join(part for part in (where, str(context["error"])) if part)
    return f"{where}: {item['msg'][0].lower()}{item['msg'][1:]}, got {item.get('input')!r}"


def _walk(location: tuple[Any, ...]) -> tuple[str, list[str]]:
    """Dotted path of ``location`` without union tags, and the keys that are valid there."""
    schema = json_schema()
    node: Any = schema
    path: list[str] = []
    for part in location:
        node = _section(node, schema)
        if "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"][part]}
            continue
        choices = [_resolve(choice, schema) for choice in _choices(node)]
        if choices:
            node = next((c for c in choices if part in _tags(c)), choices[0])
            continue
        if _is_value(node):
            continue
        path.append(str(part))
        entries = next(iter(node.get("patternProperties", {}).values()), None)
        node = node.get("properties", {}).get(part) or entries or node.get("items") or {}
    return ".".join(path), sorted(_section(node, schema).get("properties", {}))


def _section(node: Any, schema: Any) -> Any:
    """What a place in the schema is; an optional section is the section: no tag stands for it."""
    node = _resolve(node, schema)
    choices = _choices(node)
    return _resolve(choices[0], schema) if len(choices) == 1 else node


def _choices(node: Any) -> list[Any]:
    """The sections that a union allows; none of a node that is no union of sections."""
    members = [m for m in node.get("oneOf", node.get("anyOf", [])) if m.get("type") != "null"]
    nested = [inner for member in members for inner in member.get("oneOf", [member])]
    return nested if all("$ref" in member for member in nested) else []


def _is_value(node: Any) -> bool:
    """Whether a place has one value of several types: what follows is the name of a type."""
    members = node.get("oneOf", node.get("anyOf", []))
    kinds = {member.get("type") for member in members} - {"null"}
    return len(kinds) > 1 and kinds <= {"number", "integer", "string", "boolean"}


def _tags(section: Any) -> list[str]:
    """What a section of a union is called in the place of an error."""
    kind = section["properties"].get("kind", {})
    if "const" in kind:
        return [str(kind["const"])]
    return [RELEASED if "released" in section["properties"] else TRAINED]


def _resolve(node: Any, schema: Any) -> Any:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node


def json_schema() -> dict[str, Any]:
    """JSON schema of a configuration file, for editors and for ``config/schema.json``."""
    return Tier.model_json_schema(by_alias=True)

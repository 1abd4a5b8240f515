"""JSON and YAML that people write, bounded before anything is made of it.

A file of some kilobytes can stand for gigabytes (aliases of aliases), nest deeper than Python
recurses, or say one key twice. Each is one line that names the place.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

MOST_YAML = 2**18
"""Bytes of a configuration; the largest of this project has some thousands."""
MOST_JSON = 2**23
"""Bytes of a model's ``config.json``, which has the names of all classes."""
DEEPEST = 40
MOST_NODES = 200_000
"""Values of a configuration, those behind each alias counted anew."""
MOST_NUMBER = 2**53
"""Whole numbers beyond it are not kept by every reader of JSON."""


def bounded(content: Any, depth: int = 0) -> Any:
    """``content`` as it is; ValueError if it nests too deep or has a whole number too large."""
    if depth > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} levels deep")
    if isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            bounded(value, depth + 1)
    elif isinstance(content, int) and abs(content) > MOST_NUMBER:
        raise ValueError("a whole number beyond 2^53")
    return content


def bounded_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: not JSON or UTF-8, or larger or deeper than any file of its kind.
    """
    if path.stat().st_size > MOST_JSON:
        raise ValueError(f"larger than {MOST_JSON >> 20} MiB")
    try:
        return bounded(json.loads(path.read_text(encoding="utf-8")))
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from None


def bounded_yaml(text: str) -> Any:
    """The content of a YAML text, read as data (``safe_load``).

    Raises:
        yaml.YAMLError: not YAML, a key twice in one mapping, or larger or deeper than any
            configuration.
    """
    if len(text) > MOST_YAML:
        raise yaml.YAMLError(f"larger than {MOST_YAML >> 10} KiB")
    loader = _Loader(text)
    try:
        return bounded(loader.get_single_data())
    except (ValueError, RecursionError) as error:  # of numbers and dates that there are not
        raise yaml.YAMLError(" ".join(str(error).split())) from None
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Checks the nodes of a document before values are made of them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise _problem(f"nested more than {DEEPEST} levels deep", mark)
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _check(node, {})
        return node


def _check(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many values a node stands for.

    Raises:
        yaml.YAMLError: too many, a node within itself, or a key twice.
    """
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise _problem("an alias of what it stands in", node.start_mark)
        return sizes[id(node)]
    sizes[id(node)] = 0
    below: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        below = [each for pair in node.value for each in pair]
    elif isinstance(node, yaml.SequenceNode):
        below = node.value
    size = 1 + sum(_check(each, sizes) for each in below)
    if size > MOST_NODES:
        raise _problem(f"more than {MOST_NODES:,} values, aliases counted", node.start_mark)
    sizes[id(node)] = size
    return size


def _check_keys(node: yaml.MappingNode) -> None:
    """YAML itself takes the later of two values without a word."""
    seen: dict[tuple[str, str], int] = {}
    for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
        name, line = (key.tag, key.value), key.start_mark.line + 1
        if name in seen:
            words = f"{key.value} comes twice, on lines {seen[name]} and {line}; remove one"
            raise _problem(words, key.start_mark)
        seen[name] = line


def _problem(words: str, mark: Any) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=words, problem_mark=mark)

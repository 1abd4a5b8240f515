"""Digests follow what code says: not its words, nor its names and places, nor other code."""

from __future__ import annotations

from pathlib import Path

import pytest

from mclr.versions.digest import Code

FILES = {
    "__init__": "",
    "errors": "class UserError(Exception):\n    pass\n",
    "commands": (
        "import click\n"
        "@click.command()\n"
        "@click.option('--n', help='How many.')\n"
        "def run_it(n):\n"
        '    """Run."""\n'
        "    from mclr.a import work\n"
        "    work(n)\n"
    ),
    "a": (
        '"""A."""\n'
        "from __future__ import annotations\n"
        "import math\n"
        "from mclr.errors import UserError\n"
        "from mclr.sub import c\n"
        "LIMIT = 3\n"
        "def work(n: int) -> float:\n"
        '    """Work."""\n'
        "    if n > LIMIT:\n"
        "        raise UserError(f'{n} is too much')\n"
        "    return math.sqrt(c.twice(n)) + c.half(n)\n"
        "def unused():\n"
        "    return 1\n"
    ),
    "sub/__init__": "",
    "sub/c": (
        "def _scale(n):\n"
        "    return 2 * n\n"
        "def twice(n):\n"
        "    return _scale(n)\n"
        "def half(n):\n"
        "    from mclr.sub.d import _scale\n"
        "    return _scale(n)\n"
    ),
    "sub/d": "def _scale(n):\n    return n / 2\n",
}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / "mclr" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def digest(root: Path, without: frozenset[str] = frozenset()) -> str:
    code = Code(root)
    return code.digest([code.commands["run-it"]], without)


@pytest.fixture
def before(tmp_path: Path) -> str:
    return digest(write(tmp_path / "before", FILES))


def changed(tmp_path: Path, name: str, old: str, new: str) -> str:
    assert old in FILES[name]
    return digest(write(tmp_path / "after", FILES | {name: FILES[name].replace(old, new)}))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a", '"""Work."""', '"""Other words."""'),
        ("a", "LIMIT = 3\n", "# Why.\nLIMIT = 3\n"),
        ("a", "is too much", "is more than there is"),
        ("a", "f'{n} is too much'", "'stop ' + str(n)"),
        ("a", "(n: int) -> float", "(n: float)"),
        ("commands", "How many.", "The number."),
        ("commands", '"""Run."""', '"""Run it."""'),
        ("a", "    if n", "    LOG.info('at %s', n)\n    if n"),
        ("a", "return 1", "return 2"),  # of what no one calls
        ("sub/__init__", "", '"""Things."""'),
    ],
)
def test_what_changes_no_result(name: str, old: str, new: str, tmp_path: Path, before: str) -> None:
    assert changed(tmp_path, name, old, new) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a", "LIMIT = 3", "LIMIT = 4"),
        ("a", "n > LIMIT", "n >= LIMIT"),
        ("a", "raise UserError(f'{n} is too much')", "return 0"),
        ("a", "import math", "import cmath as math"),
        ("a", "from mclr.sub import c\n", "from mclr.sub import c\nprint(c)\n"),
        ("sub/d", "n / 2", "n / 3"),
        ("sub/c", "return 2 * n", "return 3 * n"),
        ("sub/__init__", "", "import torch\ntorch.manual_seed(1)\n"),
        ("errors", "pass", "def __str__(self):\n        return ''"),
    ],
)
def test_what_may_change_a_result(
    name: str, old: str, new: str, tmp_path: Path, before: str
) -> None:
    assert changed(tmp_path, name, old, new) != before


def test_a_module_may_be_renamed_and_moved(tmp_path: Path, before: str) -> None:
    files = dict(FILES)
    files["deep/__init__"], files["deep/new"] = "", files.pop("sub/c")
    files["a"] = files["a"].replace("from mclr.sub import c\n", "from mclr.deep import new as c\n")
    assert digest(write(tmp_path / "after", files)) == before


def test_a_definition_may_go_to_another_module(tmp_path: Path, before: str) -> None:
    files = FILES | {"limits": "LIMIT = 3\n"}
    files["a"] = files["a"].replace("LIMIT = 3\n", "from mclr.limits import LIMIT\n")
    assert digest(write(tmp_path / "after", files)) == before


def test_a_name_that_stands_for_another_definition_counts(tmp_path: Path, before: str) -> None:
    """Both functions called ``_scale`` are used before and after; who calls which has changed."""
    files = dict(FILES)
    files["sub/c"] = (
        "def _scale(n):\n"
        "    return 2 * n\n"
        "def twice(n):\n"
        "    from mclr.sub.d import _scale\n"
        "    return _scale(n)\n"
        "def half(n):\n"
        "    return _scale(n)\n"
    )
    assert digest(write(tmp_path / "after", files)) != before


def test_what_is_left_out_does_not_count(tmp_path: Path, before: str) -> None:
    without = frozenset({"half"})
    left_out = digest(write(tmp_path / "before", FILES), without)
    assert left_out != before
    other = FILES | {"sub/d": "def _scale(n):\n    return n / 3\n"}
    assert digest(write(tmp_path / "after", other), without) == left_out


def test_an_argument_is_not_the_function_of_its_name(tmp_path: Path) -> None:
    text = FILES["a"].replace("def unused():", "def n():")
    first = digest(write(tmp_path / "one", FILES | {"a": text}))
    assert digest(write(tmp_path / "two", FILES | {"a": text.replace("return 1", "return 2")})) == (
        first
    )


HIDDEN = {
    "variable of a nested function": "def inner():\n        _helper = 1\n    ",
    "variable of a comprehension": "some = [_helper for _helper in (1, 2)]\n    ",
    "argument of a lambda": "same = lambda _helper: _helper\n    ",
}


@pytest.mark.parametrize("first", HIDDEN.values(), ids=list(HIDDEN))
def test_a_name_that_is_another_thing_further_in_still_counts(first: str, tmp_path: Path) -> None:
    text = "def _helper(n):\n    return n + {}\ndef work(n):\n    " + first + "return _helper(n)\n"
    one = digest(write(tmp_path / "one", FILES | {"a": text.format(1)}))
    assert digest(write(tmp_path / "two", FILES | {"a": text.format(2)})) != one


def test_only_exceptions_are_messages(tmp_path: Path) -> None:
    """A class whose name ends like one of an exception may compute something."""
    text = "def work(n):\n    return SquaredError({}).of(n)\nclass SquaredError:\n    pass\n"
    one = digest(write(tmp_path / "one", FILES | {"a": text.format(1)}))
    assert digest(write(tmp_path / "two", FILES | {"a": text.format(2)})) != one


def test_only_the_command_lines_help_is_words(tmp_path: Path) -> None:
    text = "def work(n):\n    return dict(help={})\n"
    one = digest(write(tmp_path / "one", FILES | {"a": text.format(1)}))
    assert digest(write(tmp_path / "two", FILES | {"a": text.format(2)})) != one


def test_other_texts_count(tmp_path: Path) -> None:
    code = Code(write(tmp_path, FILES))
    roots = [code.commands["run-it"]]
    found = {code.digest(roots, frozenset(), *texts) for texts in ((), ("a",), ("b",), ("a", "b"))}
    assert len(found) == 4


def test_a_missing_definition_is_named(tmp_path: Path) -> None:
    files = FILES | {"a": FILES["a"].replace("import UserError", "import Absent as UserError")}
    with pytest.raises(ValueError, match=r"mclr\.errors has no Absent"):
        digest(write(tmp_path, files))

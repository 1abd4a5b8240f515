"""The file ``workflow/versions.yaml``: read, looked up, written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mclr.errors import UserError
from mclr.files import write_text
from mclr.settings.bounded import bounded_yaml
from mclr.versions.kinds import KINDS, matching

PLACE = Path("workflow", "versions.yaml")

HEADER = """\
# The version of the results of each kind of job, and the digest of the code that it was last
# confirmed with. Snakemake, DVC and saved training states depend on the version alone.
#
#   make check                    fails where the code of a kind is not what the digest says
#   make same                     runs both codes; confirms the kinds whose results are the same
#   make bump KIND=sample.edm2    raises a version: these results, and what follows, are made again
#
# A raised version names the code that it was raised with (2-1a2b3c4d), so that two changes that
# were tried one after the other, or on two branches, never pass for one.
#
# Written by these commands (mclr/versions); CONTRIBUTING.md says how to use them.
"""


DAMAGE = (ValueError, TypeError, AttributeError, KeyError, RecursionError)


class Version(NamedTuple):
    """The version of a kind's results, and the digest of the code it was confirmed with."""

    version: str
    digest: str

    def raised(self, digest: str) -> Version:
        """The next version, of the code with a digest."""
        return Version(f"{int(self.version.split('-')[0]) + 1}-{digest[:8]}", digest)


class Versions:
    """The versions of all kinds of a checkout."""

    def __init__(self, entries: Mapping[str, Version]) -> None:
        self.entries = dict(entries)

    def of(self, kind: str) -> str:
        """What a job of a kind depends on, and writes into its provenance: ``sample.edm2 1``.

        Raises:
            UserError: the file has no such kind.
        """
        if kind not in self.entries:
            raise UserError(f"{PLACE}: has no kind {kind}; run `make bump KIND={kind}` to add it")
        return f"{kind} {self.entries[kind].version}"

    def require(self) -> None:
        """UserError unless every kind has a version."""
        for kind in KINDS:
            self.of(kind)

    def confirm(self, digests: Mapping[str, str]) -> None:
        """Note the digests of code that gives the same results as before."""
        for kind, digest in digests.items():
            self.entries[kind] = Version(self.entries[kind].version, digest)

    def bump(self, name: str, digests: Mapping[str, str]) -> list[str]:
        """Raise the version of a kind, or of all kinds of a command; gives their new labels.

        Other kinds that are new get version 1.

        Raises:
            UserError: there is no such kind.
        """
        kinds = matching(name)
        if not kinds:
            command = name.split(".")[0]
            inside = [kind for kind in KINDS if kind.startswith(f"{command}.")]
            known = inside or list(dict.fromkeys(kind.split(".")[0] for kind in KINDS))
            near = difflib.get_close_matches(name, KINDS, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(
                f"KIND={name}: no such kind of job; {hint}choose from {', '.join(known)} "
                f"({PLACE} lists all)"
            )
        new = [kind for kind in KINDS if kind not in self.entries]
        for kind in dict.fromkeys([*kinds, *new]):
            old = self.entries.get(kind, Version("0", ""))
            self.entries[kind] = old.raised(digests[kind])
        return [self.of(kind) for kind in dict.fromkeys([*kinds, *new])]

    def save(self, root: Path) -> None:
        """Write the file: the kinds there are, in their order."""
        kinds = [kind for kind in KINDS if kind in self.entries]
        blocks = {
            "versions": _tree({kind: self.entries[kind].version for kind in kinds}),
            "digests": _tree({kind: f'"{self.entries[kind].digest}"' for kind in kinds}),
        }
        write_text(root / PLACE, HEADER + "".join(f"{line}\n" for line in _lines(blocks, 0)))


def load_versions(root: Path) -> Versions:
    """The versions of the checkout at ``root``.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = root / PLACE
    try:
        content = bounded_yaml(path.read_text(encoding="utf-8"))
        versions, digests = (dict(_flat(content[key], "")) for key in ("versions", "digests"))
        if versions.keys() != digests.keys():
            raise ValueError("versions and digests are of different kinds")
        return Versions({k: _checked(k, versions[k], digests[k]) for k in versions})
    except OSError as error:
        said = error.strerror or error
        raise UserError(f"{path}: cannot be read ({said}); run `git checkout {PLACE}`") from None
    except (*DAMAGE, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path}: damaged ({said}); run `git checkout {PLACE}`") from None


def _checked(kind: str, version: Any, digest: Any) -> Version:
    if not re.fullmatch("[1-9][0-9]*(-[0-9a-f]{8})?", str(version)):
        raise ValueError(f"versions.{kind}: {version!r}, expected 1, or one such as 2-1a2b3c4d")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{16}", digest):
        raise ValueError(f"digests.{kind}: {digest!r}, expected 16 hex digits in quotes")
    return Version(str(version), digest)


def _flat(tree: Any, above: str) -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings, by their names joined with dots."""
    for name, inside in tree.items():
        if isinstance(inside, dict):
            yield from _flat(inside, f"{above}{name}.")
        else:
            yield f"{above}{name}", inside


def _tree(flat: Mapping[str, str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *above, last = name.split(".")
        branch = tree
        for each in above:
            branch = branch.setdefault(each, {})
        branch[last] = leaf
    return tree


def _lines(tree: Mapping[str, Any], depth: int) -> Iterator[str]:
    """YAML, with the last level on one line where it fits."""
    for name, inside in tree.items():
        start = f"{'  ' * depth}{name}:"
        if isinstance(inside, str):
            yield f"{start} {inside}"
            continue
        leaves = ", ".join(f"{key}: {leaf}" for key, leaf in inside.items())
        line = f"{start} {{{leaves}}}"
        if all(isinstance(leaf, str) for leaf in inside.values()) and len(line) <= 100:
            yield line
        else:
            yield start
            yield from _lines(inside, depth + 1)

"""Which images a source has, and of which class each is; nothing is decoded."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from mclr.data.images.archives import tar_members, zip_members
from mclr.data.images.decode import SUFFIXES
from mclr.data.images.members import Found, Member, folder_members, is_junk, read_member
from mclr.errors import UserError

LABELS = "dataset.json"  # of EDM2's data sets
SHOWN = 5
SPLIT = re.compile(
    r"(train|training|val|valid|validation|test|testing|dev|eval)[-_ ]?(set|data|images|split)?\d*",
    re.IGNORECASE,
)
"""Names of folders that are parts of a data set, and no classes."""


@dataclass(frozen=True)
class Listing:
    """The images of a source in the order of their names, with labels and names of the classes.

    ignored: number of other files, by the ending of their names.
    """

    members: list[Member]
    labels: list[int]
    class_names: list[str]
    ignored: dict[str, int]


def list_members(path: Path, kind: str) -> Found:
    """Every file of a folder, tar or zip."""
    if kind == "folder":
        return folder_members(path)
    return tar_members(path) if kind == "tar" else zip_members(path)


def list_images(path: Path, found: Found, kind: str) -> Listing:
    """The images among what was found, by class.

    A class is a sub-folder (or an inner tar), in the order of the names (as numbers, if they are
    0 to C − 1), or what EDM2's ``dataset.json`` says. A single folder around everything is looked
    through.

    Raises:
        UserError: images without a class, classes without images, fewer than two classes, or
            sub-folders that are splits.
    """
    visible = {member.name: member for member in found.members if _visible(member.name)}
    _check_names(path, [*visible, *filter(_visible, found.folders)])
    images = [visible[name] for name in sorted(visible) if used(name)]
    others = (n for n in visible if not used(n) and PurePosixPath(n).name != LABELS)
    ignored = dict(sorted(Counter(_suffix(name) for name in others).items()))
    if not images:
        raise UserError(f"{path}: no images found; {_told(ignored)}")
    folders = {name for name in found.folders if _visible(name)}
    prefix = _around([member.name for member in images], folders, visible)
    labels_file = visible.get(prefix + LABELS)
    edm2 = _edm2_labels(path, kind, labels_file) if labels_file else None
    if edm2 is not None:
        labels, names = _numbered(path, prefix, images, edm2)
    else:
        labels, names = _by_folder(path, prefix, images, folders)
    if len(names) < 2:
        raise UserError(
            f"{path}: all images are of one class, {names[0]!r}; expected one sub-folder per class"
        )
    return Listing(images, labels, names, ignored)


def used(name: str) -> bool:
    """Whether a file is taken for an image: by its ending, and not hidden."""
    return _suffix(name) in SUFFIXES and _visible(name)


def _visible(name: str) -> bool:
    return not any(map(is_junk, name.split("/")))


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _check_names(path: Path, names: Iterable[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(f"{path}: {name!r}: name is not UTF-8; rename the file") from None


def _around(names: list[str], folders: set[str], visible: dict[str, Member]) -> str:
    """The folder around all images and all other folders, with a final slash, or nothing."""
    prefix = ""
    while prefix + LABELS not in visible:
        below = [name[len(prefix) :].split("/", 2) for name in names]
        tops = {name[len(prefix) :].split("/")[0] for name in folders if name.startswith(prefix)}
        if len(tops | {parts[0] for parts in below}) > 1 or any(len(p) < 3 for p in below):
            break
        prefix += f"{below[0][0]}/"
    return prefix


def _by_folder(
    path: Path, prefix: str, images: list[Member], folders: set[str]
) -> tuple[list[int], list[str]]:
    """Labels by sub-folder; an inner tar is one."""
    _refuse_splits(path, prefix, images)
    classes, loose = [], []
    for member in images:
        first, _, rest = member.name.removeprefix(prefix).partition("/")
        classes.append(_class_name(first))
        if not rest:
            loose.append(member.name)
    if loose:
        raise UserError(
            f"{path}: {len(loose)} images are in no sub-folder ({_some(loose)}); expected one "
            "sub-folder per class"
        )
    names = _in_order(set(classes))
    inside = (folder[len(prefix) :] for folder in folders if folder.startswith(prefix))
    tops = {_class_name(folder) for folder in inside if "/" not in folder}
    empty = sorted(tops - set(names))
    if empty:
        raise UserError(
            f"{path}: {len(empty)} classes without images: {_some(empty)}; remove the empty "
            "sub-folders or put images into them"
        )
    numbers = {name: number for number, name in enumerate(names)}
    return [numbers[name] for name in classes], names


def _class_name(folder: str) -> str:
    """Of a folder or an inner tar; one name for the Unicode forms that look the same."""
    return unicodedata.normalize("NFC", folder.removesuffix(".tar"))


def _in_order(names: set[str]) -> list[str]:
    """As text, but 0 to C − 1 as numbers: label 2 is class "2", not "10"."""
    numbers = [str(number) for number in range(len(names))]
    return numbers if names == set(numbers) else sorted(names)


def _refuse_splits(path: Path, prefix: str, images: list[Member]) -> None:
    """UserError if all sub-folders, or several with common classes, are ``train``, ``val`` …"""
    counts: Counter[str] = Counter()
    inside: defaultdict[str, set[str]] = defaultdict(set)
    for member in images:
        first, *inner = member.name.removeprefix(prefix).split("/")
        counts[_class_name(first)] += 1
        inside[_class_name(first)].update(map(_class_name, inner[:-1][:1]))
    splits = sorted(filter(SPLIT.fullmatch, counts))
    common = [
        name for name, times in Counter(chain(*(inside[s] for s in splits))).items() if times > 1
    ]
    if len(splits) < 2 or not (common or len(splits) == len(counts)):
        return
    told = " and ".join(f"{name} ({counts[name]} images)" for name in splits)
    best = next((name for name in splits if name.lower().startswith("train")), splits[0])
    how = f"give {path / prefix / best}"
    if not path.is_dir():
        how = f"pack {prefix}{best} alone, or unpack all and give that folder"
    raise UserError(
        f"{path}: the sub-folders are splits, not classes: {told}; {how} (its reference is held "
        "out by n_reference), or put the classes of all side by side. If they are classes, rename "
        "them"
    )


def _edm2_labels(path: Path, kind: str, file: Member) -> dict[str, Any] | None:
    """Labels of ``dataset.json`` by file name; None if it is another file of that name."""
    where = f"{path}: {file.name}"
    try:
        content = json.loads(read_member(path, file))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON ({error}); make it again") from None
    if not isinstance(content, dict) or "labels" not in content:
        return None
    pairs = content["labels"]
    if not isinstance(pairs, list) or not all(_is_pair(pair) for pair in pairs):
        raise UserError(
            f'{where}: expected {{"labels": [["file", class number], …]}}, as EDM2\'s tools '
            "write for labelled images; remove it if the sub-folders are the classes"
        )
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise UserError(f"{where}: {len(twice)} files named twice: {_some(twice)}; make it again")
    return dict(pairs)


def _is_pair(pair: Any) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and type(pair[1]) is int
    )


def _numbered(
    path: Path, prefix: str, images: list[Member], by_name: dict[str, int]
) -> tuple[list[int], list[str]]:
    """Labels as ``dataset.json`` gives them; the names of the classes are their numbers."""
    names = [member.name.removeprefix(prefix) for member in images]
    known = set(names)
    for what, some in (
        ("images without a label", [name for name in names if name not in by_name]),
        ("labels without an image", [name for name in by_name if name not in known]),
    ):
        if some:
            raise UserError(f"{path}: {LABELS}: {len(some)} {what}: {_some(some)}; make it again")
    labels = [by_name[name] for name in names]
    missing = sorted(set(range(max(labels) + 1)) - set(labels))
    if missing or min(labels) < 0:
        raise UserError(
            f"{path}: {LABELS}: classes must be numbered from 0 without gaps, got "
            f"{min(labels)} to {max(labels)}"
            + (f"; no images of {_some([str(m) for m in missing])}" if missing else "")
        )
    return labels, [str(number) for number in range(max(labels) + 1)]


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _told(ignored: dict[str, int]) -> str:
    if not ignored:
        return "it is empty"
    endings = ", ".join(f"{n} × {suffix or 'no ending'}" for suffix, n in ignored.items())
    return f"expected files ending in {', '.join(sorted(SUFFIXES))}, got {endings}"

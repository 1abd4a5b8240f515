"""Whether a file is what was written: its sha256 beside it, or DVC's record, compared on reading.

A job notes the sha256 of a result in ``.NAME.sha256`` beside it (as ``sha256sum`` does). A file
that was pulled has no such note, and is what ``dvc.lock`` says.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from mclr.errors import UserError

LOCKS = ("dvc.lock", "workflow/*/dvc.lock")
"""Where DVC records published files, below the top of the checkout; their paths start there."""
NOTE = 2**9
"""Bytes of a note that are read; what ``sha256sum`` writes is shorter."""
LARGE = 2**26
"""Bytes from which a file's sha256 is taken once per process, while nothing touches the file."""
_taken: dict[tuple[str, int, int, int], str] = {}


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    about = path.stat()
    key = (str(path.resolve()), about.st_ino, about.st_size, about.st_mtime_ns)
    if key not in _taken or about.st_size < LARGE:
        with path.open("rb") as content:
            _taken[key] = hashlib.file_digest(content, "sha256").hexdigest()
    return _taken[key]


def note_of(path: Path) -> Path:
    """Where the sha256 of a result is noted when it is written."""
    return path.with_name(f".{path.name}.sha256")


def noted(path: Path) -> str | None:
    """The sha256 with which a file was written here; None where nothing was noted.

    Raises:
        UserError: there is a note, but no sha256 can be read from it.
    """
    note = note_of(path)
    try:
        if not note.is_symlink() and not note.exists():
            return None
        if not note.is_file():
            raise OSError("not a file")
        with note.open("rb") as content:
            found = re.match(rb"[0-9a-f]{64}\b", content.read(NOTE))
        if not found:
            raise OSError("no 64 hex digits at its start")
    except OSError as error:
        raise UserError(
            f"{note}: expected the sha256 with which {path.name} was written, found "
            f"{error.strerror or error}. Delete both files and run `snakemake` again; if "
            f"{path.name} is what it should be, delete the note alone, or write it anew: "
            f"`sha256sum {path} > {note}`"
        ) from None
    return found[0].decode()


def is_noted(path: Path) -> bool:
    """Whether the jobs that write such results note their sha256; tables and pictures have none."""
    folders = ("evaluations", "selections")
    names = ("provenance.json", "manifest.json")
    by_kind = path.suffix in (".safetensors", ".parquet") or path.name in names
    return by_kind or path.parent.name in folders


def check(path: Path) -> None:
    """Compare a file with its note, or without one with DVC's record; an absent file passes.

    DVC's record counts for results that would have a note if they had been made here. A note may
    be older than what `dvc checkout` brought: what DVC has passes in any case.

    Raises:
        UserError: the file is another one.
    """
    if not path.is_file():
        return
    if (meant := noted(path)) is not None:
        if sha256(path) != meant and not _is_known_to_dvc(path):
            raise UserError(
                f"{path}: damaged, or another file in its place: its sha256 is "
                f"{sha256(path)[:12]}…, that with which it was written {meant[:12]}… "
                f"({note_of(path).name} beside it). Delete it and run `snakemake` again, or "
                f"`dvc checkout --force {path}` if it is published; if it is what it should be, "
                "delete that note"
            )
    elif is_noted(path) and (published := published_md5(path)) and not _is_known_to_dvc(path):
        raise UserError(
            f"{path}: damaged, or not the published file: its md5 is {md5(path)[:12]}…, in "
            f"dvc.lock {published[:12]}…. `dvc checkout --force {path}` brings the published "
            "one; or delete it and run `snakemake` again. If it was made here by an earlier "
            f"version: `sha256sum {path} > {note_of(path)}`"
        )


def md5(path: Path) -> str:
    """What DVC calls a file's content by."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def published_md5(path: Path) -> str | None:
    """The md5 of a file in the records of DVC; None where they do not have the file."""
    place = path.resolve()
    top = _top(place.parent)
    if top is None:
        return None
    name = place.relative_to(top).as_posix()
    return _published(top, _stamp(top)).get(name)


def differs(path: Path) -> bool:
    """Whether a file is neither the published one nor of another commit whose files are here."""
    return published_md5(path) is not None and not _is_known_to_dvc(path)


def published_files(top: Path) -> dict[str, str]:
    """The md5 of each file that DVC records, by its path below the top of a checkout."""
    return dict(_published(top.resolve(), _stamp(top.resolve())))


def _is_known_to_dvc(path: Path) -> bool:
    """Whether a file is the published one, of this commit or of another whose files are here."""
    top = _top(path.resolve().parent)
    if top is None:
        return False
    found = md5(path)
    return found == published_md5(path) or _object(top, found).is_file()


def _top(folder: Path) -> Path | None:
    """The top of the checkout that a folder is in, if it has records of DVC."""
    for place in (folder, *folder.parents):
        if (place / ".dvc").is_dir():
            return place if (place / "dvc.lock").is_file() else None
    return None


def _stamp(top: Path) -> tuple[tuple[str, int], ...]:
    """What changes when the records do."""
    return tuple((str(lock), lock.stat().st_mtime_ns) for lock in _locks(top))


def _locks(top: Path) -> Iterator[Path]:
    for pattern in LOCKS:
        yield from sorted(top.glob(pattern))


@cache
def _published(top: Path, stamp: object) -> dict[str, str]:
    """Path below the top and md5 of all files; of folders where DVC's list of them is here."""
    found = {}
    for lock in _locks(top):
        for out in _outs(lock):
            name, oid = out["path"], str(out.get("md5", ""))
            if not oid.endswith(".dir"):
                found[name] = oid
                continue
            with suppress(OSError, ValueError, TypeError, KeyError):
                for entry in json.loads(_object(top, oid).read_text()):
                    found[f"{name}/{entry['relpath']}"] = entry["md5"]
    return found


def _outs(lock: Path) -> list[dict[str, Any]]:
    """Outputs in a lock file of DVC that are in its cache or in git; none if it is unreadable."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        stages = yaml.load(lock.read_text(encoding="utf-8"), loader)["stages"].values()
        return [out for stage in stages for out in stage.get("outs", []) if out.get("md5")]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError):
        return []


def _object(top: Path, oid: str) -> Path:
    """Where DVC's cache has the content of a name."""
    return _cache(top) / "files" / "md5" / oid[:2] / oid[2:]


@cache
def _cache(top: Path) -> Path:
    """The folder of DVC's cache, which a team may share."""
    import configparser

    settings = configparser.ConfigParser(interpolation=None)
    with suppress(configparser.Error, OSError, ValueError):
        settings.read([top / ".dvc" / "config", top / ".dvc" / "config.local"])
    given = settings.get("cache", "dir", fallback="cache").strip("\"'")
    return top / ".dvc" / given

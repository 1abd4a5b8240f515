"""Where the user's images are: the path as configured, and its kind."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePosixPath

from mclr.data.images.listing import LABELS, list_members, used
from mclr.data.images.members import Found
from mclr.errors import UserError
from mclr.files import read_json, sha256
from mclr.settings.data import Data, OwnImages

TAIL = 2**20
"""Bytes at the end of an archive: of a zip, its list of files with their checksums."""
KINDS = {".tar": "tar", ".zip": "zip"}


def expand(path: str) -> Path:
    """The path with the environment's variables; a relative one is relative to the checkout.

    Raises:
        UserError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise UserError(
                f"data.path: {path}: environment variable {name} is not set; set it to the "
                "place of your images"
            )
        return os.environ[name]

    return Path(re.sub(r"\$(?:\{(\w+)\}|(\w+))", value, path)).expanduser()


def kind_of(path: Path) -> str:
    """``folder``, ``tar`` or ``zip``.

    Raises:
        UserError: there is nothing, or something else.
    """
    if path.is_dir():
        return "folder"
    if not path.is_file():
        raise UserError(
            f"data.path: {path}: no such folder or file; expected a folder with one sub-folder "
            "of images per class, or a .tar or .zip of one"
        )
    if path.suffix.lower() not in KINDS:
        raise UserError(
            f"data.path: {path}: expected a folder, a .tar or a .zip (a compressed tar cannot be "
            "read out of order: decompress it, or unpack it into a folder)"
        )
    return KINDS[path.suffix.lower()]


def listing_digest(path: Path, kind: str, found: Found) -> str:
    """What changes when images come or go, or EDM2's labels change; it is quick to find.

    Of a folder the names of the images, of an archive its size and its end. It is the same after
    the images have moved. Other bytes under an old name are found when they are read.
    """
    digest = hashlib.sha256()
    if kind == "folder":
        for name in sorted(member.name for member in found.members):
            if used(name):
                digest.update(f"{name}\n".encode(errors="surrogateescape"))
            elif PurePosixPath(name).name == LABELS:
                digest.update(f"{name} {sha256(path / name)}\n".encode())
    else:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL))
            digest.update(f"{size}\n".encode() + stream.read())
    return digest.hexdigest()[:16]


def current_listing(settings: Data | OwnImages, manifest: Path) -> str:
    """The digest of the images as they are now, for Snakemake to compare with the last one.

    If they cannot be read here, as on a machine that has just the results, nothing of them is
    taken to have changed since ``manifest`` was written. Empty for other sources.
    """
    if not isinstance(settings, OwnImages):
        return ""
    try:
        path = expand(settings.path)
        kind = kind_of(path)
        found = list_members(path, kind) if kind == "folder" else Found([], set())
        return listing_digest(path, kind, found)
    except (UserError, OSError):
        known = read_json(manifest)["source"] if manifest.exists() else {}
        return str(known.get("listing", ""))

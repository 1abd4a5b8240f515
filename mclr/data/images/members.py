"""The files of a source, and their bytes: in a folder or at a place of an archive."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import NamedTuple

from mclr.errors import UserError

JUNK = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "#recycle", "@recycle"}
    | {"$recycle.bin", "system volume information", "lost+found"}
)
"""What systems leave in folders, in small letters: never a class, never data."""


class Member(NamedTuple):
    """A file of a source: its name there, and the place of its bytes in the archive.

    offset: None = a file of a folder. packed: bytes after deflation; None = stored as it is.
    """

    name: str
    offset: int | None = None
    size: int | None = None
    packed: int | None = None


class Found(NamedTuple):
    """All files of a source, and its folders, empty ones included."""

    members: list[Member]
    folders: set[str]


def is_junk(part: str) -> bool:
    """Whether a file or folder of this name is hidden, or a system's own."""
    return part.startswith(".") or part.casefold() in JUNK


def read_member(path: Path, member: Member) -> bytes:
    """Bytes of one file of the source at ``path``; any thread or process may ask.

    Raises:
        OSError: it cannot be read.
        ValueError: it is deflated, and damaged or of another size than its archive says.
    """
    if member.offset is None or member.size is None:
        return (path / member.name).read_bytes()
    archive = os.open(path, os.O_RDONLY)
    try:
        length = member.size if member.packed is None else member.packed
        content = _read_at(archive, member.offset, length)
    finally:
        os.close(archive)
    if member.packed is None:
        return content
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(content, member.size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(unpacked) != member.size:
        more = "more" if len(unpacked) > member.size else "less"
        raise ValueError(f"unpacks to {more} than the {member.size} bytes that its archive names")
    return unpacked


def _read_at(file: int, offset: int, length: int) -> bytes:
    parts = []
    while length > 0 and (part := os.pread(file, length, offset)):
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return b"".join(parts)


def folder_members(path: Path) -> Found:
    """Files below a folder, none of them hidden or a system's own.

    Links are followed, but not back into a folder they lie in.

    Raises:
        UserError: a folder cannot be listed.
    """
    members: list[Member] = []
    folders: set[str] = set()
    root = os.path.realpath(path)
    pending = [(root, "", frozenset({root}))]
    try:
        while pending:
            folder, prefix, above = pending.pop()
            for entry in os.scandir(folder):
                if is_junk(entry.name):
                    continue
                name = prefix + entry.name
                if entry.is_dir():
                    real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                    if real not in above:
                        folders.add(name)
                        pending.append((real, f"{name}/", above | {real}))
                elif entry.is_file() or entry.is_symlink():
                    members.append(Member(name))
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be listed: {error.strerror}") from None
    return Found(members, folders)

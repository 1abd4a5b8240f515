"""What tar and zip files hold, and at which byte: no archive is ever unpacked."""

from __future__ import annotations

import os
import re
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from mclr.data.images.members import Found, Member
from mclr.errors import UserError

UTF8 = 0x800
"""The flag of a zip member that its name is UTF-8."""
UNIX = 3
"""The system of a zip member whose name is the bytes that the file system had."""
LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: lengths of name and extra field


def tar_members(path: Path) -> Found:
    """Files of a tar, and those of the tars in it: ``n01440764.tar/n01440764_18.JPEG``.

    Raises:
        UserError: not a whole, uncompressed tar, or its names are unsafe.
    """
    members: dict[str, Member] = {}
    folders: set[str] = set()
    try:
        with path.open("rb") as stream:
            for prefix, info in _walk_tar(stream, path, 0, os.fstat(stream.fileno()).st_size, ""):
                name = prefix + _safe(info.name, path)
                if info.isdir():
                    folders.add(name)
                else:
                    members[name] = Member(name, info.offset_data, info.size)
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: not a whole, uncompressed tar ({error}); copy it again, or decompress it"
        ) from None
    return Found(list(members.values()), folders)


def _walk_tar(
    stream: BinaryIO, path: Path, begin: int, end: int, prefix: str
) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Members with the name of the inner tar they lie in; offsets are those of the outer file."""
    stream.seek(begin)
    with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as tar:
        while (info := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # all that a large archive has
            if info.size < 0:
                raise tarfile.TarError(f"{prefix}{info.name} has a negative size")
            if info.offset_data + info.size > end:
                raise tarfile.TarError(f"{prefix}{info.name} is cut off")
            if info.isfile() and not info.issparse() and info.name.endswith(".tar") and not prefix:
                inner = _safe(info.name, path) + "/"
                yield "", _folder(inner)
                yield from _walk_tar(
                    stream, path, info.offset_data, info.offset_data + info.size, inner
                )
            elif info.isdir() or (info.isfile() and not info.issparse()):
                yield prefix, info
            else:
                raise UserError(
                    f"{path}: {prefix}{info.name} is a link or no plain file; pack the images "
                    "with `tar --dereference --hard-dereference`"
                )
        stream.seek(tar.offset)
        if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes a bad header for the end
            raise tarfile.TarError(f"{prefix}damaged at byte {tar.offset}")


def _folder(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


def zip_members(path: Path) -> Found:
    """Files of a zip, stored or deflated.

    Raises:
        UserError: not a whole zip, packed or encrypted in another way, or its names are unsafe.
    """
    members: dict[str, Member] = {}
    folders: set[str] = set()
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
            for info in archive.infolist():
                name = _safe(_zip_name(info, path), path)
                if info.is_dir():
                    folders.add(name)
                elif name in members:
                    raise zipfile.BadZipFile(f"it has two files {name}")
                else:
                    members[name] = _zip_member(path, name, info, stream)
    except (zipfile.BadZipFile, struct.error, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{path}: not a whole zip ({error}); copy it again") from None
    return Found(list(members.values()), folders)


def _zip_name(info: zipfile.ZipInfo, path: Path) -> str:
    """The name of a member; UserError if nothing tells the character set of it."""
    name = info.orig_filename
    if info.flag_bits & UTF8 or name.isascii():
        return name
    stored = name.encode("cp437")  # zipfile reads every unmarked name as that
    if info.create_system == UNIX:
        with suppress(UnicodeDecodeError):
            return stored.decode()
    raise UserError(
        f"{path}: the name {stored!r} is not UTF-8, and its character set is not known; unpack it "
        "with a program that shows the names right (`unzip -O gbk`), and give the folder"
    )


def _zip_member(path: Path, name: str, info: zipfile.ZipInfo, stream: BinaryIO) -> Member:
    known = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if info.compress_type not in known or info.flag_bits & 1:
        raise UserError(
            f"{path}: {name} is encrypted or packed by a method other than deflate; pack the "
            "images again with `zip -0 -r`"
        )
    stream.seek(info.header_offset)
    lengths = LOCAL_HEADER.unpack(stream.read(LOCAL_HEADER.size))
    offset = info.header_offset + LOCAL_HEADER.size + sum(lengths)
    deflated = info.compress_type == zipfile.ZIP_DEFLATED
    if not deflated and info.compress_size != info.file_size:
        raise zipfile.BadZipFile(f"{name} has two sizes")
    return Member(name, offset, info.file_size, info.compress_size if deflated else None)


def _safe(name: str, path: Path) -> str:
    """The name without a leading ``./`` and a final ``/``; UserError if it leads elsewhere."""
    plain = re.sub(r"^(\./)+|/+$", "", name)
    if plain.startswith("/") or re.search(r"[\\\0]|^\w:|(^|/)\.\.(/|$)", plain):
        raise UserError(
            f"{path}: unsafe name {name!r} (absolute, or leading out of the archive); pack the "
            "images again with names relative to their folder"
        )
    return plain

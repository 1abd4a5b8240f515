"""Zip files of torch: where each record lies, after a look at all of them.

torch maps the records of a file into memory as they lie there, and compares nothing. A compressed
record or a changed byte would give other weights without a word.
"""

from __future__ import annotations

import mmap
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from mclr.checkpoints.vocabulary import MisfitError

_LOCAL = 30  # bytes of a local header, before name and extra field
_ENCRYPTED = 1


class Record(NamedTuple):
    """Bytes of the file."""

    start: int
    length: int


def stored_records(source: Path, data: mmap.mmap) -> dict[str, Record]:
    """The records of a zip file by name; ``data``: its content.

    Raises:
        MisfitError: a record that is compressed, encrypted, there twice, beyond the end of the
            file, or other than its checksum (CRC-32) says.
    """
    with zipfile.ZipFile(source) as archive:
        entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > len(data):
        raise MisfitError("records that are compressed, or lie one over another")
    records: dict[str, Record] = {}
    with memoryview(data) as view:
        for entry in entries:
            name = entry.filename
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
                raise MisfitError(f"record {name!r} is compressed or encrypted")
            if name in records:
                raise MisfitError(f"record {name!r} is there twice")
            head = bytes(view[entry.header_offset : entry.header_offset + _LOCAL])
            extra = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
            start = entry.header_offset + _LOCAL + extra
            whole = head[:4] == b"PK\x03\x04" and entry.compress_size == entry.file_size
            if not whole or start + entry.file_size > len(data):
                raise MisfitError(f"record {name!r} is not where the list of records says")
            with view[start : start + entry.file_size] as content:
                if zlib.crc32(content) != entry.CRC:
                    raise MisfitError(f"record {name!r} is damaged: it does not fit its CRC-32")
            records[name] = Record(start, entry.file_size)
    return records

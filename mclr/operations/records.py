"""Snakemake's records of how results were made, as one file that travels with the results.

Snakemake keeps a file for each output in ``.snakemake/metadata``; without them it cannot tell that
a parameter, or a line of code, has changed since. Thousands of small files are slow to publish,
and the folder holds the records of all tiers: so each tier packs its own.
"""

from __future__ import annotations

import lzma
import sys
import tarfile
from base64 import urlsafe_b64decode
from pathlib import Path

from mclr.errors import UserError
from mclr.files import atomic, sha256, write_text

METADATA = Path(".snakemake", "metadata")


def packed(tier: str) -> Path:
    """Where the records of a tier, or of the theory, travel."""
    return Path("results", tier, "records.tar.xz")


def pack(tier: str) -> None:
    """Write the records of a tier's results and data to one file; equal records, equal bytes."""
    folders = (f"results/{tier}/", f"data/prepared/{tier}/", "data/raw/")
    every = (path for path in METADATA.rglob("*") if path.is_file())
    records = sorted(path for path in every if output_of(path).startswith(folders))
    target = packed(tier)
    with (
        atomic(target) as temporary,
        tarfile.open(temporary, "w:xz") as archive,
    ):
        for path in records:
            member = tarfile.TarInfo(path.relative_to(METADATA).as_posix())
            member.size = path.stat().st_size
            with path.open("rb") as content:
                archive.addfile(member, content)
    write_text(_stamp(tier), sha256(target))


def restore(tier: str) -> None:
    """Unpack a tier's records if they are newer than those last packed or unpacked here.

    They come with their results (`dvc pull`), so they take the place of what is there.

    Raises:
        UserError: the file is damaged.
    """
    source, stamp = packed(tier), _stamp(tier)
    if not source.is_file():
        return
    found = sha256(source)
    if stamp.is_file() and stamp.read_text() == found:
        return
    METADATA.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(source, "r:xz") as archive:
            archive.extractall(METADATA, filter="data")
    except (tarfile.TarError, lzma.LZMAError, OSError, EOFError) as error:
        raise UserError(
            f"{source}: cannot be unpacked ({error}); delete it and run `dvc pull`"
        ) from error
    write_text(stamp, found)


def _stamp(tier: str) -> Path:
    """The file that says which records of a tier were last packed or unpacked."""
    return Path(".snakemake", "restored", tier)


def output_of(record: Path, metadata: Path = METADATA) -> str:
    """The output that a record is about: its name is base64, cut where it is long."""
    parts = record.relative_to(metadata).parts
    return urlsafe_b64decode("".join(part.removeprefix("@") for part in parts)).decode()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        pack(name)

"""Snakemake's records, read once each while it looks for what must run.

Snakemake (9.27) asks of every input of a job what checksum each record of the job's outputs gives
it, and keeps the 128 records last read. A job of 200 figures drawn from 500 grids reads its records
100,000 times over, each with the names of all its inputs: nine tenths of the time of a dry run of
the ``fashion`` tier. The answers are the same here; what is kept is dropped whenever Snakemake
drops its own copies, which is before it changes a record.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

RECORDS = 4096
"""Records that are kept: more than any job has outputs. Equal parts of them are one object."""

SHARED = ("input", "input_checksums", "params", "log")


def read_once(persistence: Any) -> None:
    """Let a class of Snakemake's (``FilePersistence``) read no record twice; once for a class."""
    if hasattr(persistence, "_checksums_of_job"):
        return
    read, clear = persistence._read_record_cached.__wrapped__, persistence._clear_cache
    persistence._checksums_of_job = (None, [])
    persistence._last_record = None

    @lru_cache(maxsize=RECORDS)
    def cached(self: Any, key: str) -> Any:
        record = read(self, key)
        if record is not None:
            _share(record, self._last_record)
            self._last_record = record
        return record

    def forget(self: Any) -> None:
        self._checksums_of_job, self._last_record = (None, []), None
        clear(self)

    def input_checksums(self: Any, job: Any, path: Any) -> set[Any]:
        if self._checksums_of_job[0] is not job:
            self._checksums_of_job = (job, recorded_checksums(self, job.output))
        return {with_algorithm(known.get(path)) for known in self._checksums_of_job[1]}

    persistence._read_record_cached, persistence._clear_cache = cached, forget
    persistence.input_checksums = input_checksums


def recorded_checksums(persistence: Any, outputs: Any) -> list[dict[str, Any]]:
    """What the records of some outputs say of their inputs, without repetition; {}: nothing."""
    found: list[dict[str, Any]] = []
    for output in outputs:
        record = persistence.metadata(output)
        known = (record and record.input_checksums) or {}
        if known not in found:
            found.append(known)
    return found


def with_algorithm(checksum: str | None) -> str | None:
    """A checksum as Snakemake compares it: those of older versions are of sha256."""
    return checksum if checksum is None or ":" in checksum else f"sha256:{checksum}"


def _share(record: Any, last: Any) -> None:
    """Take from the record read before what is equal in both: outputs of a job differ in little."""
    for name in SHARED if last is not None else ():
        if getattr(record, name) == getattr(last, name):
            setattr(record, name, getattr(last, name))

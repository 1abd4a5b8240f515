"""Every image of a source read and decoded once, in several processes."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mclr.data.images.decode import Decoder, Seen
from mclr.data.images.members import Member, read_member
from mclr.errors import UserError
from mclr.events import Progress

CHUNK = 64
"""Images that a process is given at once."""


class Examined(NamedTuple):
    """A file's bytes and digest; why it is no usable image ('' if it is); what is odd about it."""

    size: int
    sha256: str
    reason: str
    seen: Seen = Seen()

    @property
    def turned(self) -> bool:
        """Whether EXIF turns it."""
        return self.seen.turned


def examine_all(
    path: Path, members: Sequence[Member], decoder: Decoder, threads: int
) -> list[Examined]:
    """What is found in each member of the source at ``path``, in their order."""
    chunks = [members[first : first + CHUNK] for first in range(0, len(members), CHUNK)]
    progress = Progress(f"read {path}", len(members), 1)
    found: list[Examined] = []
    for part in _mapped(partial(_examine, path, decoder), chunks, threads):
        found += part
        progress.update(len(found))
    return found


def _mapped(
    work: partial[list[Examined]], chunks: list[Sequence[Member]], threads: int
) -> Iterator[list[Examined]]:
    if threads == 1 or len(chunks) < 2:
        yield from map(work, chunks)
        return
    # New processes share nothing with this one: no threads, no locks.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(threads, len(chunks)), spawn) as pool:
        try:
            yield from pool.map(work, chunks)
        except BrokenProcessPool:
            raise UserError(
                "prepare: a process that reads images was killed, perhaps for lack of memory; "
                "run again with fewer --threads or more memory"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _examine(path: Path, decoder: Decoder, members: Sequence[Member]) -> list[Examined]:
    return [_examine_one(path, decoder, member) for member in members]


def _examine_one(path: Path, decoder: Decoder, member: Member) -> Examined:
    try:
        content = read_member(path, member)
    except (OSError, ValueError) as error:
        return Examined(0, "", getattr(error, "strerror", None) or str(error))
    digest = hashlib.sha256(content).hexdigest()
    try:
        return Examined(len(content), digest, "", decoder.look(content))
    except UserError as error:
        return Examined(len(content), digest, str(error))

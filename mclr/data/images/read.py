"""Pixels of indexed images, decoded when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mclr.data.images.decode import Decoder
from mclr.data.images.members import Member, read_member
from mclr.data.images.source import expand
from mclr.errors import UserError

Pixels = NDArray[np.uint8]
COLUMNS = ["label", "name", "bytes", "sha256", "offset", "packed"]
MIRRORED = "mirrored"
"""A further column, of splits that have mirror images, too."""


def with_mirrored(table: pa.Table) -> pa.Table:
    """An index and, after its rows, those of the same images mirrored left to right."""
    both = [
        table.append_column(MIRRORED, pa.array([is_mirrored] * len(table), pa.bool_()))
        for is_mirrored in (False, True)
    ]
    return pa.concat_tables(both)


@dataclass(frozen=True)
class IndexedImages:
    """The images of one split.

    index: its Parquet file, for messages. table: its rows, with ``COLUMNS``, and ``MIRRORED`` where
    there are such. path: of the source, as configured.
    """

    index: Path
    table: pa.Table
    path: str
    decoder: Decoder

    def pixels(self, row: int) -> Pixels:
        """Pixels (C, H, W) of the image in a row.

        Raises:
            UserError: its file is missing or is not the one that was indexed.
        """
        name, size, digest, offset, packed = (
            self.table[column][row].as_py() for column in COLUMNS[1:]
        )
        place = expand(self.path)
        try:
            content = read_member(place, Member(name, offset, size, packed))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise self._changed(place, name, f"cannot be read ({reason})") from None
        if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
            raise self._changed(place, name, "has other bytes than when the data were prepared")
        try:
            pixels = self.decoder.pixels(content)
        except UserError as error:
            raise UserError(f"{place}: {name}: {error}") from None
        is_mirrored = MIRRORED in self.table.column_names and self.table[MIRRORED][row].as_py()
        return pixels[..., ::-1] if is_mirrored else pixels

    def _changed(self, place: Path, name: str, what: str) -> UserError:
        return UserError(
            f"{place}: {name}: {what}; put back what was there, or delete {self.index.parent} "
            "and run `snakemake` again to prepare the images as they are now"
        )

    def batches(self, groups: Sequence[Sequence[int]], threads: int) -> Iterator[Pixels]:
        """Pixels (n, C, H, W) of the images in each group of rows.

        While one group is used, the next one is decoded, by so many threads.
        """
        pool = ThreadPoolExecutor(threads)

        def ask(group: Sequence[int]) -> list[Future[Pixels]]:
            return [pool.submit(self.pixels, row) for row in group]

        try:
            pending = ask(groups[0]) if groups else []
            for number in range(len(groups)):
                following = ask(groups[number + 1]) if number + 1 < len(groups) else []
                yield np.stack([image.result() for image in pending])
                pending = following
        finally:
            pool.shutdown(cancel_futures=True)

"""What several processes of one node make, joined into one file by the first of them.

Each process leaves its part beside the result, where the first finds it. The parts are joined in
the order of the processes, so the result has the bytes that one process alone would write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from mclr.files import atomic, load_tensors, save_tensors
from mclr.metrics.features import stream_features
from mclr.training import processes


def write_together(path: Path, tables: Iterator[pa.Table]) -> None:
    """Feature file of the tables of all processes."""
    if processes.count() == 1:
        stream_features(path, tables)
        return
    with _parts(path) as parts:
        with atomic(parts[processes.rank()]) as temporary:
            _write(temporary, tables)
        processes.wait_for_all()
        if processes.is_first():
            stream_features(path, (table for part in parts for table in _read(part)))


def join_rows(path: Path, batches: Sequence[Tensor]) -> Tensor:
    """The rows (N, …) of the batches of all processes, in the first of them; in others none.

    path: of the file that they are meant for. The batches are on the CPU.
    """
    if processes.count() == 1:
        return torch.cat(list(batches))
    with _parts(path) as parts:
        numbered = {f"{index:08d}": batch for index, batch in enumerate(batches)}
        save_tensors(parts[processes.rank()], numbered, {})
        processes.wait_for_all()
        if not processes.is_first():
            return torch.empty(0)
        files = [load_tensors(part)[0] for part in parts]
        return torch.cat([file[name] for file in files for name in sorted(file)])


@contextmanager
def _parts(path: Path) -> Iterator[list[Path]]:
    """Paths of the processes' parts of ``path``; none is left behind, not even by killed jobs."""
    if processes.is_first():
        for stale in path.parent.glob(f".{path.name}.part-*"):
            stale.unlink()
    processes.wait_for_all()
    parts = [path.with_name(f".{path.name}.part-{rank}") for rank in range(processes.count())]
    yield parts
    processes.wait_for_all()
    parts[processes.rank()].unlink(missing_ok=True)


def _write(path: Path, tables: Iterator[pa.Table]) -> None:
    """Tables as an Arrow stream, which keeps their schema and their cuts; none: an empty file."""
    writer: pa.RecordBatchStreamWriter | None = None
    with path.open("wb") as stream:
        for table in tables:
            writer = writer or pa.ipc.new_stream(stream, table.schema)
            writer.write_table(table)
        if writer:
            writer.close()


def _read(path: Path) -> Iterator[pa.Table]:
    if path.stat().st_size == 0:
        return
    with pa.ipc.open_stream(path) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])

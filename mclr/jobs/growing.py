"""A safetensors file whose largest tensor is written batch by batch, and goes on after a kill.

The file grows under a private name; how many rows of it are safe is noted beside it now and then.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mclr.errors import UserError
from mclr.files import atomic, read_json, write_json

DTYPES = {torch.uint8: "U8", torch.int32: "I32", torch.float16: "F16"}
NOTE_SECONDS = 60.0


class GrowingRows:
    """Tensors ``labels`` (N,) int64, known from the start, and ``x`` (N, …), which grows.

    Args:
        folder: private; nothing else may write there at the same time.
        key: of everything that decides the rows; what another key left there is discarded.
        metadata: of the file.
    """

    def __init__(self, folder: Path, key: str, labels: Tensor, metadata: Mapping[str, str]) -> None:
        self.folder, self.key, self.labels, self.metadata = folder, key, labels, dict(metadata)
        self.file, self.note = folder / "x.partial", folder / "position.json"
        self.noted = time.monotonic()
        self.rows = self._safe_rows()

    def _safe_rows(self) -> int:
        if not (self.note.exists() and self.file.exists()):
            return 0
        note = read_json(self.note)
        if note["key"] != self.key or self.file.stat().st_size < note["bytes"]:
            return 0
        os.truncate(self.file, note["bytes"])
        return int(note["rows"])

    def append(self, part: Tensor) -> None:
        """Write the next rows, (n, …) uint8, int32 or float16, of the same shape every time.

        Raises:
            UserError: the disk is full.
        """
        values = part.contiguous().cpu().numpy().tobytes()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab" if self.rows else "wb") as stream:
                if not self.rows:
                    stream.write(self._header(part))
                stream.write(values)
                self.rows += len(part)
                if time.monotonic() - self.noted >= NOTE_SECONDS:
                    self._take_note(stream.fileno())
        except OSError as error:
            raise UserError(
                f"{self.file}: cannot be written: {error.strerror or error}; free space, then run "
                "the same command again: it goes on from where it was"
            ) from error

    def _take_note(self, file: int) -> None:
        os.fsync(file)
        size = os.fstat(file).st_size
        write_json(self.note, {"key": self.key, "rows": self.rows, "bytes": size})
        self.noted = time.monotonic()

    # As safetensors orders tensors: by the width of their numbers, the widest first.
    def _header(self, part: Tensor) -> bytes:
        """What comes before x: sizes, the description of both tensors, and the labels."""
        labels = self.labels.numpy().tobytes()
        shape = [len(self.labels), *part.shape[1:]]
        end = len(labels) + len(self.labels) * part[0].nbytes
        description = {
            "__metadata__": dict(sorted(self.metadata.items())),
            "labels": _tensor("I64", [len(self.labels)], 0, len(labels)),
            "x": _tensor(DTYPES[part.dtype], shape, len(labels), end),
        }
        text = json.dumps(description, ensure_ascii=False, separators=(",", ":")).encode()
        text = text.ljust(-(-len(text) // 8) * 8)
        return len(text).to_bytes(8, "little") + text + labels

    def finish(self, output: Path) -> None:
        """Give the whole file its public name, and remove what was private."""
        if self.rows != len(self.labels):
            raise ValueError(f"{self.rows} rows of {len(self.labels)} labels")
        with atomic(output, noted=True) as temporary:
            shutil.move(self.file, temporary)  # a copy if the folders are on two disks
        self.note.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def _tensor(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

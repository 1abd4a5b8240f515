"""Post-hoc EMA of imported snapshots: one more averaging length from those that were stored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from mclr.errors import UserError
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.precond import Precond
from mclr.training.posthoc_ema import Snapshot, reconstruct
from mclr.weights.header import Header, read_checkpoint, write_checkpoint

BATCH = 1024  # images between two snapshots of EDM2 are a multiple of it
NAMED = re.compile(r".*-(?P<time>\d+)-(?P<std>\d+\.\d+)\.safetensors")


def images_of(kimg: float) -> int:
    """Training images at the time that a name of EDM2 states, which is rounded down to thousands.

    EDM2 stores after whole batches, multiples of 1024: exactly one is rounded to each time.
    """
    return -(-round(kimg * 1000) // BATCH) * BATCH


def snapshot_of(path: Path) -> Snapshot:
    """Time, in images, and length as EDM2 writes them into a name: ``…-0134217-0.050``.

    Raises:
        UserError: a name without them.
    """
    found = NAMED.fullmatch(path.name)
    if not found:
        raise UserError(
            f"{path}: expected a name that ends with -<kimg>-<std>.safetensors, as EDM2 names its "
            "snapshots (network-snapshot-0134217-0.050); rename it"
        )
    return Snapshot(path, images_of(int(found["time"])), float(found["std"]))


def reconstruct_checkpoint(
    snapshots: Sequence[Path], out: Path, std: float, time: float | None = None
) -> Header:
    """Write the average of length ``std`` at ``time`` (kimg; None: the last) to ``out``.

    Snapshots are EDM2 networks written by ``mclr import-weights``. The result has their number
    type; its header is that of the last one used, with the averages it was made from.

    Raises:
        UserError: not such files, another network among them, or an impossible ``std`` or ``time``.
    """
    known = sorted(map(snapshot_of, snapshots), key=lambda s: (s.time, s.std))  # as EDM2 adds
    if not known:
        raise UserError("post-hoc EMA: expected at least one snapshot")
    end = max(s.time for s in known) if time is None else images_of(time)
    if end not in {s.time for s in known}:
        stored = ", ".join(f"{t // 1000:g}" for t in sorted({s.time for s in known}))
        raise UserError(
            f"post-hoc EMA: target time {time:g}: there is no snapshot of it; choose one of "
            f"{stored} (kimg)"
        )
    used = [s for s in known if s.time <= end]
    _, header = read_checkpoint(max(used, key=lambda s: s.time).path)
    if header.kind != "edm2":
        raise UserError(f"{known[0].path}: holds {header.kind}, expected EDM2 networks")
    with torch.device("meta"):
        buffers = [name for name, _ in Precond(Edm2Network(**header.architecture)).named_buffers()]
    dtype = torch.float16 if header.stored_dtype == "float16" else torch.float32
    tensors = reconstruct(known, std, time=end, copied=buffers, dtype=dtype)
    facts = {"ema_std": std, "ema_from": [s.path.name for s in used]}
    header = header.model_copy(update={"training": header.training | facts})
    write_checkpoint(out, tensors, header)
    return header

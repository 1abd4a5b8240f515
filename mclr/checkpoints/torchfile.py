"""Files of ``torch.save``: tensors and plain values, mapped, executing nothing.

Format of the zip files: ``<folder>/data.pkl`` is a pickle whose tensors name their storages
``<folder>/data/<key>``. Before zip files: pickles of a magic number, a version, the machine, the
object and its storages' keys; then for each key a count and the raw values.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mclr.checkpoints.archive import stored_records
from mclr.checkpoints.machine import read_pickle
from mclr.checkpoints.places import checked_view, described_storage
from mclr.checkpoints.unpickle import TORCH_MAGIC, TORCH_PROTOCOL
from mclr.checkpoints.vocabulary import MisfitError, Vocabulary, reading

STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
DTYPES = frozenset(str(dtype) for dtype in STORAGES.values())
_ZIP = b"PK"
Found = Callable[[torch.dtype, str, int], Tensor]


def read_pth(source: Path) -> Any:
    """The content of a ``.pth`` file: tensors (mapped, not read) and plain values only.

    Raises:
        UserError: damaged, or it holds anything else; nothing of it was executed.
    """
    with reading(source), source.open("rb") as stream:
        # Pages that are written to would be copied; there are none. It lives while tensors do.
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        if data[: len(_ZIP)] == _ZIP:
            return _read_zip(source, data)
        return _read_old(source, data)


def _read_zip(source: Path, data: mmap.mmap) -> Any:
    records = stored_records(source, data)
    pickles = [name for name in records if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise MisfitError(f"not a .pth file: {len(pickles)} records data.pkl in it")
    folder = pickles[0].removesuffix("data.pkl")
    order = records.get(f"{folder}byteorder")
    if order and data[order.start : order.start + order.length] != b"little":
        raise MisfitError("values from a machine that is not little-endian")

    def found(dtype: torch.dtype, key: str, count: int) -> Tensor:
        record = records.get(f"{folder}data/{key}")
        if record is None or record.length != count * dtype.itemsize:
            raise MisfitError(f"a storage of {count} values of {dtype} that is not in it")
        return _values(data, dtype, record.start, count)

    place = records[pickles[0]]
    pickled = io.BytesIO(data[place.start : place.start + place.length])
    return read_pickle(pickled, _vocabulary(found), source)


def _read_old(source: Path, data: mmap.mmap) -> Any:
    """The object is read twice: its storages come after it, and their sizes are in it."""
    head = [read_pickle(data, Vocabulary(), source) for _ in range(3)]  # type: ignore[arg-type]
    little = type(head[2]) is dict and head[2].get("little_endian") is True
    if head[:2] != [TORCH_MAGIC, TORCH_PROTOCOL] or not little:
        raise MisfitError("not a .pth file of a little-endian machine")
    begin = data.tell()
    wanted: dict[str, tuple[torch.dtype, int]] = {}

    def note(dtype: torch.dtype, key: str, count: int) -> Tensor:
        if wanted.setdefault(key, (dtype, count)) != (dtype, count):
            raise MisfitError(f"storage {key} has two sizes")
        return torch.empty(count, dtype=dtype, device="meta")

    read_pickle(data, _vocabulary(note), source)  # type: ignore[arg-type]
    keys = read_pickle(data, Vocabulary(), source)  # type: ignore[arg-type]
    if type(keys) is not list or not all(type(k) is str for k in keys):
        raise MisfitError("a list of storages that torch would not have written")
    if len(keys) != len(wanted) or set(keys) != wanted.keys():
        raise MisfitError("other storages than its tensors have")
    storages, place = {}, data.tell()
    for key in keys:
        dtype, count = wanted[key]
        if int.from_bytes(data[place : place + 8], "little") != count:
            raise MisfitError(f"storage {key} is not as long as it says")
        end = place + 8 + count * dtype.itemsize
        if end > len(data):
            raise MisfitError("the file ends before its values do")
        storages[key] = _values(data, dtype, place + 8, count)
        place = end
    if place != len(data):
        raise MisfitError("more bytes than it says")
    data.seek(begin)
    return read_pickle(data, _vocabulary(lambda _, key, __: storages[key]), source)  # type: ignore[arg-type]


def _values(data: mmap.mmap, dtype: torch.dtype, start: int, count: int) -> Tensor:
    """A storage as a tensor (count,); only where values lie askew are they copied."""
    if count == 0:
        return torch.empty(0, dtype=dtype)
    if start % dtype.itemsize:
        length = count * dtype.itemsize
        return (
            torch.frombuffer(data, dtype=torch.uint8, count=length, offset=start)
            .clone()
            .view(dtype)
        )
    return torch.frombuffer(data, dtype=dtype, count=count, offset=start)


def _vocabulary(found: Found) -> Vocabulary:
    """All names that a state dict or a training checkpoint contains.

    ``found(dtype, key, count)`` gives a storage, as a tensor; it is asked once for each.
    """
    known: dict[tuple[str, str, int], Tensor] = {}

    def storage(identity: Any) -> Tensor:
        described = described_storage(identity, STORAGES)
        if described not in known:
            name, key, count = described
            known[described] = found(STORAGES[name], key, count)
        return known[described]

    return Vocabulary(
        calls={
            "collections.OrderedDict": lambda: {},
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_tensor_v2": _view,
            "torch.Size": _size,
        },
        mentions=frozenset(STORAGES) | DTYPES,
        build=_build,
        persistent=storage,
    )


def _view(storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any) -> Tensor:
    """torch._utils._rebuild_tensor_v2; MisfitError if the view reaches beyond its storage."""
    if type(storage) is not Tensor or storage.ndim != 1:
        raise MisfitError("a tensor that torch would not have written")
    shape, steps, first = checked_view(len(storage), offset, size, stride, hooks)
    return storage.as_strided(shape, steps, first)


def _parameter(tensor: Any, grad: Any, hooks: Any) -> Tensor:
    """torch._utils._rebuild_parameter: the tensor itself."""
    if type(tensor) is not Tensor or hooks != {}:
        raise MisfitError("a parameter that torch would not have written")
    return tensor


def _size(sides: Any) -> tuple[int, ...]:
    if type(sides) is not tuple or not all(type(n) is int for n in sides):
        raise MisfitError("a torch.Size that is not one")
    return sides


def _build(target: Any, state: Any) -> None:
    """A state dict has the versions of its modules as an attribute, which nothing here needs."""
    if type(target) is not dict or type(state) is not dict or state.keys() - {"_metadata"}:
        raise MisfitError(f"a state for a {type(target).__name__}")

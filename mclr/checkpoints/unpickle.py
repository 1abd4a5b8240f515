"""What the names in EDM2's pickles stand for here: tensors and arrays by position, plain values.

Official classes are pickled together with their source text, which the official loader executes.
Here a persistent object becomes its class name and its state; the text is only hashed.
"""

from __future__ import annotations

import hashlib
import io
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mclr.checkpoints.machine import read_pickle
from mclr.checkpoints.places import (
    Dtype,
    Storage,
    StoredArray,
    StoredTensor,
    described_storage,
    plain_dtype,
    rebuild_parameter,
    rebuild_tensor,
)
from mclr.checkpoints.vocabulary import MisfitError, Name, Raw, Vocabulary, refuse
from mclr.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

STORAGES = {"torch.HalfStorage": "float16", "torch.FloatStorage": "float32"}
# torch's own serialisation before zip files: five pickles, a count, the raw values.
TORCH_MAGIC = 119547037146038801333356
TORCH_PROTOCOL = 1001
_HEADER_BYTES = 4096  # the five pickles of one storage take about 300


@dataclass(frozen=True)
class Persistent:
    """An object of an official class: name of the class, attributes, sha256 of its source text."""

    class_name: str
    state: dict[str, Any]
    source_sha256: str


@dataclass
class Container:
    """A torch ModuleDict; its attributes arrive after its creation."""

    state: dict[str, Any] | None = None


def _described(identity: Any) -> tuple[str, str, int]:
    """Number type, key and length of a storage."""
    name, key, count = described_storage(identity, STORAGES)
    return STORAGES[name], key, count


def _build(target: Any, state: Any) -> None:
    """Complete an object: of the allowed classes only these get a state."""
    if type(target) is Container and type(state) is dict:
        target.state = state
    elif type(target) is Dtype and type(state) is tuple and state[2:5] == (None, None, None):
        if state[1] not in ("<", ">", "|", "="):
            raise MisfitError("a byte order that numpy does not have")
        target.order = state[1]
    elif type(target) is StoredArray and type(state) is tuple:
        _version, shape, dtype, fortran, raw = state
        target.fill(dtype, shape, "F" if fortran is True else "C", raw)
    else:
        raise MisfitError(f"a state for a {type(target).__name__}")


def _no_arguments() -> dict[str, Any]:
    return {}


class PickledFile:
    """An open pickle: ``top`` is its object, tensors and arrays are read on demand."""

    def __init__(self, source: Path, data: mmap.mmap) -> None:
        self.source, self._data = source, data
        self._digests: dict[str, str] = {}
        # An open mapping has all that the reading needs of a stream.
        self.top: Any = read_pickle(data, self._vocabulary(), source)  # type: ignore[arg-type]

    def _vocabulary(self) -> Vocabulary:
        """All names that EDM2's files contain."""
        arrays = {
            f"numpy.{core}.{name}": meaning
            for core in ("_core", "core")  # numpy 2 and older
            for name, meaning in (
                ("multiarray._reconstruct", self._empty_array),
                ("multiarray.scalar", self._scalar),
                ("numeric._frombuffer", self._buffer),
            )
        }
        return Vocabulary(
            calls={
                "collections.OrderedDict": _no_arguments,
                "torch._utils._rebuild_parameter": rebuild_parameter,
                "torch._utils._rebuild_tensor_v2": rebuild_tensor,
                "torch.storage._load_from_bytes": self._storage,
                "torch_utils.persistence._reconstruct_persistent_obj": self._persistent,
                "numpy.dtype": plain_dtype,
                **arrays,
            },
            classes={
                "dnnlib.util.EasyDict": dict,
                "torch.nn.modules.container.ModuleDict": Container,
            },
            mentions=frozenset({"numpy.ndarray"}),
            build=_build,
        )

    def tensor(self, stored: StoredTensor) -> Tensor:
        """The tensor, bit for bit, in its own memory."""
        import torch

        dtype: torch.dtype = getattr(torch, stored.storage.dtype)
        if not stored.span:
            return torch.empty(stored.shape, dtype=dtype)
        start = stored.storage.start + stored.offset * dtype.itemsize
        raw = bytearray(self._data[start : start + stored.span * dtype.itemsize])
        return torch.frombuffer(raw, dtype=dtype).as_strided(stored.shape, stored.stride)

    def array(self, stored: StoredArray) -> np.ndarray[Any, Any]:
        """The array, bit for bit, in its own memory."""
        if stored.dtype is None:
            raise UserError(f"{self.source}: a numpy array has no content; get the file again")
        raw = self._data[stored.raw.start : stored.raw.start + stored.raw.length]
        flat = np.frombuffer(bytearray(raw), stored.dtype.numpy)
        return flat.reshape(stored.shape, order="F" if stored.order == "F" else "C")

    def _storage(self, raw: Any) -> Storage:
        """A storage in the format of torch before zip files, which plain pickling still uses."""
        if type(raw) is not Raw:
            raise MisfitError("a tensor's storage that is not bytes")
        head = io.BytesIO(self._data[raw.start : raw.start + min(raw.length, _HEADER_BYTES)])
        if head.getvalue()[:1] != b"\x80":
            raise MisfitError("a tensor's storage in a format that plain pickling does not use")
        words = Vocabulary(mentions=frozenset(STORAGES), persistent=_described)
        magic, protocol, machine, described, keys = (
            read_pickle(head, words, self.source) for _ in range(5)
        )
        if (magic, protocol) != (TORCH_MAGIC, TORCH_PROTOCOL) or type(described) is not tuple:
            raise MisfitError("a tensor's storage in a format that plain pickling does not use")
        if type(machine) is not dict or machine.get("little_endian") is not True:
            raise MisfitError("a tensor's storage from a machine that is not little-endian")
        dtype, key, count = described
        found = int.from_bytes(head.read(8), "little")
        storage = Storage(dtype, raw.start + head.tell(), count)
        if keys != [key] or found != count or head.tell() + storage.length != raw.length:
            raise MisfitError("a tensor's storage whose length is not what it says")
        return storage

    def _persistent(self, meta: Any) -> Persistent:
        """The object of an official class; its source text is never looked at as code."""
        if type(meta) is not dict or (meta.get("type"), meta.get("version")) != ("class", 6):
            raise MisfitError("a persistent object of a version other than 6")
        text, name, state = meta.get("module_src"), meta.get("class_name"), meta.get("state")
        if type(text) is not str or type(name) is not str or type(state) is not dict:
            raise MisfitError("a persistent object without class name, source text and state")
        if text not in self._digests:
            encoded = text.encode(errors="surrogatepass")
            self._digests[text] = hashlib.sha256(encoded).hexdigest()
        return Persistent(name, state, self._digests[text])

    def _empty_array(self, kind: Any, shape: Any, code: Any) -> StoredArray:
        if kind != Name("numpy.ndarray"):
            raise MisfitError("a numpy array of a class other than ndarray")
        return StoredArray()

    def _scalar(self, dtype: Any, raw: Any) -> float | int:
        number = self.array(StoredArray().fill(dtype, (), "C", raw)).item()
        return number if type(number) is int else float(number)

    def _buffer(self, raw: Any, dtype: Any, shape: Any, order: Any) -> StoredArray:
        return StoredArray().fill(dtype, shape, "F" if order == "F" else "C", raw)


@contextmanager
def open_pickle(source: Path) -> Iterator[PickledFile]:
    """Open a pickle written by EDM2's code and read its structure, executing nothing of it.

    Raises:
        UserError: the file is missing, empty, damaged or names anything that EDM2's own files
            do not; the message names what was refused.
    """
    if not source.is_file():
        raise UserError(f"{source}: there is no such file; check the path")
    with source.open("rb") as stream:
        if stream.read(1) != b"\x80":
            refuse(source, "not a pickle")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield PickledFile(source, data)

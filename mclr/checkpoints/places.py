"""Tensors and arrays of a pickle, by their place in the file.

Whether a view lies within its storage is checked when it is described, before anything is read.
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np

from mclr.checkpoints.vocabulary import MisfitError, Name, Raw

_SIZES = {"float16": 2, "float32": 4}
MAX_DIMENSIONS = 8
MAX_SIZE = 1 << 40
_NUMBERS = {f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)} - {"f1"}
NOTHING = Raw(0, 0)


@dataclass(frozen=True)
class Storage:
    """Raw little-endian values of a tensor in the file."""

    dtype: str
    start: int
    count: int

    @property
    def length(self) -> int:
        """Bytes."""
        return self.count * _SIZES[self.dtype]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the file: a view of a storage that lies within it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def span(self) -> int:
        """Values of the storage from its first to its last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    @property
    def length(self) -> int:
        """Bytes that it takes to read it."""
        return max(self.span, math.prod(self.shape)) * _SIZES[self.storage.dtype]


@dataclass
class Dtype:
    """A numpy dtype of plain numbers; its byte order arrives after the rest."""

    code: str
    order: str = "="

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


@dataclass
class StoredArray:
    """A numpy array of the file; all but its place in memory arrives after its creation."""

    dtype: Dtype | None = None
    shape: tuple[int, ...] = ()
    order: str = "C"
    raw: Raw = NOTHING

    def fill(self, dtype: Any, shape: Any, order: str, raw: Any) -> StoredArray:
        """Say what the array is; MisfitError unless the bytes are exactly its numbers."""
        if type(dtype) is not Dtype or type(raw) is not Raw:
            raise MisfitError("a numpy array that does not consist of plain numbers")
        self.dtype, self.shape, self.order, self.raw = dtype, _sizes(shape), order, raw
        if math.prod(self.shape) * int(dtype.numpy.itemsize) != raw.length:
            raise MisfitError(f"a numpy array of shape {self.shape} with {raw.length} bytes")
        return self


def _sizes(value: Any) -> tuple[int, ...]:
    """A tuple of sizes or strides."""
    if type(value) is not tuple or len(value) > MAX_DIMENSIONS:
        raise MisfitError("sizes of a tensor that are not a short tuple")
    if not all(type(n) is int and 0 <= n < MAX_SIZE for n in value):
        raise MisfitError("a size or stride of a tensor that is not a whole number >= 0, or absurd")
    return value


def checked_view(
    count: int, offset: Any, size: Any, stride: Any, hooks: Any
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Shape, strides and offset of a view of ``count`` values; MisfitError if it reaches beyond."""
    shape, steps, (first,) = _sizes(size), _sizes(stride), _sizes((offset,))
    if len(shape) != len(steps) or hooks != {}:
        raise MisfitError("a tensor that torch would not have written")
    last = first + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    number = math.prod(shape)
    if number > count or (number > 0 and last >= count):
        raise MisfitError(f"a tensor of shape {shape} in a storage of {count} values")
    return shape, steps, first


def rebuild_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any
) -> StoredTensor:
    """torch._utils._rebuild_tensor_v2; MisfitError if the view reaches beyond its storage."""
    if type(storage) is not Storage:
        raise MisfitError("a tensor that torch would not have written")
    shape, steps, first = checked_view(storage.count, offset, size, stride, hooks)
    return StoredTensor(storage, first, shape, steps)


def described_storage(identity: Any, known: Container[str]) -> tuple[str, str, int]:
    """Type, key and length from the persistent id of a storage; where it was is of no interest."""
    if type(identity) is tuple and len(identity) in (5, 6):
        tag, kind, key, location, count, *view = identity
        named = type(kind) is Name and kind.dotted in known
        plain = type(key) is str and type(location) is str and type(count) is int
        if tag == "storage" and named and plain and 0 <= count < MAX_SIZE and view in ([], [None]):
            return kind.dotted, key, count
    raise MisfitError("a tensor's storage that torch would not have written")


def rebuild_parameter(tensor: Any, requires_grad: Any, hooks: Any) -> StoredTensor:
    """torch._utils._rebuild_parameter: the tensor itself."""
    if type(tensor) is not StoredTensor or hooks != {}:
        raise MisfitError("a parameter that torch would not have written")
    return tensor


def plain_dtype(code: Any, align: Any, copy: Any) -> Dtype:
    """numpy.dtype; MisfitError unless it is one of plain numbers."""
    if type(code) is not str or code not in _NUMBERS:
        raise MisfitError("a numpy array that does not consist of plain numbers")
    return Dtype(code)

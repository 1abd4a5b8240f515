"""Pickles put together by hand: any name can be mentioned without importing it."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

import torch

REBUILD = "torch._utils _rebuild_tensor_v2"
PERSISTENT = "torch_utils.persistence _reconstruct_persistent_obj"
LOAD_BYTES = "torch.storage _load_from_bytes"


@dataclass
class Name:
    """A global: "module name"."""

    both: str


@dataclass
class Call:
    """REDUCE of a global on arguments."""

    both: str
    arguments: Any


@dataclass
class New:
    """NEWOBJ of a class without arguments."""

    both: str


@dataclass
class Build:
    """BUILD of a state onto a value."""

    value: Any
    state: Any


@dataclass
class Code:
    """Instructions as they are."""

    code: bytes


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def emit(value: Any) -> bytes:
    """The instructions that put a value on the stack."""
    match value:
        case Code(code):
            return code
        case Name(both):
            module, name = both.split(" ")
            return text(module) + text(name) + b"\x93"
        case Call(both, arguments):
            return emit(Name(both)) + emit(arguments) + b"R"
        case New(both):
            return emit(Name(both)) + b")\x81"
        case Build(inner, state):
            return emit(inner) + emit(state) + b"b"
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(raw)]) + raw
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return text(value)
        case bytes():
            return b"B" + struct.pack("<I", len(value)) + value
        case tuple():
            return b"(" + b"".join(map(emit, value)) + b"t"
        case list():
            return b"](" + b"".join(map(emit, value)) + b"e"
        case dict():
            pairs = b"".join(emit(key) + emit(item) for key, item in value.items())
            return b"}(" + pairs + b"u"
    raise TypeError(type(value))


def pickled(value: Any) -> bytes:
    return b"\x80\x04" + emit(value) + b"."


def stored_values(tensor: torch.Tensor) -> bytes:
    """Values in the form plain pickling of a tensor uses."""
    stream = io.BytesIO()
    torch.save(tensor._typed_storage(), stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def storage(tensor: torch.Tensor) -> Call:
    return Call(LOAD_BYTES, (stored_values(tensor),))


def rebuilt(values: Any, offset: Any = 0, size: Any = (3,), stride: Any = (1,), *more: Any) -> Call:
    """A tensor from a storage, with any offset, size and stride."""
    hooks = more or (False, Call("collections OrderedDict", ()))
    return Call(REBUILD, (values, offset, size, stride, *hooks))


def persistent(class_name: Any, state: Any, source: Any = "", **other: Any) -> Call:
    meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name}
    return Call(PERSISTENT, ({**meta, "state": state, **other},))

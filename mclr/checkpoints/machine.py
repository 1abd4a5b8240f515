"""The pickle language, read as data: nothing that a file names is imported or called.

A pickle is a list of instructions for a stack machine. Python's machine imports whatever the file
names and calls it. This one knows the instructions that pickle protocols 2 to 5 use for plain
values and objects, and leaves the meaning of every name to a vocabulary; a name without a meaning
ends the reading.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import IO, Any

from mclr.checkpoints.vocabulary import MisfitError, Name, Raw, Vocabulary, refuse

MAX_INSTRUCTIONS = 2_000_000  # a network of a published size takes about 30,000

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
# Instructions with raw bytes, and how many bytes of opcode and length come before those.
_PAYLOADS = {"SHORT_BINBYTES": 2, "BINBYTES": 5, "BINBYTES8": 9, "BYTEARRAY8": 9}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(stream: IO[bytes], vocabulary: Vocabulary, source: object) -> Any:
    """The object of the pickle at the stream's position; the stream stays behind its end.

    ``source`` is the name of the file in errors. Results are plain values, ``Raw`` for bytes, and
    what the vocabulary gives.

    Raises:
        UserError: not a pickle, truncated, an instruction or name that has no place in it.
    """
    machine = _Machine(vocabulary)
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
            if count > MAX_INSTRUCTIONS:
                raise MisfitError(f"more than {MAX_INSTRUCTIONS:,} instructions")
            if opcode.name == "STOP":
                return machine.result()
            machine.step(opcode.name, argument, position or 0)
    except MisfitError as error:
        refuse(source, str(error))
    except Exception as error:  # genops, and meanings that get other arguments than they take
        reason = str(error).strip("'\" ") or type(error).__name__
        refuse(source, f"damaged, or not a pickle ({reason[:200]})")
    raise AssertionError("genops ends with STOP or an error")


class _Machine:
    """Stack, marks and memo of one pickle."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.words = vocabulary
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self.stack) != 1 or self.outer:
            raise MisfitError("the end comes before all values are in place")
        return self.stack[0]

    def step(self, name: str, argument: Any, position: int) -> None:
        """One instruction; its raw bytes, if any, begin a little after ``position``."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _PAYLOADS:
            self.stack.append(Raw(position + _PAYLOADS[name], len(argument)))
        elif name in _TUPLES:
            self.stack.append(tuple(self._pop_several(_TUPLES[name])))
        elif name in _INSTRUCTIONS:
            _INSTRUCTIONS[name](self, argument)
        else:
            raise MisfitError(f"instruction {name}")

    def _pop_several(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise MisfitError("a value is taken from an empty stack")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _pop_marked(self) -> list[Any]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def _top(self, kind: type) -> Any:
        """The value on top, which must be of exactly this type."""
        if type(self.stack[-1]) is not kind:
            raise MisfitError(f"a {kind.__name__} was expected: {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def mark(self, _: Any) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def tuple_(self, _: Any) -> None:
        items = self._pop_marked()
        self.stack.append(tuple(items))

    def append(self, _: Any) -> None:
        items = self._pop_several(1)
        self._top(list).extend(items)

    def appends(self, _: Any) -> None:
        items = self._pop_marked()
        self._top(list).extend(items)

    def setitem(self, _: Any) -> None:
        key, value = self._pop_several(2)
        self._top(dict)[_key(key)] = value

    def setitems(self, _: Any) -> None:
        items = self._pop_marked()
        if len(items) % 2:
            raise MisfitError("a dictionary key without a value")
        self._top(dict).update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def additems(self, _: Any) -> None:
        items = self._pop_marked()
        self._top(set).update(map(_key, items))

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise MisfitError(f"memo {index} is not set")
        self.stack.append(self.memo[index])

    def global_(self, argument: str) -> None:
        self._mention(argument.replace(" ", ".", 1))

    def stack_global(self, _: Any) -> None:
        parts = self._pop_several(2)
        if not all(type(part) is str for part in parts):
            raise MisfitError("a name that is not text")
        self._mention(".".join(parts))

    def _mention(self, dotted: str) -> None:
        if dotted not in self.words:
            raise MisfitError(f"the file names {dotted[:200]!r}, which has no place in it")
        self.stack.append(Name(dotted))

    def reduce(self, _: Any) -> None:
        function, arguments = self._pop_several(2)
        if type(function) is not Name or function.dotted not in self.words.calls:
            raise MisfitError("a call of something that is not one of the known functions")
        if type(arguments) is not tuple:
            raise MisfitError(f"arguments of {function.dotted} are not a tuple")
        self.stack.append(self.words.calls[function.dotted](*arguments))

    def newobj(self, _: Any) -> None:
        kind, arguments = self._pop_several(2)
        if type(kind) is not Name or kind.dotted not in self.words.classes:
            raise MisfitError("a new object of something that is not one of the known classes")
        if type(arguments) is not tuple or arguments:
            raise MisfitError(f"a new {kind.dotted} with arguments")
        self.stack.append(self.words.classes[kind.dotted]())

    def build(self, _: Any) -> None:
        (state,) = self._pop_several(1)
        self.words.build(self.stack[-1], state)

    def persistent(self, _: Any) -> None:
        if self.words.persistent is None:
            raise MisfitError("a reference to data outside of the file")
        (identity,) = self._pop_several(1)
        self.stack.append(self.words.persistent(identity))


def _key(value: Any) -> Any:
    """A dictionary key or set member: plain, because hashing runs into nested values."""
    if value is not None and type(value) not in (str, int, float, bool):
        raise MisfitError(f"a {type(value).__name__} as a key")
    return value


_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, version: None,
    "FRAME": lambda machine, length: None,
    "MARK": _Machine.mark,
    "TUPLE": _Machine.tuple_,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.setitem,
    "SETITEMS": _Machine.setitems,
    "ADDITEMS": _Machine.additems,
    "MEMOIZE": _Machine.memoize,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.global_,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.newobj,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}

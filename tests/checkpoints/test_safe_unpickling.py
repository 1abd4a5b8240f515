"""Hostile and damaged pickles: each is refused in one sentence, and nothing of it happens."""

from __future__ import annotations

import copyreg
import os
import pickle
import random
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pickle_writer import (
    LOAD_BYTES,
    PERSISTENT,
    Build,
    Call,
    Code,
    Name,
    New,
    emit,
    persistent,
    pickled,
    rebuilt,
    storage,
    stored_values,
    text,
)

from mclr.checkpoints.machine import MAX_INSTRUCTIONS
from mclr.checkpoints.places import StoredArray, StoredTensor
from mclr.checkpoints.unpickle import open_pickle
from mclr.errors import UserError
from mclr.models.edm2.checkpoint import read_edm2
from mclr.weights.importer import import_weights

ORDERED = Call("collections OrderedDict", ())
ARRAY = Call("numpy._core.multiarray _reconstruct", (Name("numpy ndarray"), (0,), b"b"))
VALUES = torch.arange(3, dtype=torch.float16)


class Runs:
    """Pickles to a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def refused(tmp_path: Path, content: bytes, marker: Path | None = None) -> str:
    """Import the bytes; the error's text, after a look at what else happened."""
    source, out = tmp_path / "evil.pkl", tmp_path / "out.safetensors"
    source.write_bytes(content)
    with pytest.raises(UserError) as caught:
        import_weights(source, out)
    message = str(caught.value)
    assert message.startswith(f"{source}: ") and "\n" not in message
    assert marker is None or not marker.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pkl"]
    return message


def opened(tmp_path: Path, content: bytes) -> Any:
    source = tmp_path / "fine.pkl"
    source.write_bytes(content)
    with open_pickle(source) as file:
        return file.top


# --- code execution -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda marker: Runs(os.system, f"touch {marker}"),
        lambda marker: Runs(eval, f"open({str(marker)!r}, 'w')"),
        lambda marker: Runs(exec, f"open({str(marker)!r}, 'w')"),
        lambda marker: Runs(getattr, str, "format"),
        lambda marker: Runs(subprocess.Popen, ["touch", str(marker)]),
        lambda marker: Runs(Path.touch, marker),
        lambda marker: Runs(torch.load, str(marker)),
        lambda marker: Runs(pickle.loads, pickle.dumps(Runs(os.system, f"touch {marker}"))),
        lambda marker: Runs(Runs, Runs(os.system, f"touch {marker}")),
    ],
)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_calls_are_refused_by_name(tmp_path: Path, make: Any, protocol: int) -> None:
    marker = tmp_path / "marker"
    content = pickle.dumps({"ema": [{"deep": make(marker)}]}, protocol)
    message = refused(tmp_path, content, marker)
    assert "refused: the file names '" in message
    assert "do not open it with other tools" in message


def test_the_payloads_are_live(tmp_path: Path) -> None:
    """The same bytes in Python's own unpickler do leave a mark."""
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps({"ema": [Runs(os.system, f"touch {marker}")]}, 4))
    assert marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "torch os.system",
        "torch._utils os.system",
        "collections OrderedDict.fromkeys",
        "dnnlib.util EasyDict.__init__",
        "torch_utils.persistence import_hook",
        "torch_utils.persistence _src_to_module",
        "torch.storage UntypedStorage",
        "numpy.core.multiarray fromfile",
        "numpy memmap",
        "copyreg _reconstructor",
    ],
)
def test_other_names_of_known_modules_are_refused(tmp_path: Path, name: str) -> None:
    assert name.replace(" ", ".") in refused(tmp_path, pickled({"ema": Call(name, ("x",))}))


def test_text_instructions_are_refused(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    command = f"S'touch {marker}'\n".encode()
    for code in (b"(" + command + b"ios\nsystem\n.", b"(cos\nsystem\n" + command + b"o."):
        refused(tmp_path, b"\x80\x02" + code, marker)
    assert "not a pickle" in refused(tmp_path, b"cos\nsystem\n(" + command + b"tR.", marker)


def test_extension_codes_are_refused(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    copyreg.add_extension("posix", "system", 200)
    try:
        content = b"\x80\x02\x82\xc8(" + text(f"touch {marker}") + b"tR."
        assert "EXT1" in refused(tmp_path, content, marker)
    finally:
        copyreg.remove_extension("posix", "system", 200)


@pytest.mark.parametrize("ask", [b"Pos.system\n.", text("os.system") + b"Q."])
def test_persistent_ids_are_refused(tmp_path: Path, ask: bytes) -> None:
    message = refused(tmp_path, b"\x80\x04" + ask)
    assert "PERSID" in message or "outside of the file" in message


def test_source_text_in_a_persistent_object_never_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    code = f"open({str(marker)!r}, 'w')\nclass Evil: pass\nclass Precond: pass"
    evil = pickled({"ema": persistent("Evil", {}, code)})
    assert "no EDM2 network" in refused(tmp_path, evil, marker)
    network = pickled({"ema": persistent("Precond", {"_init_kwargs": {}}, code)})
    assert "impossible architecture" in refused(tmp_path, network, marker)
    inner = persistent("Evil", {"_modules": {}}, code)
    state = {
        "_init_kwargs": {"img_resolution": 8, "img_channels": 1, "label_dim": 1},
        "_modules": {"unet": inner},
    }
    message = refused(tmp_path, pickled({"ema": persistent("Precond", state, code)}), marker)
    assert "unknown class 'Evil'" in message


def test_altered_source_of_a_good_network_never_runs(tmp_path: Path, edm2_pickle: Path) -> None:
    """The text is data: the weights import, and the digest of the text is on record."""
    marker = tmp_path / "marker"
    original = edm2_pickle.read_bytes()
    begin = original.index(b"\nimport collections, os\n")
    code = f"\nopen({str(marker)!r}, 'w')#".encode()
    content = original[:begin] + code + original[begin + len(code) :]
    (tmp_path / "altered.pkl").write_bytes(content)
    altered = import_weights(tmp_path / "altered.pkl", tmp_path / "a.safetensors")
    good = import_weights(edm2_pickle, tmp_path / "b.safetensors")
    assert not marker.exists()
    assert altered.parameters == good.parameters and altered.dropped != good.dropped


# --- the stack machine --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("memo 7 is not set", b"h\x07"),
        ("empty stack", b"}R"),
        ("a call of something", emit("os") + emit(()) + b"R"),
        ("a call of something", emit(Name("numpy ndarray")) + emit(()) + b"R"),
        ("a call of something", emit(New("dnnlib.util EasyDict")) + emit(()) + b"R"),
        ("are not a tuple", emit(Name("collections OrderedDict")) + b"}R"),
        ("one of the known classes", emit(Name("collections OrderedDict")) + b")\x81"),
        ("with arguments", emit(Name("dnnlib.util EasyDict")) + emit((1,)) + b"\x81"),
        ("a name that is not text", emit((1, 2)) + emit("x") + b"\x93"),
        ("tuple as a key", b"}" + emit(((1,),)) + b"Ns"),
        ("tuple as a key", b"\x8f(" + emit(()) + b"\x90"),
        ("a dict was expected", emit((1, 2)) + b"NNs"),
        ("a list was expected", emit(()) + b"Na"),
        ("without a value", b"}(Nu"),
        ("before all values", b"}}"),
        ("before all values", b"}("),
        ("a state for a Name", emit(Build(Name("numpy ndarray"), {"x": 1}))),
        ("a state for a dict", emit(Build(New("dnnlib.util EasyDict"), {"clear": 1}))),
        ("a state for a list", emit(Build([], (None, {"append": 1})))),
        ("instruction DUP", b"}2"),
        ("instruction POP", b"}0"),
    ],
)
def test_machine_refuses(tmp_path: Path, what: str, code: bytes) -> None:
    assert what in refused(tmp_path, b"\x80\x04" + code + b".")


def test_a_memo_slot_cannot_become_a_function(tmp_path: Path) -> None:
    """A slot of an allowed function, filled again with text that names another."""
    code = emit(Name("collections OrderedDict")) + b"q\x00" + emit("os.system") + b"q\x00"
    code += b"h\x00" + emit(("true",)) + b"R"
    assert "a call of something" in refused(tmp_path, b"\x80\x04" + code + b".")


@pytest.mark.parametrize("content", [b"", b"hello", b"<html>", b"\x80\x04", b"\x80\x04]\x94\xff."])
def test_not_a_pickle(tmp_path: Path, content: bytes) -> None:
    assert "not a pickle" in refused(tmp_path, content)


def test_absurd_sizes(tmp_path: Path) -> None:
    for announced in (
        b"\x8e" + b"\xff" * 7 + b"\x0f",
        b"B\xff\xff\xff\x7f",
        b"\x8b\xff\xff\xff\x7f",
    ):
        refused(tmp_path, b"\x80\x04" + announced + b"x.")
    assert "instructions" in refused(tmp_path, b"\x80\x04" + b"N" * (MAX_INSTRUCTIONS + 2) + b".")
    # Hashing or comparing values nested so deeply would end the process.
    assert "key" in refused(tmp_path, b"\x80\x04})" + b"\x85" * 300_000 + b"Ns.")


def test_modules_in_a_circle_or_shared(tmp_path: Path) -> None:
    sizes = {"img_resolution": 8, "img_channels": 1, "label_dim": 1}
    table = Code(b"}q\x05" + text("unet") + emit(persistent("UNet", {"_modules": Code(b"h\x05")})))
    circle = {"_init_kwargs": sizes, "_modules": Code(table.code + b"s")}
    message = refused(tmp_path, pickled({"ema": persistent("Precond", circle)}))
    assert "is not a module of an EDM2 network" in message


# --- tensors ------------------------------------------------------------------------------------


def test_a_tensor_is_read_in_place(tmp_path: Path) -> None:
    (tmp_path / "t.pkl").write_bytes(pickled(rebuilt(storage(VALUES), 1, (2,), (1,))))
    with open_pickle(tmp_path / "t.pkl") as file:
        assert type(file.top) is StoredTensor
        assert torch.equal(file.tensor(file.top), VALUES[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        (0, (4,), (1,)),
        (1, (3,), (1,)),
        (-1, (3,), (1,)),
        (2**62, (1,), (1,)),
        (0, (3,), (2,)),
        (0, (2, 2), (2, 1)),
        (0, (3,), (-1,)),
        (0, (2**40,), (0,)),
        (0, (100,), (0,)),
        (0, (3,), (1, 1)),
        (0, (True,), (1,)),
        (0, (1,) * 9, (1,) * 9),
        (0.0, (3,), (1,)),
        (0, [3], (1,)),
        (0, (3,), (1,), False, {"hook": 1}),
        (0, (3,), (1,), False),
    ],
)
def test_views_beyond_the_storage_are_refused(tmp_path: Path, arguments: tuple[Any, ...]) -> None:
    refused(tmp_path, pickled({"ema": rebuilt(storage(VALUES), *arguments)}))


def inner(values: bytes, *, cut: int = 0) -> Call:
    return Call(LOAD_BYTES, (values[: len(values) - cut],))


def test_inner_files_are_read_as_data(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    evil = pickle.dumps(Runs(os.system, f"touch {marker}"), 2)
    assert "posix.system" in refused(tmp_path, pickled(inner(evil)), marker)
    good = stored_values(VALUES)
    spliced = good.replace(b"ctorch\nHalfStorage\n", b"cposix\nsystem\n")
    assert "posix.system" in refused(tmp_path, pickled(inner(spliced)), marker)
    zipped = tmp_path / "z"
    torch.save(VALUES, zipped)
    content = zipped.read_bytes()
    zipped.unlink()
    assert "plain pickling does not use" in refused(tmp_path, pickled(inner(content)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\x8a\nl\xfc", b"\x8a\nl\xfd"),  # magic number
        (b"M\xe9\x03.", b"M\xe8\x03."),  # protocol
        (b"endianq\x02\x88", b"endianq\x02\x89"),
        (b"HalfStorage", b"LongStorage"),
        (b"K\x03Ntq", b"K\x04Ntq"),  # count of values, twice
        (b"\x03\0\0\0\0\0\0\0", b"\x02\0\0\0\0\0\0\0"),
        (b"Ntq\x04Q", b"}tq\x04Q"),  # a view of a storage
        (b"storageq\x00", b"modulesq\x00"),
    ],
)
def test_damaged_inner_files(tmp_path: Path, old: bytes, new: bytes) -> None:
    good = stored_values(VALUES)
    assert good.count(old) >= 1
    refused(tmp_path, pickled(inner(good.replace(old, new, 1))))
    refused(tmp_path, pickled(inner(good, cut=1)))
    refused(tmp_path, pickled(inner(good + b"\0\0")))
    refused(tmp_path, pickled(Call(LOAD_BYTES, ("text",))))


@pytest.mark.parametrize(
    "meta",
    [
        {"type": "function"},
        {"version": 5},
        {"class_name": 3},
        {"state": [1]},
        {"module_src": None},
    ],
)
def test_persistent_objects_of_another_kind(tmp_path: Path, meta: dict[str, Any]) -> None:
    good = {"type": "class", "version": 6, "module_src": "", "class_name": "Precond", "state": {}}
    assert opened(tmp_path, pickled(Call(PERSISTENT, (good,)))).class_name == "Precond"
    (tmp_path / "fine.pkl").unlink()
    refused(tmp_path, pickled({"ema": Call(PERSISTENT, ({**good, **meta},))}))
    refused(tmp_path, pickled({"ema": Call(PERSISTENT, (good, 1))}))
    refused(tmp_path, pickled({"ema": Call(PERSISTENT, ("x",))}))


# --- numpy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)),
        np.full((), 3.5, np.float32),
        np.zeros((0, 2), np.int64),
    ],
)
def test_numpy_arrays(tmp_path: Path, array: np.ndarray, protocol: int) -> None:
    written = pickle.dumps(array, protocol)
    for content in (written, written.replace(b"numpy._core.", b"numpy.core.")):
        if protocol > 3 and content != written:
            continue  # lengths in front of the names: only text names can be changed like this
        (tmp_path / "a.pkl").write_bytes(content)
        with open_pickle(tmp_path / "a.pkl") as file:
            assert type(file.top) is StoredArray
            found = file.array(file.top)
        assert found.dtype == array.dtype and np.array_equal(found, array)


def test_numpy_scalars(tmp_path: Path) -> None:
    for number in (np.float64(2.5), np.int64(7)):
        assert opened(tmp_path, pickle.dumps(number, 4)) == number


def dtype(code: Any, state: Any = (3, "<", None, None, None, -1, -1, 0)) -> Build:
    return Build(Call("numpy dtype", (code, False, True)), state)


@pytest.mark.parametrize(
    "value",
    [
        dtype("O8"),
        dtype("V8"),
        dtype("S8"),
        dtype("f16"),
        dtype(["f8"]),
        dtype("f8", (3, "?", None, None, None, -1, -1, 0)),
        dtype("f8", (3, "", None, None, None, -1, -1, 0)),
        dtype("f8", (3, "<>", None, None, None, -1, -1, 0)),
        dtype("f8", (3, "<", None, ("x",), {"x": 1}, 8, 1, 0)),
        Call("numpy._core.multiarray _reconstruct", (Name("numpy dtype"), (0,), b"b")),
        Build(ARRAY, (1, (2,), dtype("f8"), False, [1.0, 2.0])),
        Build(ARRAY, (1, (2,), dtype("f8"), False, b"short")),
        Build(ARRAY, (1, (2**50,), dtype("f8"), False, b"12345678")),
        Build(ARRAY, (1, (-1,), dtype("f8"), False, b"12345678")),
        Build(ARRAY, (1, (1,), "f8", False, b"12345678")),
        Build(ARRAY, {"shape": (1,)}),
        Call("numpy._core.multiarray scalar", (dtype("f8"), b"1234")),
        Call("numpy._core.numeric _frombuffer", (b"1", dtype("O8"), (1,), "C")),
    ],
)
def test_odd_numpy_values_are_refused(tmp_path: Path, value: Any) -> None:
    refused(tmp_path, pickled({"fid": {"mu": value, "sigma": value}}))


def test_object_arrays_of_python_are_refused(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    array = np.array([Runs(os.system, f"touch {marker}")], dtype=object)
    for protocol in (3, 4, 5):
        refused(tmp_path, pickle.dumps({"fid": {"mu": array}}, protocol), marker)


# --- damage -------------------------------------------------------------------------------------


def test_random_damage_is_a_user_error_or_harmless(tmp_path: Path, edm2_pickle: Path) -> None:
    """Flipped bytes, cuts and repeats of a good file: no other exception ever."""
    good, rng, refusals = edm2_pickle.read_bytes(), random.Random(0), 0
    # Bytes of values make most of the file and do not matter: damage the rest.
    structure = [i for i, byte in enumerate(good) if byte in b"(}])RbtuhjqX\x8c\x93\x94\x81B"]
    path = tmp_path / "damaged.pkl"
    for trial in range(150):
        content = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            content[rng.choice(structure)] = rng.choice(b"(}]).RbtuhNK\x85\x86\x93\x94\x81\x00\xff")
        if trial % 3 == 0:
            content = content[: rng.randrange(len(content))]
        path.write_bytes(content)
        try:
            with open_pickle(path) as file:
                read_edm2(file)
        except UserError as error:
            refusals += 1
            assert str(path) in str(error)
    assert refusals > 50

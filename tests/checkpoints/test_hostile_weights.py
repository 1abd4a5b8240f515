"""Damaged files, files that unpack to far more than they are, values that are no numbers."""

from __future__ import annotations

import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_edm2 import Official
from pickle_writer import (
    LOAD_BYTES,
    Call,
    emit,
    persistent,
    pickled,
    rebuilt,
    storage,
    stored_values,
)
from safetensors.torch import load_file, save_file
from test_import_var import error, golden_state, save

from mclr.checkpoints.fit import MAX_TENSORS
from mclr.checkpoints.unpickle import open_pickle
from mclr.errors import UserError
from mclr.files import save_tensors
from mclr.jobs.take_over import read_released
from mclr.models.edm2.checkpoint import read_edm2
from mclr.weights.export import export_weights
from mclr.weights.header import load_checkpoint, load_statistics, read_checkpoint
from mclr.weights.importer import import_weights

GOLDEN = Path(__file__).parents[1] / "golden"


def refused(tmp_path: Path, source: Path) -> str:
    """Import it; the error's text. Little memory was taken, and little time."""
    tracemalloc.start()
    begin = time.process_time()
    with pytest.raises(UserError) as caught:
        import_weights(source, tmp_path / "out.safetensors")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - begin < 10 and peak < 64e6
    message = str(caught.value)
    assert message.startswith(f"{source}: ") and "\n" not in message
    assert not (tmp_path / "out.safetensors").exists()
    return message


def rewritten(tmp_path: Path, change: Any) -> Path:
    """The golden transformer's .pth with records that ``change(archive, name, content)`` writes."""
    source = save(tmp_path / "good.pth", golden_state("var_var")[0])
    out = tmp_path / "x.pth"
    with zipfile.ZipFile(source) as good, zipfile.ZipFile(out, "w") as archive:
        for name in good.namelist():
            change(archive, name, good.read(name))
    return out


# --- records of a .pth file ---------------------------------------------------------------------


def test_records_written_anew_are_the_same_file(tmp_path: Path) -> None:
    """Else the next test would refuse for another reason."""
    source = rewritten(tmp_path, lambda archive, name, raw: archive.writestr(name, raw))
    import_weights(source, tmp_path / "out.safetensors")
    found, want = load_file(tmp_path / "out.safetensors"), golden_state("var_var")[0]
    assert all(torch.equal(found[name], want[name]) for name in want)


def test_a_compressed_record_is_refused(tmp_path: Path) -> None:
    """Mapped as it lies there, its bytes would be other weights."""

    def change(archive: zipfile.ZipFile, name: str, raw: bytes) -> None:
        how = zipfile.ZIP_DEFLATED if name.endswith("data/3") else zipfile.ZIP_STORED
        archive.writestr(name, raw, how)

    assert "data/3' is compressed" in refused(tmp_path, rewritten(tmp_path, change))


def test_every_changed_byte_of_a_record_is_found(tmp_path: Path) -> None:
    source = save(tmp_path / "x.pth", golden_state("var_var")[0])
    good = source.read_bytes()
    with zipfile.ZipFile(source) as archive:
        middles = [
            entry.header_offset + 128 for entry in archive.infolist() if entry.file_size > 99
        ]
    for place in middles[:: len(middles) // 8]:
        source.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        assert "CRC-32" in refused(tmp_path, source)


def test_records_that_are_there_twice_or_elsewhere(tmp_path: Path) -> None:
    def twice(archive: zipfile.ZipFile, name: str, raw: bytes) -> None:
        archive.writestr(name, raw)
        if name.endswith("data/3"):
            archive.writestr(name, raw)

    with pytest.warns(UserWarning, match="Duplicate"):
        source = rewritten(tmp_path, twice)
    assert "data/3' is there twice" in refused(tmp_path, source)
    good = (tmp_path / "good.pth").read_bytes()
    place = good.index(b"PK\x03\x04", 4)
    source.write_bytes(good[:place] + b"QK" + good[place + 2 :])
    assert "is not where the list of records says" in refused(tmp_path, source)
    big = rewritten(tmp_path, lambda a, n, r: a.writestr(n, b"big" if "byteorder" in n else r))
    assert "not little-endian" in refused(tmp_path, big)


# --- what unpacks to far more than it is --------------------------------------------------------


def test_a_pickle_that_is_compressed(tmp_path: Path) -> None:
    def change(archive: zipfile.ZipFile, name: str, raw: bytes) -> None:
        pickled = raw[:-1] + b"(" * (1 << 24) if name.endswith("data.pkl") else raw
        archive.writestr(name, pickled, zipfile.ZIP_DEFLATED)

    source = rewritten(tmp_path, change)
    assert source.stat().st_size < 1e6
    assert "compressed" in refused(tmp_path, source)


def test_many_views_of_one_storage(tmp_path: Path) -> None:
    state, _ = golden_state("var_var")
    whole = torch.zeros(288 * 48)  # the largest of them
    views = {n: whole[: t.numel()].view(t.shape) for n, t in state.items() if n[-6:] == "weight"}
    assert "its tensors unpack to" in error(tmp_path, {**state, **views})


def test_many_views_of_one_storage_in_a_pickle(tmp_path: Path) -> None:
    """Also where each shows two values only, but from one end to the other."""
    values = torch.zeros(1 << 16, dtype=torch.float16)
    sizes = {"img_resolution": 8, "img_channels": 1, "label_dim": 1, "channel_mult": [1]}
    for size, stride in (((1 << 16,), (1,)), ((2,), ((1 << 16) - 1,))):
        view = rebuilt(storage(values), 0, size, stride)
        tables = {"_modules": {}, "_parameters": {f"p{i}": view for i in range(40)}}
        content = pickled({"ema": persistent("Precond", {"_init_kwargs": sizes, **tables})})
        (tmp_path / "x.pkl").write_bytes(shared(content, stored_values(values)))
        assert "its tensors unpack to" in refused(tmp_path, tmp_path / "x.pkl")


def shared(content: bytes, values: bytes) -> bytes:
    """The pickle with its first storage under a memo, which the others refer to."""
    whole = emit(Call(LOAD_BYTES, (values,)))
    first, *others = content.split(whole)
    return first + whole + b"q\x09" + b"h\x09".join(others)


@pytest.mark.parametrize(("per_block", "said"), [
    (1, "20,000 blocks; expected at most"), (9, "2,222 blocks; expected at most"),
    (20_000, f"more than the {MAX_TENSORS:,} of any network"),
])  # fmt: skip
def test_thousands_of_blocks(tmp_path: Path, per_block: int, said: str) -> None:
    """Refused before a network of that depth is built."""
    state, _ = golden_state("var_var")
    one = torch.zeros(1)
    more = {f"blocks.{i}.x{j}": one for i in range(20_000 // per_block) for j in range(per_block)}
    source = save(tmp_path / "x.pth", {**state, **more})
    message = refused(tmp_path, source)
    assert said in message
    few = {f"blocks.{i}.x": one for i in range(900)}
    save(source, {**state, **few})
    assert "too few for its architecture" in refused(tmp_path, source)


def test_a_header_of_a_large_network(tmp_path: Path) -> None:
    source = save(tmp_path / "x.pth", golden_state("var_var")[0])
    out = tmp_path / "x.safetensors"
    import_weights(source, out)
    tensors, header = read_checkpoint(out)
    for change in ({"depth": 10**6}, {"patch_nums": (1, 2, 3, 400)}):
        large = header.model_copy(update={"architecture": header.architecture | change})
        save_tensors(out, tensors, {"header": large.model_dump_json()})
        with pytest.raises(UserError, match=r"expected at most|does not fit"):
            load_checkpoint(out)


def test_shared_dictionaries_in_dictionaries(tmp_path: Path) -> None:
    """Looking into each once: a thousand names for each of four levels would be 10^12."""
    table: dict[str, Any] = {"x": 1}
    for _ in range(4):
        table = {str(i): table for i in range(1000)}
    assert "no VAR" in refused(tmp_path, save(tmp_path / "x.pth", table))


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite(tmp_path: Path, value: float, official: Official) -> None:
    state, _ = golden_state("var_var")
    state["head.bias"][7] = value
    assert "head.bias has values that are not finite" in error(tmp_path, state)
    (tmp_path / "x.pth").unlink()
    codes, _ = golden_state("var_vae_small")
    codes["quantize.embedding.weight"][3, 2] = value
    told = {"patch_nums": (1, 2, 3, 4)}
    assert "quantize.embedding.weight has values" in error(tmp_path, codes, told=told)
    path = tmp_path / "run.safetensors"
    save_tensors(path, state, {})
    for use in (lambda: read_released(path, "var"), lambda: export_weights(path, tmp_path / "y")):
        with pytest.raises(UserError, match=r"head\.bias has values that are not finite"):
            use()
    net = load_file(GOLDEN / "edm2_net.safetensors")
    net["unet.out_conv.weight"][0, 0, 0, 0] = value
    with_config(net, tmp_path / "net.safetensors")
    official.write(tmp_path / "net.safetensors", tmp_path / "net.pkl")
    assert "unet.out_conv.weight has values" in refused(tmp_path, tmp_path / "net.pkl")


def with_config(net: dict[str, torch.Tensor], path: Path) -> None:
    from safetensors import safe_open

    with safe_open(GOLDEN / "edm2_net.safetensors", "pt") as golden:
        save_file(net, path, golden.metadata())


def test_buffers_of_a_transformer_have_one_value(tmp_path: Path) -> None:
    """The mask is the only tensor with infinite values: they are compared, not passed by."""
    state, _ = golden_state("var_var")
    mask = state["attn_bias_for_masking"].clone()
    mask[0, 0, 0, 3] = 0
    assert "other values than 0, and -inf" in error(
        tmp_path, state | {"attn_bias_for_masking": mask}
    )
    levels = state["lvl_1L"].flip(1)
    assert "lvl_1L is not the scale of each token" in error(tmp_path, state | {"lvl_1L": levels})


def test_constants_that_are_no_numbers(tmp_path: Path, edm2_pickle: Path) -> None:
    raw = edm2_pickle.read_bytes()
    place = raw.index(b"P_mean")
    begin = raw.index(b"G", place)
    (tmp_path / "x.pkl").write_bytes(raw[: begin + 1] + b"\x7f\xf8" + raw[begin + 3 :])
    assert "damaged" in refused(tmp_path, tmp_path / "x.pkl")
    with open_pickle(edm2_pickle) as file:
        assert read_edm2(file).training["P_mean"] == -0.8


# --- messages, and files of our own -------------------------------------------------------------


def test_names_in_messages_do_not_break_the_line(tmp_path: Path) -> None:
    evil = "x\n\x1b[31mmclr: OK\u2028"
    message = error(tmp_path, {evil: torch.zeros(1)})
    assert "\\n\\x1b[31mmclr: OK\\u2028" in message and message.isprintable()
    (tmp_path / "x.pkl").write_bytes(pickled({"ema": persistent(evil, {})}))
    assert refused(tmp_path, tmp_path / "x.pkl").isprintable()


def test_damaged_descriptions_of_our_own_files(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for text in ("{", "[" * 100_000, "{}", '{"architecture": 3}', "\ud7ff"):
        save_tensors(path, {"unet.out_gain": torch.zeros(())}, {"header": text})
        with pytest.raises(UserError, match="no header of imported weights"):
            read_checkpoint(path)
        with pytest.raises(UserError, match=r"x\.safetensors"):
            export_weights(path, tmp_path / "y.pkl", tmp_path / "like.pkl")
    np.savez(tmp_path / "ref.npz", mu=np.zeros(2), sigma=np.eye(2))
    import_weights(tmp_path / "ref.npz", path)
    tensors, header = read_checkpoint(path)
    save_tensors(path, {"fid.mu": tensors["fid.mu"]}, {"header": header.model_dump_json()})
    with pytest.raises(UserError, match="a mean or a covariance is missing"):
        load_statistics(path)

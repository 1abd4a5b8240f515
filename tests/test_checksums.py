"""Files are compared with what was written: a flipped bit is an error, never a number."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from tiny import Trained

from mclr.data.load import Manifest, load_images, load_labels, load_manifest
from mclr.errors import UserError
from mclr.files import (
    atomic,
    checksums,
    load_tensors,
    read_json,
    read_table,
    save_tensors,
    write_json,
)
from mclr.files.checksums import check, md5, note_of, noted, published_files, sha256
from mclr.jobs.selection import best_point, copy_best
from mclr.metrics.features import load_feature_net, read_features
from mclr.metrics.statistics import stored_moments
from mclr.report.embedded import read_image

FLIPS = 40


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def every_flip_is_refused(path: Path, read: Callable[[], object]) -> None:
    """One bit at a time, at random places of a file."""
    read()
    draw = random.Random(path.name)
    for _ in range(FLIPS):
        place, bit = draw.randrange(path.stat().st_size), draw.randrange(8)
        flip(path, place, bit)
        with pytest.raises(UserError, match=f"{path.name}: damaged"):
            read()
        flip(path, place, bit)
    read()


def copied(path: Path, folder: Path) -> Path:
    """A file and its note, elsewhere."""
    for file in (path, note_of(path)):
        shutil.copy(file, folder / file.name)
    return folder / path.name


# ------------------------------------------------------------------ what jobs read


@pytest.mark.parametrize("split", ["train", "reference"])
def test_prepared_data(split: str, prepared: Path, manifest: Manifest, tmp_path: Path) -> None:
    for name in ("manifest.json", f"{split}.parquet"):
        shutil.copy(prepared / name, tmp_path / name)
    path = tmp_path / f"{split}.parquet"
    every_flip_is_refused(path, lambda: load_images(path, manifest))
    every_flip_is_refused(path, lambda: load_labels(path))


def test_the_manifest_of_prepared_data(prepared: Path, tmp_path: Path) -> None:
    """A class name would otherwise change unseen: no job computes with it."""
    path = copied(prepared / "manifest.json", tmp_path)
    every_flip_is_refused(path, lambda: load_manifest(path))
    note_of(path).unlink()  # of an earlier version
    path.write_text(path.read_text().replace('"0"', '"zero"'))
    assert load_manifest(path).class_names[0] == "zero"


def test_features(trained: Trained, tmp_path: Path) -> None:
    path = copied(trained.net / "reference.parquet", tmp_path)
    every_flip_is_refused(path, lambda: read_features([path], "cnn"))
    every_flip_is_refused(path, lambda: stored_moments([path], "cnn"))


def test_weights(trained: Trained, manifest: Manifest, tmp_path: Path) -> None:
    tokenizer = trained.tokenizer_of("var")
    assert tokenizer is not None
    for file in (tokenizer, trained.edm2, trained.net / "net.safetensors"):
        path = copied(file, tmp_path)
        every_flip_is_refused(path, lambda path=path: load_tensors(path))  # type: ignore[misc]
    every_flip_is_refused(path, lambda: load_feature_net(path, manifest))


def test_evaluations_decide_nothing_when_damaged(tmp_path: Path) -> None:
    weights, path = tmp_path / "step.safetensors", tmp_path / "evaluation.json"
    save_tensors(weights, {"w": torch.ones(3)}, {}, noted=True)
    point = {"method": "mclr", "hyperparameters": {}, "step": 1, "guidance": 0.0}
    rows = [point | {"fd_cnn": fd, "checkpoint": str(weights)} for fd in (1.25, 1.5)]
    write_json(path, {"rows": rows}, noted=True)
    every_flip_is_refused(path, lambda: best_point(path, "cnn"))
    best = tmp_path / "best.safetensors"
    copy_best(path, "cnn", best)
    assert noted(best) == sha256(best) == noted(weights)
    flip(weights, -1)
    with pytest.raises(UserError, match=r"step\.safetensors: damaged"):
        copy_best(path, "cnn", best)


def test_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.parquet"
    with atomic(path, noted=True) as temporary:
        pd.DataFrame({"fd": [1.0, 2.0]}).to_parquet(temporary)
    every_flip_is_refused(path, lambda: read_table(path))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 999])
def test_a_table_without_a_note_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.parquet"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.parquet: not a readable Parquet table") as found:
        read_table(path)
    assert "\n" not in str(found.value)
    with pytest.raises(UserError, match=r"none\.parquet: no results yet"):
        read_table(tmp_path / "none.parquet")


@pytest.mark.parametrize("text", ["{", "\0\0", "[]", '"text"', "{}", "[" * 100_000])
def test_json_of_another_kind_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "provenance.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"provenance\.json: not valid JSON of its kind"):
        read_json(path, "git_commit")


@pytest.mark.parametrize("cut", [0, 9, -200])
def test_a_damaged_picture_is_one_line(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    Image.effect_noise((32, 32), 50).save(path)
    read_image(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"grid\.png: not a readable image"):
        read_image(path)


# ------------------------------------------------------------------ notes


def test_a_note_is_what_sha256sum_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {}, noted=True)
    assert note_of(path).read_text() == f"{sha256(path)}  a.json\n"
    assert noted(path) == sha256(path)


def test_another_writer_takes_the_note_away(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {}, noted=True)
    write_json(path, {"a": 1})
    assert not note_of(path).exists() and read_json(path) == {"a": 1}


def test_without_its_note_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {}, noted=True)
    path.write_text("[]")
    note_of(path).unlink()
    assert read_json(path) == []


@pytest.mark.parametrize("kind", ["empty", "cut", "bytes", "folder", "pipe", "nowhere", "endless"])
def test_a_damaged_note_does_not_switch_its_check_off(kind: str, tmp_path: Path) -> None:
    path, note = tmp_path / "a.json", note_of(tmp_path / "a.json")
    write_json(path, {}, noted=True)
    whole = note.read_bytes()
    note.unlink()
    match kind:
        case "folder":
            note.mkdir()
        case "pipe":
            os.mkfifo(note)
        case "nowhere":
            note.symlink_to(tmp_path / "nowhere")
        case "endless":
            note.symlink_to("/dev/zero")
        case _:
            note.write_bytes({"empty": b"", "cut": whole[:63], "bytes": b"\xff" * 64}[kind])
    for content in ("{}", "[]"):
        path.write_text(content)
        with pytest.raises(UserError, match=r"\.a\.json\.sha256: expected the sha256 with which"):
            read_json(path)
    if kind != "folder":
        write_json(path, {"a": 1}, noted=True)
        assert read_json(path) == {"a": 1}


def test_a_killed_writer_leaves_no_note_of_another_content(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {}, noted=True)
    with pytest.raises(KeyboardInterrupt), atomic(path, noted=True) as temporary:
        temporary.write_text("[]")
        raise KeyboardInterrupt
    assert noted(path) == sha256(path) and read_json(path) == {}
    assert sorted(file.name for file in tmp_path.iterdir()) == [note_of(path).name, "a.json"]


def test_a_large_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "LARGE", 3)
    path = tmp_path / "large"
    path.write_bytes(b"abcd")
    first = sha256(path)

    def never(*_: object) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(checksums.hashlib, "file_digest", never)
        assert sha256(path) == first
    path.write_bytes(b"abcde")
    assert sha256(path) != first


# ------------------------------------------------------------------ DVC's records


PUBLISHED = ["results/evaluations/one.json", "results/runs/other/provenance.json"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One published file, and one in a folder that is published as a whole."""
    (tmp_path / ".dvc").mkdir()
    one, other = (tmp_path / name for name in PUBLISHED)
    write_json(one, {"a": 1})
    write_json(other, {"b": 1})
    listed = json.dumps([{"md5": md5(other), "relpath": "other/provenance.json"}])
    keep(tmp_path, "ab" * 16 + ".dir", listed.encode())
    outs = f"""
    outs:
    - {{path: {PUBLISHED[0]}, hash: md5, md5: {md5(one)}}}
    - {{path: results/runs, hash: md5, md5: {"ab" * 16}.dir}}
    - {{path: results/elsewhere, hash: md5, md5: {"cd" * 16}.dir}}
"""
    (tmp_path / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  all:{outs}")
    return tmp_path


def keep(checkout: Path, oid: str, content: bytes) -> None:
    """Put an object into DVC's cache."""
    place = checkout / ".dvc" / "cache" / "files" / "md5" / oid[:2] / oid[2:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)


NAMES = pytest.mark.parametrize("name", PUBLISHED)


def test_what_dvc_knows(checkout: Path) -> None:
    assert list(published_files(checkout)) == PUBLISHED


@NAMES
def test_a_damaged_published_file(name: str, checkout: Path) -> None:
    every_flip_is_refused(checkout / name, lambda: read_json(checkout / name))
    flip(checkout / name, 0)
    with pytest.raises(UserError, match=rf"`dvc checkout --force .*{name}` brings the published"):
        check(checkout / name)


@NAMES
def test_a_result_that_was_made_here_is_its_own(name: str, checkout: Path) -> None:
    """Its note, not what is published, says what it should be."""
    write_json(checkout / name, {"made": "here"}, noted=True)
    every_flip_is_refused(checkout / name, lambda: read_json(checkout / name))


@NAMES
def test_what_dvc_brought_is_older_or_newer_than_a_note(name: str, checkout: Path) -> None:
    path = checkout / name
    published = path.read_bytes()
    write_json(path, {"made": "here"}, noted=True)
    path.write_bytes(published)
    assert read_json(path)
    path.write_text('{"of": "another commit"}')
    with pytest.raises(UserError, match="damaged, or another file in its place"):
        read_json(path)
    keep(checkout, md5(path), path.read_bytes())
    assert read_json(path) == {"of": "another commit"}


def test_a_cache_that_a_team_shares(checkout: Path) -> None:
    shared = checkout / "shared"
    (checkout / ".dvc" / "cache").rename(shared)
    (checkout / ".dvc" / "config.local").write_text("[cache]\n    dir = ../shared\n")
    assert PUBLISHED[1] in published_files(checkout)


@pytest.mark.parametrize("text", ["<<<<<<< HEAD\n", "stages: [", "a: 1\n", "\0"])
def test_records_that_cannot_be_read_say_nothing(text: str, checkout: Path) -> None:
    (checkout / "dvc.lock").write_text(text)
    flip(checkout / PUBLISHED[0], 9)
    assert published_files(checkout) == {}
    assert read_json(checkout / PUBLISHED[0])


def test_what_jobs_do_not_note_may_have_been_made_here(checkout: Path) -> None:
    """Such as a feature net's accuracies: another value is no damage."""
    info = checkout / "results" / "info.json"
    write_json(info, {"a": 1})
    lock = (checkout / "dvc.lock").read_text()
    (checkout / "dvc.lock").write_text(lock.replace(PUBLISHED[0], "results/info.json"))
    write_json(info, {"a": 2})
    assert "results/info.json" in published_files(checkout) and read_json(info) == {"a": 2}

"""The file of versions: looked up, raised, confirmed, and refused where it is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from mclr.errors import UserError
from mclr.versions.check import explanation, moved, moved_since, warning
from mclr.versions.kinds import KINDS, matching
from mclr.versions.record import PLACE, Version, Versions, load_versions

NONE = "0" * 16
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def versions() -> Versions:
    return Versions({kind: Version("1", NONE) for kind in KINDS})


RAISED = "2-11111111"


def test_what_is_saved_is_loaded(versions: Versions, tmp_path: Path) -> None:
    versions.bump("sample", dict.fromkeys(KINDS, "1" * 16))
    versions.save(tmp_path)
    loaded = load_versions(tmp_path)
    assert loaded.entries == versions.entries
    assert list(loaded.entries) == list(KINDS)
    content = yaml.safe_load((tmp_path / PLACE).read_text())
    assert content["versions"]["sample"] == dict.fromkeys(
        ("edm2", "var", "diffusers", "own"), RAISED
    )
    assert content["digests"]["sample"]["var"] == "1" * 16


def test_saving_the_repositorys_file_changes_nothing(tmp_path: Path) -> None:
    load_versions(ROOT).save(tmp_path)
    assert (tmp_path / PLACE).read_bytes() == (ROOT / PLACE).read_bytes()


def test_a_bump_raises_what_it_names_and_notes_the_code(versions: Versions) -> None:
    found = dict.fromkeys(KINDS, "1" * 16)
    assert versions.bump("finetune.var", found) == [
        f"finetune.var.{name} {RAISED}"
        for name in ("mclr", "ccdpo", "cca", "ddo", "distill", "gft", "mg", "own")
    ]
    assert versions.of("finetune.var.cca") == f"finetune.var.cca {RAISED}"
    assert versions.of("finetune.edm2.cca") == "finetune.edm2.cca 1"
    raised = {kind for kind, entry in versions.entries.items() if entry.digest != NONE}
    assert raised == {kind for kind in KINDS if kind.startswith("finetune.var.")}


def test_a_confirmed_kind_keeps_its_version(versions: Versions) -> None:
    versions.confirm({"evaluate": "1" * 16})
    assert versions.entries["evaluate"] == Version("1", "1" * 16)


def test_a_new_kind_is_added_by_a_bump(versions: Versions) -> None:
    del versions.entries["floors"]
    assert moved(versions, dict.fromkeys(KINDS, NONE)) == ["floors"]
    with pytest.raises(UserError, match=r"no kind floors; run `make bump KIND=floors`"):
        versions.of("floors")
    assert versions.bump("floors", dict.fromkeys(KINDS, NONE)) == ["floors 1-00000000"]


def test_unknown_kinds_are_named(versions: Versions) -> None:
    with pytest.raises(UserError, match=r"KIND=xyz: no such kind of job; choose from fetch"):
        versions.bump("xyz", {})
    with pytest.raises(UserError, match=r"did you mean figures\? "):
        versions.bump("figure", {})
    with pytest.raises(UserError, match=r"mean sample\.var\? choose from sample\.edm2, sam"):
        versions.bump("sample.VAR", {})


def test_two_changes_never_have_one_version(versions: Versions) -> None:
    """Tried one after the other, or on two branches: the version names the code."""
    other = Versions(versions.entries)
    versions.bump("floors", dict.fromkeys(KINDS, "a" * 16))
    other.bump("floors", dict.fromkeys(KINDS, "b" * 16))
    assert versions.of("floors") != other.of("floors")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("versions: {evaluate: 1}\n", "'digests'"),
        ("versions: {evaluate: 1}\ndigests: {floors: '0000000000000000'}\n", "different kinds"),
        ("versions: {evaluate: one}\ndigests: {evaluate: '0000000000000000'}\n", "expected 1, or"),
        ("versions: {evaluate: 1}\ndigests: {evaluate: short}\n", "16 hex digits in quotes"),
        ("<<<<<<< HEAD\nversions: {}\n", ""),
        ("", "not subscriptable"),
        ("versions: {evaluate: 1, evaluate: 2}\ndigests: {}\n", "evaluate comes twice"),
        ("versions: &a {x: *a}\n", ""),
        ("versions: {floors: 1}\ndigests: {floors: 1234567890123456}\n", "in quotes"),
    ],
)
def test_damaged_files(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / PLACE).parent.mkdir()
    (tmp_path / PLACE).write_text(text)
    with pytest.raises(UserError, match=rf"versions\.yaml: damaged .*{said}.*git checkout"):
        load_versions(tmp_path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"versions\.yaml: cannot be read .*; run `git checkout"):
        load_versions(tmp_path)


def test_both_ways_out_are_named() -> None:
    said = explanation(["sample.edm2", "evaluate"])
    assert "sample.edm2, evaluate" in said
    assert said.index("make same") < said.index("make bump KIND=")
    assert "sample.* (4), evaluate" in warning([*matching("sample"), "evaluate"])


def test_what_was_found_is_remembered_until_a_file_is_written(
    versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []

    def found(root: Path) -> dict[str, str]:
        looked.append(root)
        return dict.fromkeys(KINDS, NONE) | {"floors": "1" * 16}

    monkeypatch.setattr("mclr.versions.check.digests", found)
    file = tmp_path / "mclr" / "a.py"
    file.parent.mkdir()
    file.write_text("x = 1\n")
    memory = tmp_path / "memory.json"
    for _ in range(3):
        assert moved_since(tmp_path, versions, memory) == ["floors"]
    assert len(looked) == 1
    os.utime(file, (1, 1))
    assert moved_since(tmp_path, versions, memory) == ["floors"]
    assert len(looked) == 2
    memory.write_text("{")
    assert moved_since(tmp_path, versions, memory) == ["floors"]
    assert len(looked) == 3

"""Records of Snakemake: each is read once, and the answers are its own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.io import IOFile
from snakemake.persistence.file import FilePersistence

from mclr.operations.record_reading import read_once

OUTPUTS = [f"figures/{i}.png" for i in range(300)]
INPUTS = [f"grids/{i}.png" for i in range(20)]


def record(i: int = 0) -> dict[str, Any]:
    """Of one output; checksums of old and of new form."""
    sums = {name: f"sha256:{name}" for name in INPUTS} | {INPUTS[1]: "bare", INPUTS[2]: None}
    if i == 7:  # one that was made of another file
        sums[INPUTS[3]] = "md5:other"
        del sums[INPUTS[4]]
    return {"rule": "figures", "input": INPUTS, "params": ["1"], "input_checksums": sums}


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Any, Any, list[str]]:
    """Snakemake's own store, ours on the same files, and the records that ours has read."""

    class Ours(FilePersistence):  # type: ignore[misc]
        def _io_read(self, subject: Any, id: Any) -> Any:
            read.append(id)
            return super()._io_read(subject, id)

    read: list[str] = []
    plain = FilePersistence.__dict__
    before = dict(plain)
    read_once(Ours)
    assert dict(plain) == before
    own, ours = FilePersistence(path=tmp_path), Ours(path=tmp_path)
    for i, name in enumerate(OUTPUTS):
        own._io_write(own._metadata_path, record(i), name)
    return own, ours, read


def job(names: list[str]) -> Any:
    return SimpleNamespace(output=[IOFile(name) for name in names])


def test_answers_are_those_of_snakemake(stores: tuple[Any, Any, list[str]]) -> None:
    own, ours, _ = stores
    for names in (OUTPUTS, OUTPUTS[7:8], OUTPUTS[8:9], ["new.png"], [*OUTPUTS[:2], "new.png"], []):
        asked = job(names)
        for path in [*INPUTS, "unknown.png"]:
            assert ours.input_checksums(asked, path) == own.input_checksums(asked, path)
        for output in asked.output:
            assert ours.metadata(output) == own.metadata(output)


def test_each_record_is_read_once(stores: tuple[Any, Any, list[str]]) -> None:
    _, ours, read = stores
    asked = job(OUTPUTS)
    for path in INPUTS:
        ours.input_checksums(asked, path)
    for _ in range(4):  # for parameters, inputs, their format, their presence
        for output in asked.output:
            assert ours.metadata(output).rule == "figures"
    assert read == OUTPUTS


def test_equal_parts_of_records_are_held_once(stores: tuple[Any, Any, list[str]]) -> None:
    _, ours, _ = stores
    found = [ours.metadata(output) for output in job(OUTPUTS).output]
    assert len({id(one.input) for one in found}) == 1
    assert len({id(one.input_checksums) for one in found}) == 3  # before, at and after the odd one


def test_what_changes_is_read_again(stores: tuple[Any, Any, list[str]]) -> None:
    _, ours, _ = stores
    asked = job(OUTPUTS[:1])
    assert ours.input_checksums(asked, INPUTS[0]) == {f"sha256:{INPUTS[0]}"}
    changed = record() | {"input_checksums": {INPUTS[0]: "sha256:new"}}
    ours._clear_cache()  # as Snakemake does before it starts or finishes a job
    ours._io_write(ours._metadata_path, changed, OUTPUTS[0])
    assert ours.input_checksums(asked, INPUTS[0]) == {"sha256:new"}


def test_the_rules_ask_for_it() -> None:
    rules = Path(__file__, "../../../workflow/rules/common.smk").resolve().read_text()
    assert "read_once(FilePersistence)" in rules

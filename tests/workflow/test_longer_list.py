"""Points added to what has been sampled: the files of the others stay, or are the same again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from checkout import MICRO, Checkout

from mclr.files import sha256


def samples(checkout: Checkout, experiment: str) -> list[Path]:
    """Every file that is made of samples of an experiment."""
    folders = (checkout.results / kind / experiment for kind in ("features", "grids"))
    return sorted(file for folder in folders for file in folder.rglob("shard-*"))


def identities(files: list[Path]) -> dict[Path, tuple[int, int]]:
    """Which file each is on the disk, and when it was written."""
    return {file: ((about := file.stat()).st_ino, about.st_mtime_ns) for file in files}


def test_only_new_points_are_sampled(copy_of_finished: Callable[[], Checkout]) -> None:
    checkout = copy_of_finished()
    before = identities(samples(checkout, "edm2-base"))
    assert len(before) == 8  # of two scales, in two shards
    checkout.edit(MICRO, "guidance: [0.5]", "guidance: [0.5, 1.5]")
    evaluation = "results/micro/evaluations/edm2-base.json"
    assert checkout.planned("--", evaluation) == {"sample": 2, "evaluate": 1}
    checkout.snakemake(evaluation)
    after = identities(samples(checkout, "edm2-base"))
    assert before.items() <= after.items()
    new = after.keys() - before.keys()
    assert len(new) == 4 and all("/guidance-1.5/" in str(file) for file in new)


def test_a_run_with_more_checkpoints(copy_of_finished: Callable[[], Checkout]) -> None:
    """It trains again, to the same weights: its samples are the same bytes, others' untouched."""
    checkout = copy_of_finished()
    bytes_before = {file: sha256(file) for file in samples(checkout, "edm2-mclr")}
    others = identities(samples(checkout, "edm2-base") + samples(checkout, "edm2-ddo"))
    assert len(bytes_before) == 8 and len(others) == 12
    checkout.edit(MICRO, "checkpoints: [1, 2]", "checkpoints: [1, 2, 3]")
    checkout.snakemake("results/micro/evaluations/edm2-mclr.json")
    after = {file: sha256(file) for file in samples(checkout, "edm2-mclr")}
    assert bytes_before.items() <= after.items() and len(after) == 12
    assert identities([*others]) == others

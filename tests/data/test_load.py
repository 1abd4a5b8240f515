"""Minibatches and generators depend on their keys alone; damaged files are named."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from mclr.data.load import Manifest, load_images, load_manifest, minibatch, step_generator
from mclr.errors import UserError
from mclr.files import read_json, write_json


@pytest.mark.parametrize(("n", "batch"), [(10, 5), (10, 3), (10, 10), (4, 11), (7, 1)])
def test_each_epoch_is_a_permutation(n: int, batch: int) -> None:
    epochs = 5 * batch  # a whole number of batches
    rows = torch.cat([minibatch(n, batch, step, 0) for step in range(epochs * n // batch)])
    for epoch in rows.view(-1, n):
        assert epoch.sort().values.tolist() == list(range(n))
    assert len({tuple(epoch.tolist()) for epoch in rows.view(-1, n)}) > 1 or n == 1


def test_minibatch_depends_on_seed_and_step_alone() -> None:
    first = minibatch(100, 8, 37, 5)
    minibatch(100, 8, 3, 5)
    torch.manual_seed(1)
    assert torch.equal(minibatch(100, 8, 37, 5), first)
    assert not torch.equal(minibatch(100, 8, 37, 6), first)
    assert not torch.equal(minibatch(100, 8, 38, 5), first)


def test_different_keys_give_different_draws() -> None:
    """Also when a key is another one with zeros appended."""
    keys = [*itertools.product(range(4)), *itertools.product(range(4), repeat=2)]
    keys += [*itertools.product(range(4), repeat=3)]
    draws = {tuple(torch.rand(4, generator=step_generator(*key)).tolist()) for key in keys}
    assert len(draws) == len(keys)
    again = torch.rand(4, generator=step_generator(3, 2, 1))
    assert torch.equal(again, torch.rand(4, generator=step_generator(3, 2, 1)))


def test_images_must_be_square(prepared: Path, tmp_path: Path) -> None:
    content = read_json(prepared / "manifest.json") | {"shape": [1, 8, 6]}
    write_json(tmp_path / "manifest.json", content)
    with pytest.raises(UserError, match=r"manifest\.json: images are 8×6; expected square"):
        load_manifest(tmp_path / "manifest.json")


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest\.json: file is missing"):
        load_manifest(tmp_path / "manifest.json")


def test_damaged_split(prepared: Path, manifest: Manifest, tmp_path: Path) -> None:
    whole = (prepared / "train.parquet").read_bytes()
    path = tmp_path / "train.parquet"
    for content in (None, b"", whole[:-20], b"x" * 100):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match=r"train\.parquet: not a readable Parquet split"):
            load_images(path, manifest)

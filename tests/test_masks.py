"""Masks of dropout: how often, how independent, and the same wherever a sample is."""

from __future__ import annotations

import pytest
import torch

from mclr.likelihood.masks import Masks

SEEDS = torch.randint(2**31, (64,), generator=torch.Generator().manual_seed(0))
KNOWN = [[1, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 1]]


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_share_and_mean(rate: float) -> None:
    kept = Masks(SEEDS, rate).drop(torch.ones(64, 8, 16, 16), 3)
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)])
    # 131,072 elements: four standard deviations
    error = 4 * (rate * (1 - rate) / kept.numel()) ** 0.5
    assert (kept == 0).float().mean().item() == pytest.approx(rate, abs=error)
    assert torch.equal(Masks(SEEDS, 0.0).drop(kept, 3), kept)


@pytest.mark.parametrize("seeds", [SEEDS, torch.arange(64)])
def test_samples_layers_and_elements_are_independent(seeds: torch.Tensor) -> None:
    """No correlation beyond that of 2,048 fair coins, of 2,016 pairs: five deviations."""
    first, second = ((Masks(seeds, 0.5).drop(torch.ones(64, 2048), n) > 0).float() for n in (0, 1))
    between = torch.corrcoef(first).fill_diagonal_(0)
    assert between.abs().max() < 5 / 2048**0.5
    for other in (second.flatten(), first.roll(1, 1).flatten(), first.roll(16, 1).flatten()):
        pair = torch.corrcoef(torch.stack([first.flatten(), other]))
        assert pair[0, 1].abs() < 5 / first.numel() ** 0.5


def test_a_mask_belongs_to_its_sample() -> None:
    """In any batch, of any number type and memory layout; known bits, on every machine."""
    masks, x = Masks(SEEDS, 0.3), torch.ones(64, 3, 4, 4)
    whole, rows = masks.drop(x, 5), torch.tensor([7, 7, 2])
    assert torch.equal(masks.take(rows).drop(x[rows], 5), whole[rows])
    assert torch.equal(masks.join(masks.take(rows)).seeds, torch.cat([SEEDS, SEEDS[rows]]))
    last = masks.drop(x.contiguous(memory_format=torch.channels_last), 5)
    assert torch.equal(last, whole)
    assert torch.equal(masks.drop(x.bfloat16(), 5) > 0, whole > 0)
    known = Masks(torch.tensor([1, 2**31 - 1]), 0.5).drop(torch.ones(2, 12), 0) > 0
    assert known.int().tolist() == KNOWN


def test_whole_samples() -> None:
    dropped = Masks(SEEDS, 0.5).drop(torch.ones(64, 5, 3), 1, each=0)
    assert ((dropped == 0).all((1, 2)) | (dropped == 2).all((1, 2))).all()
    half = Masks(SEEDS, 0.5).drop(torch.ones(64, 5, 3), 1, 0.5, each=0)
    assert half.unique().tolist() == pytest.approx([0.0, 4 / 3])

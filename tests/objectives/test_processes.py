"""Two processes give the gradient of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from naive import Toy, toy
from torch import Tensor

from mclr.objectives import Cca, CcDpo, Distill, Gft, Mclr, Mg
from mclr.objectives.cca import cca_loss
from mclr.objectives.ccdpo import ccdpo_loss
from mclr.objectives.contrast import draw_partners
from mclr.objectives.distill import distill_loss
from mclr.objectives.gft import gft_loss
from mclr.objectives.mclr import mclr_loss
from mclr.objectives.mg import mg_loss
from mclr.training.gradient import accumulate, sum_over_processes
from mclr.training.share import Share

LABELS = [0, 1, 1, 2, 0, 4, 1]
NAMES = ("mclr", "ccdpo", "cca", "distill", "gft", "mg")


def step(nets: Toy, name: str, share: Share) -> dict[str, Any]:
    """Gradient and terms after one step of this process's share."""
    batch = nets.batch(LABELS)
    contrast = draw_partners(batch.labels, 3, torch.Generator().manual_seed(7))
    policy, reference = nets.library(nets.policy), nets.library(nets.reference)
    said = nets.predictions()

    def loss(part: Tensor) -> Any:
        if name == "mclr":
            return mclr_loss(Mclr(name="mclr", K=3, dsm=0.5), policy, batch, contrast, part)
        if name == "ccdpo":
            objective = CcDpo(name="ccdpo", beta=0.3, K=3)
            return ccdpo_loss(objective, policy, reference, batch, contrast, part)
        if name == "distill":
            return distill_loss(Distill(name="distill", gamma=2), said, batch, part)
        if name == "gft":
            return gft_loss(Gft(name="gft", beta=0.4), said, batch, part)
        if name == "mg":
            return mg_loss(Mg(name="mg", w=0.6), said, batch, part)
        nce = Cca.model_validate({"name": "cca", "beta": 0.3, "lambda": 2, "K": 3})
        return cca_loss(nce, policy, reference, batch, contrast, part)

    sums = sum_over_processes(nets.policy, accumulate(map(loss, share.parts(len(LABELS)))))
    terms = {name: value.item() for name, value in sums.items()}
    return {"terms": terms, "gradient": [p.grad for p in nets.policy.parameters()]}


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        found = {
            (family, name): step(toy(family), name, Share(micro_batch=2, rank=rank, size=2))
            for family in ("diffusion", "autoregressive")
            for name in NAMES
        }
    finally:
        dist.destroy_process_group()
    torch.save(found, Path(folder, f"{rank}.pt"))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(process, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("family", ["diffusion", "autoregressive"])
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_give_the_gradient_of_one(both: list[Any], family: str, name: str) -> None:
    """Shares of 3 and 4 samples in micro-batches of 2, partners from the whole minibatch."""
    alone = step(toy(family), name, Share())
    for rank in range(2):
        found = both[rank][family, name]
        assert found["terms"] == pytest.approx(alone["terms"], rel=1e-12)
        for a, b in zip(found["gradient"], alone["gradient"], strict=True):
            assert b.abs().max() > 0
            assert (a - b).abs().max() <= 1e-12 * max(1.0, b.abs().max().item())


def test_alone_nothing_is_sent() -> None:
    net = torch.nn.Linear(2, 1)
    terms = {"loss": torch.tensor(1.5)}
    assert sum_over_processes(net, terms) is terms

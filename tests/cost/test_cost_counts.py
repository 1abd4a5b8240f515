"""How much `mclr plan` does: a pass for all numbers of rows, each kind of work counted once."""

from __future__ import annotations

import gc
import sys
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from mclr.cost.estimate import Machines, estimate
from mclr.cost.images import images_of
from mclr.cost.work import Workload
from mclr.models.edm2 import cost
from mclr.models.edm2.config import Edm2Network
from mclr.models.edm2.precond import Precond
from mclr.models.trace import MANY, Trace, trace, trace_rows
from mclr.planning.collection import no_collection
from mclr.planning.plan import Plan
from mclr.terminal import waiting

CONFIG = Edm2Network(
    model_channels=16,
    channel_mult=(1, 2),
    num_blocks=1,
    attn_resolutions=(4,),
    img_resolution=8,
    img_channels=3,
    label_dim=10,
)


def denoised(rows: int, dtype: torch.dtype, net: Precond) -> Tensor:
    """On what passes for a processor."""
    x = torch.zeros(rows, 3, 8, 8)
    found: Tensor = net(x, torch.ones(rows), torch.zeros(rows, 10), dtype=dtype)
    return found


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_pass_tells_of_any_number_of_rows(grad: bool, dtype: torch.dtype) -> None:
    """What fake tensors on the processor give, number by number."""
    evaluate = partial(cost._denoise, dtype=dtype, device=torch.device("meta"))
    found = trace_rows(lambda: Precond(CONFIG), evaluate, (3, 16, 32), grad=grad)
    for rows, one in found.items():
        single = partial(denoised, rows, dtype)
        assert one == trace(lambda: Precond(CONFIG), single, grad=grad), rows


def test_a_tensor_that_happens_to_be_divisible_is_as_it_is() -> None:
    def evaluate(net: torch.nn.Identity) -> Any:
        return torch.empty(MANY, dtype=torch.uint8)

    assert trace(torch.nn.Identity, evaluate) == Trace(0, MANY)


def test_memory_of_a_network_takes_two_passes(
    tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []

    def counted(*args: Any, grad: bool, **others: Any) -> dict[int, Trace]:
        calls.append(grad)
        return trace_rows(*args, grad=grad, **others)

    monkeypatch.setattr(cost, "trace_rows", counted)
    cost._traced.cache_clear()
    network = Workload(tiny_plan, images_of(tiny_plan.tier)).networks["edm2"]
    assert network.training_bytes()[1] > network.sampling_bytes() > 0 < network.evaluation
    assert sorted(calls) == [False, True]


def test_points_alike_are_counted_once(tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    load, counted = Workload(tiny_plan, images_of(tiny_plan.tier)), []
    shard = load._shard
    monkeypatch.setattr(load, "_shard", lambda *key: counted.append(key) or shard(*key))
    sampled = [job for job in load.jobs if job.point]
    works = {load.of(job) for job in sampled}
    assert len(works) <= len(counted) == len(set(counted)) < len(sampled) / 2


def test_people_at_a_terminal_are_told(
    tiny_plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Any,
) -> None:
    told: list[str] = []
    estimate(tiny_plan.tier, Machines("h100", 8, 0.2), tmp_path, tell=told.append)
    assert told[0] == "jobs and networks"
    assert "what to cut: half of the checkpoints" in told
    with waiting("mclr plan") as tell:
        tell("jobs")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with waiting("mclr plan") as tell:
        tell("jobs")
    assert capsys.readouterr().err == "\r\x1b[2Kmclr plan: jobs …\r\x1b[2K"


def test_collection_comes_back() -> None:
    with pytest.raises(KeyError), no_collection():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()

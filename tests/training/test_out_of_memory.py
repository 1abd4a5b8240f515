"""Memory that is short, and two jobs that would train the same run."""

from __future__ import annotations

import fcntl
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import Trained
from torch import nn

from mclr.errors import UserError
from mclr.events import EventLog
from mclr.jobs.inputs import Data
from mclr.models.families import make_family
from mclr.models.family import load_network
from mclr.objectives.loss import Loss
from mclr.planning.plan import Plan
from mclr.training.base import base_trainee
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples
from mclr.training.loop import train
from mclr.training.memory import is_out_of_memory
from mclr.training.share import Share
from mclr.training.state import StateFolder
from mclr.training.trainee import Trainee

HUGE = """
import torch
try:
    torch.empty(2**40)
except RuntimeError as error:
    from mclr.training.memory import is_out_of_memory
    raise SystemExit(0 if is_out_of_memory(error) else 1)
"""


def fails_with(error: Exception, pass_size: int, folder: Path) -> str:
    """What the user reads when a step fails with ``error``."""
    net = nn.Linear(2, 1)

    def losses(step: int) -> Iterator[Loss]:
        yield Loss(net(torch.ones(4, 2)).mean(), {})
        raise error

    optimizer = torch.optim.Adam(net.parameters())
    trainee = Trainee(net, optimizer, lambda step: 0.1, losses, pass_size=pass_size)
    state, events = StateFolder(folder / "state", "key"), EventLog(folder / "events.jsonl")
    with pytest.raises(UserError) as caught:
        train(trainee, name="toy", checkpoints=(3,), batch=8, seed=0, state=state, events=events)
    return str(caught.value)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA"), MemoryError()])
def test_the_message_names_the_micro_batch_to_try(error: Exception, tmp_path: Path) -> None:
    message = fails_with(error, 48, tmp_path)
    assert message.startswith("toy: out of memory at step 1 with 48 samples per pass; try ")
    assert "micro_batch=24" in message


def test_without_a_smaller_pass_it_says_so(tmp_path: Path) -> None:
    assert "a machine with more memory" in fails_with(MemoryError(), 1, tmp_path)
    assert "lower its `batch`" in fails_with(MemoryError(), 0, tmp_path)


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("out of memory"))
    net = nn.Linear(2, 1)

    def losses(step: int) -> Iterator[Loss]:
        raise RuntimeError("shapes differ")
        yield

    trainee = Trainee(net, torch.optim.Adam(net.parameters()), lambda step: 0.1, losses)
    state, events = StateFolder(tmp_path / "state", "key"), EventLog(tmp_path / "events.jsonl")
    with pytest.raises(RuntimeError, match="shapes differ"):
        train(trainee, name="toy", checkpoints=(3,), batch=8, seed=0, state=state, events=events)


def test_a_real_allocation_that_fails_is_recognised() -> None:
    limit = 8 * 2**30
    done = subprocess.run(
        [sys.executable, "-c", HUGE],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr


def test_pass_size_is_the_largest_pass_of_a_process() -> None:
    assert Share().pass_size(48) == 48
    assert Share(micro_batch=5).pass_size(48) == 5
    assert Share(rank=1, size=4).pass_size(48) == 12


def test_a_second_job_waits_for_the_first(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "run", "key")
    with (tmp_path / "run.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        message = r"run.lock: another job still trains here"
        with pytest.raises(UserError, match=message), state.held(seconds=0.3):
            pytest.fail("two jobs at once")
    with state.held(seconds=0.3):
        pass


def test_what_a_killed_write_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".step-000001.safetensors.123.tmp"
    left.write_bytes(b"half")
    StateFolder(tmp_path, "key").discard_others()
    assert not left.exists()


@pytest.mark.parametrize("model", ["edm2", "var"])
def test_a_job_knows_how_many_samples_a_pass_of_it_holds(
    model: str, trained: Trained, tiny_plan: Plan
) -> None:
    spec, data = tiny_plan.finetune_spec(f"{model}-mclr-seed0"), Data(trained.prepared)
    family = make_family(spec, data.manifest, trained.tokenizer if model == "var" else None)
    images, labels = data.train()
    x = family.encode(images)
    net = load_network(family, trained.base(model))
    tuned = finetune_trainee(family, net, spec.run, 0, Samples(x, labels, 10), share=Share(3))
    begun = base_trainee(family, tiny_plan.tier.models[model].base, x, labels, 10, Share(5))
    assert (tuned.pass_size, begun.pass_size) == (3, 5)

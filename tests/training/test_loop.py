"""The loop: checkpoints, resuming to the same bits, signals, and a stop at NaN."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mclr.data.load import step_generator
from mclr.errors import UserError
from mclr.events import EventLog, read_events
from mclr.files import load_tensors
from mclr.objectives.loss import Loss
from mclr.training import loop
from mclr.training.loop import Interrupted, train
from mclr.training.state import StateFolder
from mclr.training.trainee import Trainee

Hook = Callable[[int], Any]


def trainee(
    hook: Hook = lambda step: None,
    kind: type[torch.optim.Optimizer] = torch.optim.Adam,
    *,
    ema: bool = True,
    dropout: float = 0.3,
) -> Trainee:
    """A small regression with dropout; ``hook`` may interfere with the loss of a step."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(dropout), nn.BatchNorm1d(4), nn.Linear(4, 1))
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(torch.randn(p.shape, generator=step_generator(i)))

    def losses(step: int) -> Iterator[Loss]:
        x = torch.randn(8, 3, generator=step_generator(step, 9))
        value = (net(x)[:, 0] - x.sum(1)).square().mean()
        factor = hook(step)
        yield Loss(value if factor is None else value * factor, {"twice": 2 * value.item()})

    average = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.BatchNorm1d(4), nn.Linear(4, 1))
    average.load_state_dict(net.state_dict())
    optimizer = kind(net.parameters(), lr=1.0)  # type: ignore[call-arg]
    return Trainee(
        net, optimizer, lambda step: 0.01 * (step + 1), losses, ema=average if ema else None,
        ema_std=0.1,
    )  # fmt: skip


def run(folder: Path, who: Trainee, *, key: str = "key", checkpoints: Any = (3, 6)) -> None:
    train(
        who,
        name="toy",
        checkpoints=checkpoints,
        batch=8,
        seed=0,
        state=StateFolder(folder / "state", key),
        events=EventLog(folder / "events.jsonl"),
        log_every=2,
    )


def checkpoints(folder: Path) -> dict[str, dict[str, Tensor]]:
    return {path.name: load_tensors(path)[0] for path in (folder / "state").glob("step-*")}


def assert_same(first: Path, second: Path) -> None:
    a, b = checkpoints(first), checkpoints(second)
    assert a.keys() == b.keys() and len(a) == 2
    for name, tensors in a.items():
        for key, value in tensors.items():
            assert torch.equal(value, b[name][key]), (name, key)


def steps_of(folder: Path, event: str) -> list[int]:
    return [e["step"] for e in read_events(folder / "events.jsonl") if e["event"] == event]


class PowerCutError(Exception):
    pass


def fail_at(step: int) -> Hook:
    def hook(now: int) -> None:
        if now == step:
            raise PowerCutError

    return hook


def signal_at(step: int, number: int) -> Hook:
    return lambda now: os.kill(os.getpid(), number) if now == step else None


def test_checkpoints_and_events(tmp_path: Path) -> None:
    who = trainee()
    before = who.result.state_dict()["0.weight"].clone()
    run(tmp_path, who)
    stored = checkpoints(tmp_path)
    assert stored.keys() == {"step-000003.safetensors", "step-000006.safetensors"}
    last = stored["step-000006.safetensors"]
    assert who.ema is not None and who.result is who.ema
    for name, value in who.ema.state_dict().items():
        assert torch.equal(last[name], value)
    assert not torch.equal(last["0.weight"], before)
    assert steps_of(tmp_path, "train") == [2, 3, 4, 6]
    assert steps_of(tmp_path, "checkpoint") == [3, 6]
    first = read_events(tmp_path / "events.jsonl")[1]
    assert (first["nimg"], first["lr"]) == (16, 0.02)
    assert first["twice"] == pytest.approx(2 * first["loss"]) and first["grad_norm"] > 0


def test_without_an_average_the_network_is_the_result(tmp_path: Path) -> None:
    who = trainee(ema=False)
    run(tmp_path, who)
    last = checkpoints(tmp_path)["step-000006.safetensors"]
    assert torch.equal(last["0.weight"], who.net.state_dict()["0.weight"])


def test_learning_rate_is_set_before_each_step(tmp_path: Path) -> None:
    who = trainee()
    run(tmp_path, who)
    assert who.optimizer.param_groups[0]["lr"] == pytest.approx(0.06)


def test_constraint_is_restored_after_each_step(tmp_path: Path) -> None:
    seen = []
    who = trainee()
    who.after_step = lambda net: seen.append(net is who.net)
    run(tmp_path, who)
    assert seen == [True] * 6


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_interrupted_by_an_exception_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.setattr(loop, "STATE_SECONDS", 0.0)  # state after every step
    run(tmp_path / "whole", trainee(kind=kind))
    for step in (0, 2, 5):
        with pytest.raises(PowerCutError):
            run(tmp_path / "parts", trainee(fail_at(step), kind))
    run(tmp_path / "parts", trainee(kind=kind))
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert steps_of(tmp_path / "parts", "train") == steps_of(tmp_path / "whole", "train")
    assert steps_of(tmp_path / "parts", "resume") == [2, 5]


def test_state_older_than_the_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps and events after the last saved state are done again."""
    run(tmp_path / "whole", trainee())
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", trainee(signal_at(1, signal.SIGTERM)))
    with pytest.raises(PowerCutError):
        run(tmp_path / "parts", trainee(fail_at(5)))
    assert steps_of(tmp_path / "parts", "train") == [2, 3, 4]
    run(tmp_path / "parts", trainee())
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert steps_of(tmp_path / "parts", "train") == [2, 3, 4, 6]
    assert steps_of(tmp_path / "parts", "resume") == [2, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals(tmp_path: Path, number: int) -> None:
    """The step is finished, the state saved, the exit status 128 + signal; handlers come back."""
    before = signal.getsignal(number)
    run(tmp_path / "whole", trainee())
    with pytest.raises(Interrupted) as caught:
        run(tmp_path / "parts", trainee(signal_at(3, number)))
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert load_tensors(tmp_path / "parts" / "state" / "state.safetensors")[1]["step"] == "4"
    run(tmp_path / "parts", trainee())
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_state_of_another_key_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", trainee(signal_at(4, signal.SIGTERM)), key="old")
    run(tmp_path / "parts", trainee(), key="new")
    run(tmp_path / "whole", trainee(), key="new")
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert steps_of(tmp_path / "parts", "start") == [0]
    assert steps_of(tmp_path / "parts", "resume") == []


def test_complete_state_trains_no_more(tmp_path: Path) -> None:
    """A job that died between its last step and publishing finds everything in place."""
    run(tmp_path, trainee())
    before = checkpoints(tmp_path)
    run(tmp_path, trainee(fail_at(0)))
    assert steps_of(tmp_path, "train") == [2, 3, 4, 6]
    assert checkpoints(tmp_path).keys() == before.keys()


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_not_a_number(tmp_path: Path, factor: float) -> None:
    who = trainee(lambda step: factor if step == 4 else None)
    with pytest.raises(UserError) as caught:
        run(tmp_path, who)
    text = str(caught.value)
    last = tmp_path / "state" / "step-000003.safetensors"
    assert text.startswith(f"toy: loss {factor} with gradient norm ")
    assert f"at step 5; training stopped, the last good checkpoint is {last}." in text
    assert "Lower lr" in text
    assert all(torch.isfinite(v).all() for v in load_tensors(last)[0].values())
    assert steps_of(tmp_path, "train") == [2, 3, 4]


def test_not_a_number_before_any_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there was no checkpoint before"):
        run(tmp_path, trainee(lambda step: float("nan")))


def test_checkpoints_of_another_run_are_not_called_good(tmp_path: Path) -> None:
    """The first run dies without state; the next one, of another key, must not name its files."""
    with pytest.raises(UserError):
        run(tmp_path, trainee(lambda step: float("nan") if step == 4 else None), key="old")
    with pytest.raises(UserError, match="there was no checkpoint before"):
        run(tmp_path, trainee(lambda step: float("nan")), key="new")


def test_damaged_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, trainee(signal_at(3, signal.SIGTERM)))
    state = tmp_path / "state" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"state\.safetensors: checkpoint is truncated"):
        run(tmp_path, trainee())


def test_dropout_differs_between_seeds_and_steps(tmp_path: Path) -> None:
    """torch's own generator, which dropout uses, is set from (seed, step) before each step."""
    draws: dict[tuple[int, int], float] = {}
    for seed in (0, 1, 2**16):
        for step in (0, 1, 2**16):

            def note(now: int, seed: int = seed) -> None:
                draws[seed, now] = torch.rand(1).item()

            who = trainee(note)
            loop._step(who, step, seed, "toy", StateFolder(tmp_path, "key"))
    assert len(set(draws.values())) == 9

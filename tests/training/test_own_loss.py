"""What goes wrong in a loss of somebody's own is one line with its file and line of code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tiny import Trained

from mclr.config.objectives import FineTuning
from mclr.errors import UserError
from mclr.events import LOG, set_up_logging
from mclr.jobs.inputs import Data
from mclr.models.families import make_family
from mclr.models.family import load_network
from mclr.objectives import Given, Mclr
from mclr.objectives.own import Own
from mclr.planning.plan import Plan
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples
from mclr.training.own_loss import EVENT, checked_loss

OWN = """
from mclr.errors import UserError
from mclr.objectives import Loss, OwnObjective

class Own(OwnObjective):
    kind: str = ""
    def loss(self, given, part):
        value = given
        if self.kind == "raises":
            raise KeyError("no such\\nkey")
        if self.kind == "memory":
            raise MemoryError
        if self.kind == "user":
            raise UserError("said well")
        if self.kind == "number":
            return 1.0
        if self.kind == "rows":
            return Loss(value.expand(3), {})
        return Loss(value, {self.kind: value, "fine": value})
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    yield
    for handler in LOG.handlers:
        handler.close()
    LOG.handlers.clear()
    logging.getLogger("mclr").propagate = True


def loss_of(kind: str) -> Any:
    own = Own.model_validate({"implementation": "own.py:Own", "kind": kind})
    return checked_loss(own.loaded())(cast(Given, torch.tensor(2.0)), torch.arange(2))


def test_an_error_is_one_line_and_the_log_has_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(Path("job.log"))
    with pytest.raises(
        UserError, match=r"^objective: \S*own\.py:10: KeyError: [^\n]*no such"
    ) as it:
        loss_of("raises")
    assert "\n" not in str(it.value)
    log = Path("job.log").read_text()
    assert "Traceback (most recent call last)" in log and "raise KeyError" in log
    assert capsys.readouterr().err == ""


def test_what_is_told_otherwise_stays() -> None:
    with pytest.raises(UserError, match=r"^said well$"):
        loss_of("user")
    with pytest.raises(MemoryError):
        loss_of("memory")
    ours = Mclr(name="mclr")
    assert checked_loss(ours) == ours.loss
    assert loss_of("margin").terms.keys() == {"margin", "fine"}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("number", "Own.loss gave a float; expected an mclr.objectives.Loss"),
        ("rows", r"Own.loss: its value has shape \(3,\); expected one number"),
        *(
            (name, f"Own.loss: terms named {name}: events call something else so")
            for name in sorted(EVENT)
        ),
    ],
)
def test_what_training_could_not_record_is_refused(kind: str, said: str) -> None:
    with pytest.raises(UserError, match=f"^objective: {said}"):
        loss_of(kind)


def test_training_uses_it(trained: Trained, tiny_plan: Plan) -> None:
    objective = {"implementation": "own.py:Own", "kind": "raises"}
    run = {"model": "edm2", "lr": 0.1, "batch": 4, "checkpoints": [1], "objective": objective}
    spec = tiny_plan.finetune_spec("edm2-mclr-seed0")
    data = Data(trained.prepared)
    family = make_family(spec, data.manifest)
    images, labels = data.train()
    samples = Samples(family.encode(images), labels, 10)
    net = load_network(family, trained.base("edm2"))
    trainee = finetune_trainee(family, net, FineTuning.model_validate(run), 0, samples)
    with pytest.raises(UserError, match=r"own\.py:10: KeyError"):
        next(iter(trainee.losses(0)))

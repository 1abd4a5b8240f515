"""Where tensors lie when a GPU computes, found out without one.

torch's fake tensors have shapes and a device but no numbers: an operation on tensors of two
devices fails as on a machine with a GPU, and so does reading a number, for which the CPU would
have to wait. What a GPU computes is not tested here; `benchmarks/gpu.py` does where there is one.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tiny import IMITATIONS, Trained, edited, finetune_spec
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensor,
    FakeTensorMode,
)

from mclr import device as devices
from mclr.cli import cli
from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.jobs.labels import labels_of
from mclr.metrics.features import load_feature_net
from mclr.models.drawing import draw_images
from mclr.models.families import make_family
from mclr.models.family import Family, load_network
from mclr.objectives.loss import Loss
from mclr.planning.plan import Plan
from mclr.settings.section import canonical
from mclr.training import base as base_training
from mclr.training import given as fine_tuning
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples
from mclr.training.gradient import accumulate
from mclr.training.loop import _read
from mclr.training.share import Share
from mclr.training.trainee import Trainee

GPU = torch.device("cuda", 0)
NAMES = ("mclr", "ccdpo", "cca", "ddo", *IMITATIONS)
OBJECTIVES = [(m, n) for m in ("edm2", "var") for n in NAMES]


def put(module: nn.Module, device: Any) -> nn.Module:
    """What ``nn.Module.to`` does, which does not know how to move fake tensors."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, value in tensors.items():
                if isinstance(value, nn.Parameter):
                    tensors[name] = nn.Parameter(value.detach().to(device), value.requires_grad)
                elif value is not None:
                    tensors[name] = value.to(device)
    return module


def faked(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """The module with fake tensors, on the GPU."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, value in tensors.items():
                if value is not None:
                    tensors[name] = mode.from_tensor(value)
    with mode:
        return put(module, GPU)


class Machine:
    """A machine with a GPU that computes no numbers, with a family and a base model on it."""

    def __init__(self, mode: FakeTensorMode, family: Any, base: nn.Module) -> None:
        self.mode, self.family, self.base = mode, family, faked(base, mode)
        family.device = GPU
        if hasattr(family, "vqvae"):
            faked(family.vqvae, mode)

    def cpu(self, value: Tensor) -> Tensor:
        fake: Tensor = self.mode.from_tensor(value)
        return fake


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(nn.Module, "to", put)
    monkeypatch.setattr(FakeTensorMode, "__deepcopy__", lambda self, memo: self, raising=False)
    for module in (base_training, fine_tuning):  # which rows makes no difference here
        monkeypatch.setattr(module, "minibatch", lambda n, batch, *key: torch.arange(batch))
    yield FakeTensorMode()


def family_of(plan: Plan, model: str, trained: Trained, manifest: Manifest) -> Family:
    point = plan.points(f"{model}-base")[0]
    spec = plan.base_spec(model).with_(sampler=plan.sample_spec(point).sampler)
    return make_family(spec, manifest, trained.tokenizer_of(model))


@pytest.fixture
def machine(
    request: Any, fakes: FakeTensorMode, trained: Trained, tiny_plan: Plan, manifest: Manifest
) -> Machine:
    family = family_of(tiny_plan, request.param, trained, manifest)
    return Machine(fakes, family, load_network(family, trained.base(request.param)))


@pytest.fixture
def samples(machine: Machine) -> Samples:
    """Eight encoded images, on the CPU."""
    tokens = hasattr(machine.family, "vqvae")
    x = torch.zeros(8, 21, dtype=torch.long) if tokens else torch.zeros(8, 1, 8, 8)
    return Samples(machine.cpu(x), machine.cpu(torch.arange(8)), 10)


def check(who: Trainee, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's loss is computed on the GPU, and nothing is read from it until the step's end."""
    assert all(p.device == GPU for p in who.net.parameters())
    losses: list[Tensor] = []
    monkeypatch.setattr(
        Tensor, "backward", lambda self: losses.append(self)
    )  # which needs a driver
    totals = accumulate(who.losses(0))
    assert losses and all(loss.device == GPU and loss.requires_grad for loss in losses)
    assert {value.device for value in totals.values()} == {GPU}
    with pytest.raises(DataDependentOutputException):
        _read(totals)
    assert who.optimizer.defaults["fused"] is True
    state = who.state()
    assert state and {value.device.type for value in state.values()} == {"cpu"}
    who.restore(state)
    assert all(p.device == GPU for p in who.net.parameters())


@pytest.mark.parametrize(("machine", "name"), OBJECTIVES, indirect=["machine"])
def test_fine_tuning(
    machine: Machine, name: str, samples: Samples, tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "var" if hasattr(machine.family, "vqvae") else "edm2"
    settings = finetune_spec(tiny_plan, model, name).run
    monkeypatch.setattr(Samples, "priors", machine.cpu(torch.full((10,), 0.1)))
    with machine.mode:
        negatives = samples if name == "ddo" else None
        who = finetune_trainee(
            machine.family, machine.base, settings, 0, samples, negatives, Share(3)
        )
        check(who, monkeypatch)


@pytest.mark.parametrize("machine", ["edm2", "var"], indirect=True)
def test_every_way_to_update_weights(
    machine: Machine, samples: Samples, tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks are made where the network is; the average lies there, too."""
    model = "var" if hasattr(machine.family, "vqvae") else "edm2"
    how = {"name": "adamw", "weight_decay": 0.1, "clip": 1, "ema": {"std": 0.1}, "dropout": 0.2}
    spec = edited(tiny_plan.finetune_spec(f"{model}-cca-seed0"), run={"optimizer": how})
    monkeypatch.setattr(Samples, "priors", machine.cpu(torch.full((10,), 0.1)))
    with machine.mode:
        who = finetune_trainee(machine.family, machine.base, spec.run, 0, samples, share=Share(3))
        check(who, monkeypatch)
        assert all(p.device == GPU for p in who.result.parameters()) and who.ema is who.result


@pytest.mark.parametrize("machine", ["edm2"], indirect=True)
def test_weighted_mclr(
    machine: Machine, samples: Samples, tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights check the class shares, which reads them."""
    objective = {"name": "wmclr", "dsm": 0.5, "K": 3, "draws": 2}
    run = edited(tiny_plan.finetune_spec("edm2-mclr-seed0"), run={"objective": objective}).run
    monkeypatch.setattr(Samples, "priors", machine.cpu(torch.full((10,), 0.1)))
    monkeypatch.setattr(
        "mclr.objectives.weights.class_posterior_weights",
        lambda log_likelihood, priors, clip, floor: log_likelihood * priors,
    )
    with machine.mode:
        who = finetune_trainee(machine.family, machine.base, run, 0, samples, share=Share(3))
        check(who, monkeypatch)


@pytest.mark.parametrize("machine", ["edm2", "var"], indirect=True)
def test_base_model(
    machine: Machine, samples: Samples, tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "var" if hasattr(machine.family, "vqvae") else "edm2"
    settings = tiny_plan.tier.models[model].base.model_copy(update={"batch": 8})
    net = copy.deepcopy(machine.base).requires_grad_(True)
    machine.family.build = lambda generator: net
    with machine.mode:
        who = base_training.base_trainee(machine.family, settings, samples.x, samples.labels, 10)
        check(who, monkeypatch)
        assert all(p.device == GPU for p in who.result.parameters())


@pytest.mark.parametrize("machine", ["edm2", "var"], indirect=True)
@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_sampling(
    machine: Machine, guidance: float, trained: Trained, manifest: Manifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    net = load_feature_net(trained.net / "net.safetensors", manifest)
    labels = machine.cpu(labels_of([3, 4], "balanced", 10))
    monkeypatch.setattr(FakeTensor, "tolist", lambda self: [1.0] * len(self))  # of noise levels
    monkeypatch.setattr("mclr.models.var.sampler._check", lambda *arguments: None)  # of labels
    faked(net, machine.mode)
    with machine.mode, torch.no_grad():
        frozen = machine.family.frozen(machine.base)
        images = draw_images(machine.family, frozen, [3, 4], labels, guidance).x
        features, logits = net(images)
    assert {images.device, features.device, logits.device} == {GPU}
    assert images.shape == (2, 1, 8, 8) and images.dtype == torch.uint8


def test_floats_are_terms_too() -> None:
    value = torch.tensor(2.0, requires_grad=True)
    terms = accumulate([Loss(value, {"a": 1.5, "b": value}), Loss(value, {"a": 0.5, "b": value})])
    assert _read(terms) == {"loss": 4.0, "a": 2.0, "b": 4.0}
    assert not terms["b"].requires_grad


# ------------------------------------------------------------------ the choice of a device


def gpus(monkeypatch: pytest.MonkeyPatch, count: int, rank: int | None = None) -> list[Any]:
    """As if torch found ``count`` GPUs; what was made the current one."""
    current: list[Any] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", str(rank))
    return current


def test_a_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    current = gpus(monkeypatch, 4, rank=2)
    assert devices.use_device("auto") == devices.use_device("cuda") == torch.device("cuda", 2)
    assert current == [torch.device("cuda", 2)] * 2
    assert devices.use_device("cpu") == torch.device("cpu")
    gpus(monkeypatch, 1)
    assert devices.use_device() == torch.device("cuda", 0)
    gpus(monkeypatch, 0, rank=3)
    assert devices.use_device("auto") == torch.device("cpu")


def test_gpus_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    with pytest.raises(UserError, match="--device cuda: torch finds no CUDA GPU"):
        devices.use_device("cuda")
    gpus(monkeypatch, 2, rank=2)
    with pytest.raises(UserError, match="process 3 of this node has no GPU of its own"):
        devices.use_device("auto")


def test_the_command_line_asks_for_a_device(
    monkeypatch: pytest.MonkeyPatch, tiny_plan: Plan, tmp_path: Path
) -> None:
    gpus(monkeypatch, 0)
    path, spec = str(tmp_path), canonical(tiny_plan.negatives_spec("edm2"))
    paths = ["--manifest", path, "--weights", path, "--output", path]
    for given, environment in ((["--device", "cuda"], {}), ([], {"MCLR_DEVICE": "cuda"})):
        arguments = [*given, "negatives", "--spec", spec, *paths]
        result = CliRunner(env=environment).invoke(cli, arguments)
        assert "torch finds no CUDA GPU" in str(result.exception)
    wrong = CliRunner().invoke(cli, ["--device", "gpu", "schema"])
    assert wrong.exit_code == 2 and "'auto', 'cpu', 'cuda'" in wrong.output


def test_float32_is_float32_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 1)
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.allow_tf32
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        assert devices.set_up(1) == GPU
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_state_of_another_device_is_restored(tmp_path: Any) -> None:
    net = nn.Linear(2, 1)
    who = Trainee(net, torch.optim.Adam(net.parameters()), lambda step: 0.1, lambda step: [])
    net(torch.ones(1, 2)).sum().backward()
    who.optimizer.step()
    before = {name: value.clone() for name, value in who.state().items()}
    who.restore(before)
    after = who.state()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert after.keys() == before.keys() and len(before) == 8

"""``mclr.finetune``: the pipeline's weights to the bit, networks of anybody, what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from tiny import Trained
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import mclr
from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.events import read_events
from mclr.files import load_tensors
from mclr.jobs.inputs import Data
from mclr.jobs.training import finetune as job
from mclr.models.families import make_family
from mclr.models.family import load_network
from mclr.objectives import Given, Loss, Mclr, OwnObjective
from mclr.planning.plan import Plan

ROOT = Path(__file__).resolve().parents[2]


class Pairs(Dataset[tuple[Tensor, int]]):
    """(image, label) one by one, as most datasets give them."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.images[i], int(self.labels[i])


class Toy(nn.Module):
    """D(x; σ, c) of noisy images: a share of them and a picture of each class."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.3))
        self.pictures = nn.Parameter(torch.linspace(-1, 1, 3 * 16).view(3, 1, 4, 4))

    def forward(self, noisy: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        return self.share * noisy + self.pictures[labels]


class Exact(nn.Module):
    """N(x; m_c, 1), up to a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(3, 2))

    def log_likelihood(self, x: Tensor, labels: Tensor) -> Tensor:
        return -(x - self.means[labels]).square().sum(1) / 2


def toy_data(n: int = 40) -> TensorDataset:
    rng = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(n, 1, 4, 4, generator=rng), torch.arange(n) % 2)


RUN: dict[str, Any] = {"objective": "mclr", "lr": 0.01, "batch": 8, "steps": 6, "seed": 3}


def tune(net: Any = None, data: Any = None, **changes: Any) -> nn.Module:
    settings = RUN | changes
    objective = settings.pop("objective")
    data = toy_data() if data is None else data
    return mclr.finetune(net or Toy(), data, objective, **settings)


def equal(one: nn.Module, other: nn.Module | dict[str, Tensor]) -> bool:
    second = other if isinstance(other, dict) else other.state_dict()
    return all(torch.equal(value, second[name]) for name, value in one.state_dict().items())


# ------------------------------------------------------------------ the pipeline's weights


@pytest.mark.parametrize("model", ["edm2", "var"])
@pytest.mark.parametrize("name", ["mclr", "cca"])
def test_the_weights_are_those_of_the_job(
    model: str, name: str, trained: Trained, tiny_plan: Plan, manifest: Manifest, tmp_path: Path
) -> None:
    """With data that come as a Dataset of (image, label), and another order of memory."""
    spec, prepared = tiny_plan.finetune_spec(f"{model}-{name}-seed1"), Data(trained.prepared)
    tokenizer, run = trained.tokenizer_of(model), tmp_path / "job"
    job(spec, prepared, trained.base(model), tokenizer, None, run, tmp_path / "state")
    family = make_family(spec, manifest, tokenizer)
    found = mclr.finetune(
        family,
        Pairs(*prepared.train()),
        spec.run.objective.model_dump(by_alias=True),
        base=load_network(family, trained.base(model)),
        lr=spec.run.lr,
        batch=spec.run.batch,
        steps=spec.run.checkpoints,
        seed=spec.seed,
        out=tmp_path / "own",
    )
    for step in spec.run.checkpoints:
        file = f"step-{step:06d}.safetensors"
        made, meant = (
            load_tensors(folder / file)[0]
            for folder in (tmp_path / "own" / "state", run / "checkpoints")
        )
        assert made.keys() == meant.keys()
        assert all(torch.equal(made[key], meant[key]) for key in meant)
    assert equal(found, meant)
    assert equal(found, load_tensors(tmp_path / "own" / "model.safetensors")[0])
    assert read_events(tmp_path / "own" / "events.jsonl")[0]["event"] == "start"


# ------------------------------------------------------------------ networks of somebody's own


def test_one_step_by_hand() -> None:
    """Adam's first step is lr against the sign of the gradient of Eq. (22) over the minibatch."""
    x, labels = torch.tensor([[1.0, 2.0], [-3.0, 1.0]]), torch.tensor([0, 1])
    base = Exact()
    found = tune(base, TensorDataset(x, labels), batch=2, steps=1, lr=0.125)
    # −[ℓ(x, c) − ℓ(x, c̃)]: each mean moves towards its own image and away from the other.
    towards = torch.stack([x[0] - x[1], x[1] - x[0]]).sign()
    assert torch.allclose(found.means[:2], 0.125 * towards, atol=1e-6)
    assert not base.means.any() and not found.means[2].any()
    assert found.training is False and found.means.requires_grad


def test_a_denoiser_learns_to_tell_classes_apart() -> None:
    images = torch.stack([torch.full((1, 4, 4), -0.5), torch.full((1, 4, 4), 0.5)]).repeat(
        20, 1, 1, 1
    )
    base = Toy()
    with torch.no_grad():
        base.pictures.zero_()
    found = tune(base, TensorDataset(images, torch.arange(40) % 2), steps=30)
    low, high, _ = found.pictures.detach().mean((1, 2, 3))
    assert low < -0.1 and high > 0.1


def test_bytes_are_scaled_as_pixels() -> None:
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(256, (40, 1, 4, 4), generator=rng, dtype=torch.uint8)
    labels = torch.arange(40) % 2
    ends = [tune(data=Pairs(x, labels)) for x in (images, images.float() / 127.5 - 1)]
    assert equal(*ends) and not equal(ends[0], Toy())


def test_noise_levels_and_width_of_the_data_count() -> None:
    plain = tune()
    assert not equal(plain, tune(noise={"P_mean": 0.0, "P_std": 0.5}))
    assert not equal(plain, tune(sigma_data=1.0))
    assert equal(plain, tune(noise={"P_mean": -1.2, "P_std": 1.2}, sigma_data=0.5))


def test_settings_are_text_mapping_or_object() -> None:
    given = ("mclr", {"name": "mclr", "K": 1}, Mclr(name="mclr"))
    first, *others = [tune(objective=objective) for objective in given]
    assert all(equal(first, other) for other in others)
    assert not equal(first, tune(objective={"name": "mclr", "K": 2}))


@pytest.mark.parametrize(
    "objective",
    [
        {"name": "mclr", "K": 2, "dsm": 1.0},
        {"name": "ccdpo", "beta": 0.1, "K": 1},
        {"name": "cca", "beta": 0.1, "lambda": 1, "K": 1},
        {"name": "gft", "beta": 0.4},
        {"name": "distill", "gamma": 1.0},
        {"name": "mg", "w": 0.5},
    ],
)
def test_every_objective_moves_the_weights(objective: dict[str, Any]) -> None:
    found = tune(objective=objective, classes=2, steps=2)
    assert not equal(found, Toy())


def test_negatives_are_a_dataset() -> None:
    ddo = {"name": "ddo", "alpha": 2, "beta": 0.1, "n_negatives": 24}
    with pytest.raises(UserError, match="needs samples of the base model"):
        tune(objective=ddo)
    assert not equal(tune(objective=ddo, negatives=toy_data(24)), Toy())


class Closer(OwnObjective):
    """Each sample likelier under its own class: its likelihood alone."""

    def loss(self, given: Given, part: Tensor) -> Loss:
        ell = given.policy(
            given.batch.x[part], given.batch.labels[part], given.batch.draw.take(part)
        )
        return Loss(-ell.sum() / len(given.batch.labels), {})


def test_an_objective_of_ones_own_needs_no_file() -> None:
    found = tune(Exact(), TensorDataset(torch.ones(8, 2), torch.arange(8) % 2), objective=Closer())
    assert torch.allclose(found.means[:2], torch.full((2, 2), 0.06), atol=1e-3)


def test_an_average_is_what_is_given_back(tmp_path: Path) -> None:
    average = {"ema": {"half_life": 32, "evaluate": "both"}}
    found = tune(optimizer=average, out=tmp_path / "run")
    raw = load_tensors(tmp_path / "run" / "state" / "step-000006.safetensors")[0]
    kept = load_tensors(tmp_path / "run" / "state" / "step-000006-average.safetensors")[0]
    assert equal(found, kept) and not equal(found, raw)


def test_torchs_own_generator_stays_as_it_was() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    tune()
    assert torch.equal(torch.get_rng_state(), before)


def test_it_runs_in_a_thread() -> None:
    """Where Python does not let signals be caught."""
    ends: list[nn.Module] = []
    thread = Thread(target=lambda: ends.append(tune()))
    thread.start()
    thread.join()
    assert equal(ends[0], tune())


# ------------------------------------------------------------------ killed, and called again


PROGRAM = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_library import tune, Toy
from mclr.training import loop
loop.STATE_SECONDS = 0.0
calls = 0
forward = Toy.forward
def counted(self, *arguments):
    global calls
    calls += self.training is False and self.share.requires_grad
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
    return forward(self, *arguments)
Toy.forward = counted
tune(steps=[2, 12], out=sys.argv[1])
"""


@pytest.mark.parametrize(("name", "status"), [("SIGKILL", -9), ("SIGTERM", 143)])
def test_a_killed_run_ends_at_the_same_bits(name: str, status: int, tmp_path: Path) -> None:
    out = tmp_path / "run"
    program = textwrap.dedent(PROGRAM.format(tests=str(Path(__file__).parent)))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "OMP_NUM_THREADS": "1"
    }  # fmt: skip
    done = subprocess.run(
        (sys.executable, "-c", program, str(out), "5", name), env=environment, capture_output=True
    )
    assert done.returncode == status, done.stderr.decode()
    assert not (out / "model.safetensors").exists()
    found = tune(steps=[2, 12], out=out)
    events = read_events(out / "events.jsonl")
    resumed = [event["step"] for event in events if event["event"] == "resume"]
    assert resumed == [4 if name == "SIGKILL" else 5]
    assert equal(found, tune(steps=[2, 12]))


def test_a_finished_run_is_read_again(tmp_path: Path) -> None:
    first = tune(out=tmp_path / "run")
    states = (tmp_path / "run" / "state" / "state.safetensors").stat().st_mtime_ns
    assert equal(first, tune(out=tmp_path / "run"))
    assert (tmp_path / "run" / "state" / "state.safetensors").stat().st_mtime_ns == states


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lr": 0.02}, "run"),
        ({"seed": 4}, "seed"),
        ({"data": toy_data(41)}, "dataset"),
        ({"net": Exact(), "data": TensorDataset(torch.ones(8, 2), torch.arange(8) % 2)}, "base"),
        ({"sigma_data": 1.0}, "family"),
    ],
)
def test_another_run_does_not_take_its_place(
    changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    first = tune(out=tmp_path / "run")
    with pytest.raises(UserError, match=f"has another run .*{named}.* differ"):
        tune(**changes, out=tmp_path / "run")
    assert equal(first, load_tensors(tmp_path / "run" / "model.safetensors")[0])


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"exists and is no run of mclr\.finetune"):
        tune(out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# ------------------------------------------------------------------ what is refused


class NoLength:
    def __getitem__(self, i: int) -> None:
        raise IndexError


LABELS = torch.arange(8) % 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "mcrl"}, "objective: .*mcrl"),
        ({"objective": {"name": "mclr", "k": 1}}, r"objective\.mclr\.k: Extra inputs"),
        ({"batch": 1}, "batch: .*greater than or equal to 2, got 1"),
        ({"steps": [4, 2]}, "steps: steps must increase"),
        ({"lr": -1.0}, "lr: .*greater than 0"),
        ({"optimizer": {"name": "sgd"}}, r"optimizer\.name: .*adam"),
        ({"noise": {"P_mean": 0.0}}, r"noise\.P_std: Field required"),
        ({"net": "toy"}, "net: a str; expected a torch.nn.Module or a family"),
        ({"base": Toy()}, "base: of a family alone"),
        ({"net": Exact(), "sigma_data": 1.0}, "sigma_data: of denoisers"),
        ({"data": NoLength()}, "dataset: has no length"),
        ({"data": TensorDataset(torch.ones(0, 1, 4, 4), torch.ones(0))}, "dataset: is empty"),
        (
            {"data": TensorDataset(torch.ones(8, 1, 4, 4))},
            r"dataset\[0\]: .*expected \(image, label",
        ),
        ({"data": [("a.png", 0)]}, r"dataset\[0\]: its image is a str.*PILToTensor"),
        (
            {"data": Pairs(torch.ones(8, 1, 4, 4), LABELS - 1)},
            r"dataset\[0\]: label -1; expected 0",
        ),
        ({"classes": 1}, r"dataset\[1\]: label 1; expected 0 to 0"),
        ({"data": [(torch.ones(1, 4, 4), 0), (torch.ones(1, 2, 2), 1)]}, r"dataset\[1\]: .*alike"),
    ],
)
def test_mistakes_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        tune(**changes)
    assert "\n" not in str(told.value)


class Wrong(Toy):
    def forward(self, noisy: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        return super().forward(noisy, sigma, labels).flatten(1)


def test_a_network_that_gives_something_else() -> None:
    with pytest.raises(UserError, match=r"gave \(16, 16\); expected a tensor of shape \(16, 1, 4"):
        tune(Wrong())


def test_a_family_needs_its_network(tiny_plan: Plan, manifest: Manifest) -> None:
    family = make_family(tiny_plan.base_spec("edm2"), manifest)
    with pytest.raises(UserError, match="base: a family is fine-tuned from one of its networks"):
        tune(family)
    with pytest.raises(UserError, match="noise, sigma_data: a family has its own"):
        tune(family, base=Toy(), sigma_data=1.0)


def test_a_network_of_ones_own_is_not_drawn_from() -> None:
    from mclr.models.own.network import Denoisers

    with pytest.raises(UserError, match="drawn from with its own sampler"):
        Denoisers(Toy()).generate(Toy(), [0], torch.tensor([0]), 0.0)
    with pytest.raises(UserError, match="give it with its weights"):
        Denoisers(Toy()).build(torch.Generator())

"""Section ``optimizer``: rates, groups, clipping, averages; resumed and shared out to the same."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from tiny import Trained, edited
from torch import Tensor, nn

from mclr.data.load import Manifest, load_images, step_generator
from mclr.events import EventLog
from mclr.files import load_tensors, write_json
from mclr.jobs.inputs import Data
from mclr.jobs.training import finetune
from mclr.models.families import make_family
from mclr.models.family import Family, load_network
from mclr.objectives.loss import Loss
from mclr.planning.plan import Plan
from mclr.settings.optimizer import Optimizer
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples
from mclr.training.loop import Interrupted, _step, train
from mclr.training.optimizer import make_optimizer
from mclr.training.schedules import ema_exponent
from mclr.training.share import WHOLE, Share
from mclr.training.state import StateFolder
from mclr.training.trainee import DECAYS, Trainee

EVERY_OPTION: dict[str, Any] = {
    "name": "adamw",
    "betas": [0.9, 0.95],
    "weight_decay": 0.05,
    "weight_decay_final": 0.1,
    "schedule": "cosine",
    "warmup": 2,
    "hold": 0.2,
    "final": 0.1,
    "steps": 6,
    "clip": 0.5,
    "ema": {"half_life": 20, "evaluate": "both"},
    "dropout": 0.2,
}


def how(**settings: Any) -> Optimizer:
    return Optimizer.model_validate(settings)


# ------------------------------------------------------------------ rates


def test_without_the_section_the_rate_is_constant() -> None:
    assert {how().rate(step, 10) for step in range(20)} == {1.0}
    assert how().evaluated == (False,) and how().decay(3, 10) == 0


def test_warm_up_then_constant() -> None:
    by_steps = how(warmup=4, start=0.2)
    rates = [by_steps.rate(step, 10) for step in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    by_share = how(warmup=0.4, start=0.2)
    assert [by_share.rate(step, 10) for step in range(6)] == rates


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_decay_ends_at_its_share_in_the_last_step(schedule: str) -> None:
    decayed = how(schedule=schedule, final=0.25, warmup=2, hold=0.25)
    rates = [decayed.rate(step, 15) for step in range(15)]
    assert rates[2:6] == [1.0] * 4 and rates[14] == pytest.approx(0.25)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    middle = 0.25 + 0.75 * (2 / 3 if schedule == "linear" else 0.5 + 0.5 * math.cos(math.pi / 3))
    assert rates[8] == pytest.approx(middle)  # a third of the way from step 5 to 14
    assert decayed.rate(40, 15) == pytest.approx(0.25)


def test_the_schedule_may_be_longer_than_the_run() -> None:
    assert how(schedule="linear", steps=11).rate(5, 6) == pytest.approx(0.5)


def test_weight_decay_changes_along_half_a_cosine() -> None:
    changing = how(name="adamw", weight_decay=0.05, weight_decay_final=0.08)
    values = [changing.decay(step, 5) for step in range(5)]
    assert values == pytest.approx([0.05, 0.05439, 0.065, 0.07561, 0.08], abs=1e-5)


# ------------------------------------------------------------------ fine-tuning with every option


@pytest.fixture(params=["edm2", "var"])
def model(request: Any) -> Any:
    return request.param


class Runs:
    """Fine-tuning of the tiny networks by CCA, with an ``optimizer``."""

    def __init__(self, model: str, plan: Plan, trained: Trained, manifest: Manifest) -> None:
        self.plan, self.model = plan, model
        tokenizer = trained.tokenizer_of(model)
        self.family: Family = make_family(plan.base_spec(model), manifest, tokenizer)
        self.base = load_network(self.family, trained.base(model))
        images, labels = load_images(trained.prepared / "train.parquet", manifest)
        self.data = Samples(self.family.encode(images[:40]), labels[:40], 10)

    def trainee(self, share: Share = WHOLE, **optimizer: Any) -> Trainee:
        spec = self.plan.finetune_spec(f"{self.model}-cca-seed0")
        run = edited(spec, run={"optimizer": optimizer}).run
        return finetune_trainee(self.family, self.base, run, 0, self.data, share=share)

    def steps(self, folder: Path, n: int, share: Share = WHOLE, **optimizer: Any) -> Trainee:
        who = self.trainee(share, **optimizer)
        for step in range(n):
            _step(who, step, 0, "toy", StateFolder(folder, "key"))
        return who


@pytest.fixture
def runs(model: str, tiny_plan: Plan, trained: Trained, manifest: Manifest) -> Runs:
    return Runs(model, tiny_plan, trained, manifest)


def weights(net: nn.Module | None) -> Tensor:
    assert net is not None
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_an_empty_section_is_as_none(runs: Runs, tmp_path: Path) -> None:
    spec = runs.plan.finetune_spec(f"{runs.model}-cca-seed0")
    plain = finetune_trainee(runs.family, runs.base, spec.run, 0, runs.data)
    for step in range(3):
        _step(plain, step, 0, "toy", StateFolder(tmp_path, "key"))
    assert torch.equal(weights(plain.net), weights(runs.steps(tmp_path, 3).net))


def test_groups_of_weight_decay(runs: Runs) -> None:
    """VAR's training spares biases, norms, positions, levels and scales; matrices decay."""
    net, settings = runs.base, how(name="adamw", weight_decay=0.05)
    optimizer = make_optimizer(runs.family, net, settings)
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {id(p): name for name, p in net.named_parameters()}
    found = {g[DECAYS]: {names[id(p)] for p in g["params"]} for g in optimizer.param_groups}
    assert found[True] | found[False] == set(names.values())
    if runs.model == "var":
        spared = ["bias", "scale_mul_1H11", "pos_start", "pos_1LC", "lvl_embed.weight"]
        assert found[False] == {n for n in names.values() if n.endswith(tuple(spared))}
        assert {"class_emb.weight", "head.weight", "word_embed.weight"} < found[True]
    else:
        assert {n for n in names.values() if "gain" in n} == found[False]


def test_weight_decay_of_a_step(runs: Runs, tmp_path: Path) -> None:
    """AdamW's: p ← p (1 − lr λ) before the step, of what decays alone."""
    if runs.model == "edm2":
        pytest.skip("its weights are normalised after each step")
    without = runs.steps(tmp_path, 1, name="adamw", betas=[0.9, 0.95])
    decayed = runs.steps(tmp_path, 1, name="adamw", betas=[0.9, 0.95], weight_decay=2.0)
    base = dict(runs.base.named_parameters())
    for (name, p), q in zip(without.net.named_parameters(), decayed.net.parameters(), strict=True):
        lost = 0.001 * 2.0 * base[name] if runs.family.decays(name, q) else torch.zeros_like(q)
        torch.testing.assert_close(p - q, lost, rtol=1e-3, atol=1e-6)


def test_rates_reach_the_optimiser(runs: Runs, tmp_path: Path) -> None:
    who = runs.trainee(**EVERY_OPTION)
    for step, rate in enumerate([0.005, 0.5025, 1.0]):
        terms = _step(who, step, 0, "toy", StateFolder(tmp_path, "key"))
        assert terms["lr"] == pytest.approx(0.001 * rate)
        decays = {group[DECAYS]: group["weight_decay"] for group in who.optimizer.param_groups}
        assert decays == {True: pytest.approx(who.weight_decay(step)), False: 0.0}  # type: ignore[misc]


def test_clipping_scales_the_whole_gradient(runs: Runs, tmp_path: Path) -> None:
    """What the optimiser is given has the norm ``clip``, and the direction it had."""
    seen: dict[float, Tensor] = {}
    for clip in (1e-3, 1e9):
        who = runs.trainee(clip=clip)
        usual = who.optimizer.step

        def note(clip: float = clip, who: Trainee = who, usual: Any = usual) -> None:
            given = [p.grad.flatten() for p in who.net.parameters() if p.grad is not None]
            seen[clip] = torch.cat(given).clone()
            usual()

        who.optimizer.step = note  # type: ignore[method-assign,assignment]
        terms = _step(who, 0, 0, "toy", StateFolder(tmp_path, "key"))
        assert terms["grad_norm"] > 0.01  # as it was before
    assert seen[1e-3].norm().item() == pytest.approx(1e-3, rel=1e-3)
    direction = nn.functional.cosine_similarity(seen[1e-3], seen[1e9], dim=0)
    assert direction.item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("profile", [{"std": 0.2}, {"half_life": 12}])
def test_average_of_the_weights(runs: Runs, profile: dict[str, float], tmp_path: Path) -> None:
    """Against the closed form of its profile, from the weights after each step."""
    who = runs.trainee(ema={**profile, "evaluate": "both"})
    start, along = weights(who.ema), []
    after, who.after_step = who.after_step, lambda net: None  # the average is taken before it
    for step in range(4):
        _step(who, step, 0, "toy", StateFolder(tmp_path, "key"))
        along.append(weights(who.net).double())
        after(who.net)
    if "std" in profile:  # Eq. 121: the share of each step's part of ∫ τ^γ dτ
        power = ema_exponent(0.2) + 1
        shares = [(t / 4) ** power - ((t - 1) / 4) ** power for t in range(1, 5)]
    else:  # of minibatches of 8: β = ½^(8/12), and what it started from weighs the rest
        beta = 0.5 ** (8 / 12)
        shares = [(1 - beta) * beta ** (3 - t) for t in range(4)]
    expected = (1 - sum(shares)) * start.double()
    for share, w in zip(shares, along, strict=True):
        expected += share * w
    torch.testing.assert_close(weights(who.ema).double(), expected, rtol=1e-4, atol=1e-6)
    assert (weights(who.ema) - weights(who.net)).abs().max() > 1e-5


def test_what_learns_from_the_average_has_one_though_raw_weights_are_kept(runs: Runs) -> None:
    """A final run of raw weights follows the rule of its grid, where both were measured."""
    spec = runs.plan.finetune_spec(f"{runs.model}-cca-seed0")
    for evaluate, kept in (("both", [False, True]), ("raw", [False])):
        how = {"ema": {"half_life": 100, "evaluate": evaluate}}
        run = edited(spec, run={"optimizer": how, "objective": {"name": "mg", "w": 0.5}}).run
        who = finetune_trainee(runs.family, runs.base, run, 0, runs.data)
        assert who.ema is not None and [averaged for _, averaged in who.results] == kept


def test_raw_weights_alone_need_no_average(runs: Runs) -> None:
    who = runs.trainee(ema={"std": 0.1, "evaluate": "raw"})
    assert who.ema is None and who.results == [(who.net, False)]
    who = runs.trainee(ema={"std": 0.1})
    assert who.results == [(who.ema, True)]


@pytest.mark.parametrize("share", [Share(1), Share(3)])
def test_micro_batches_end_at_the_same_weights(runs: Runs, share: Share, tmp_path: Path) -> None:
    """With every option. Adam's first steps ignore the size of gradients, so that rounding may
    turn a few that are almost 0: the median tells."""
    whole, parts = (runs.steps(tmp_path, 3, s, **EVERY_OPTION) for s in (WHOLE, share))
    start = weights(runs.base)
    for a, b in ((whole.net, parts.net), (whole.ema, parts.ema)):
        moved = (weights(a) - start).abs()
        assert moved.max() > 1e-4
        assert (weights(a) - weights(b)).abs().median() < 1e-3 * moved.median()


# ------------------------------------------------------------------ processes


PROFILES: dict[str, dict[str, float]] = {
    "half-life": {"half_life": 2.5},
    "power function": {"ema_std": 0.1},
}


def toy(share: Share, profile: str) -> Trainee:
    """A regression in float64, of which each process has its share of every minibatch."""
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(torch.randn(p.shape, generator=step_generator(i)))
    average = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    average.load_state_dict(net.state_dict())

    def losses(step: int) -> Iterator[Loss]:
        x = torch.randn(7, 3, generator=step_generator(step, 9)).double()
        for part in share.parts(7):
            yield Loss((net(x[part])[:, 0] - x[part].sum(1)).square().sum() / 7, {})

    settings = how(**{k: v for k, v in EVERY_OPTION.items() if k != "dropout"})
    groups = [
        {"params": [p for p in net.parameters() if (p.ndim > 1) == decays], DECAYS: decays}
        for decays in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)
    return Trainee(
        net, optimizer, lambda step: 0.05 * settings.rate(step, 6), losses, ema=average,
        kept=(False, True), clip=0.5, weight_decay=lambda s: settings.decay(s, 6),
        **PROFILES[profile],  # type: ignore[arg-type]
    )  # fmt: skip


def outcome(share: Share, folder: str, profile: str) -> dict[str, Any]:
    who, norms = toy(share, profile), []
    for step in range(6):
        norms.append(_step(who, step, 0, "toy", StateFolder(Path(folder), "key"))["grad_norm"])
    return {"net": weights(who.net), "ema": weights(who.ema), "norms": norms}


def process(rank: int, folder: str, size: int, profile: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    try:
        found = outcome(Share(micro_batch=2, rank=rank, size=size), folder, profile)
    finally:
        dist.destroy_process_group()
    torch.save(found, Path(folder, f"{rank}.pt"))


@pytest.mark.parametrize(("size", "profile"), [(2, "half-life"), (3, "power function")])
def test_several_processes_end_at_the_weights_of_one(
    size: int, profile: str, tmp_path: Path
) -> None:
    """The norm that is clipped is that of the whole gradient, not of a process's share."""
    multiprocessing.spawn(process, (str(tmp_path), size, profile), nprocs=size)
    alone = outcome(WHOLE, str(tmp_path), profile)
    assert max(alone["norms"]) > 0.5  # clipping takes part
    assert not torch.equal(alone["net"], alone["ema"])
    for rank in range(size):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert found["norms"] == pytest.approx(alone["norms"], rel=1e-12)
        for name in ("net", "ema"):
            assert (found[name] - alone[name]).abs().max() < 1e-12


# ------------------------------------------------------------------ resuming


def run(folder: Path, who: Trainee) -> dict[str, dict[str, Tensor]]:
    train(
        who, name="toy", checkpoints=(3, 6), batch=8, seed=0,
        state=StateFolder(folder / "state", "key"), events=EventLog(folder / "events.jsonl"),
    )  # fmt: skip
    return {path.name: load_tensors(path)[0] for path in (folder / "state").glob("step-*")}


POWER = {"std": 0.1, "evaluate": "both"}
"""The other profile of an average: how much weighs what, changes from step to step."""


@pytest.mark.parametrize("option", [*sorted(EVERY_OPTION), "ema.std", "all"])
def test_resumed_to_the_same_bits(runs: Runs, option: str, tmp_path: Path) -> None:
    if runs.model == "edm2" and option not in ("all", "ema", "ema.std"):
        pytest.skip("each option by itself: VAR alone")
    base = {"name": "adamw"} if "decay" in option else {}
    base |= {"schedule": "linear"} if option in ("hold", "final", "steps") else {}
    alone = {"ema": POWER} if option == "ema.std" else {option: EVERY_OPTION.get(option)}
    chosen = EVERY_OPTION if option == "all" else base | alone
    whole = run(tmp_path / "whole", runs.trainee(**chosen))
    for at in (1, 4):
        who = runs.trainee(**chosen)
        usual = who.losses

        def losses(step: int, usual: Any = usual, at: int = at) -> Any:
            if step == at:
                os.kill(os.getpid(), signal.SIGTERM)
            return usual(step)

        who.losses = losses
        with pytest.raises(Interrupted):
            run(tmp_path / "parts", who)
    parts = run(tmp_path / "parts", runs.trainee(**chosen))
    averaged = option in ("all", "ema", "ema.std")
    assert parts.keys() == whole.keys() and len(whole) == (4 if averaged else 2)
    for name, tensors in whole.items():
        for key, value in tensors.items():
            assert torch.equal(value, parts[name][key]), (name, key)
    if averaged:
        raw, average = (whole[f"step-000006{e}.safetensors"] for e in ("", "-average"))
        assert any(not torch.equal(raw[key], average[key]) for key in raw)


# ------------------------------------------------------------------ jobs


@pytest.mark.parametrize("weights_of", ["raw", "average"])
def test_a_final_run_follows_the_schedule_of_its_grid(
    weights_of: str, model: str, trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    """Trained up to a selected step alone, the same seed gives the bytes of the grid's checkpoint;
    of the kind of weights that was selected."""
    optimizer = {key: value for key, value in EVERY_OPTION.items() if key != "steps"}
    spec = edited(tiny_plan.finetune_spec(f"{model}-cca-seed0"), run={"optimizer": optimizer})
    data, tokenizer = Data(trained.prepared), trained.tokenizer_of(model)
    arguments = data, trained.base(model), tokenizer, None
    finetune(spec, *arguments, tmp_path / "grid", tmp_path / "state")
    names = {path.name for path in (tmp_path / "grid" / "checkpoints").glob("step-*")}
    assert names == {f"step-{s:06d}{e}.safetensors" for s in (2, 4) for e in ("", "-average")}
    ema = optimizer["ema"] | {"evaluate": weights_of}
    chosen = {"lr": spec.run.lr, "optimizer": optimizer | {"ema": ema}}
    selection = tmp_path / "selection.json"
    write_json(selection, {"hyperparameters": chosen, "step": 2})
    finetune(spec, *arguments, tmp_path / "final", tmp_path / "state-2", selection=selection)
    ending = "-average" if weights_of == "average" else ""
    grid, about = load_tensors(tmp_path / f"grid/checkpoints/step-000002{ending}.safetensors")
    final, told = load_tensors(tmp_path / "final/checkpoints/final.safetensors")
    assert all(torch.equal(grid[key], final[key]) for key in grid)
    assert about.get("weights") == told.get("weights") == (weights_of if ending else None)

"""``mclr.finetune``: the training loop of the pipeline, for a network and a Dataset of anybody.

With the same data, settings and seed the weights are those of the pipeline's job, to the bit. The
same call with the same folder goes on where a killed one stopped, and ends at the same bits; code
of other people is no part of what tells runs apart. Under ``torch.distributed`` each process takes
its share of every minibatch.

What a network must be, of images x (N, …):

- a denoiser D(x; σ, c), called as ``net(noisy (N, …), sigma (N,), labels (N,))``, which gives the
  image (N, …); sigma in units of x, and x best in [−1, 1];
- or one with a method ``log_likelihood(x, labels (N,))``, which gives log p(x|c), (N,);
- or that of a family of this package (``mclr.models.make_family``), as ``load_network`` loads it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn
from torch.utils.data import Dataset

from mclr.config.objectives import FineTuning
from mclr.errors import UserError
from mclr.events import EventLog
from mclr.files import read_json, save_tensors, write_json
from mclr.models.family import Family
from mclr.models.own.network import EDM_NOISE, EDM_SIGMA_DATA, Denoisers, Likelihoods
from mclr.objectives.objective import Objective
from mclr.settings.optimizer import Optimizer
from mclr.settings.section import NoiseLevels, plain
from mclr.training import processes
from mclr.training.dataset import known_classes, samples_of
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples
from mclr.training.loop import train
from mclr.training.share import Share
from mclr.training.state import StateFolder

RUN, STATE, EVENTS, WEIGHTS = "run.json", "state", "events.jsonl", "model.safetensors"
"""What a run's folder has: what it is, states and checkpoints, losses, the weights of the end."""


def finetune(
    net: nn.Module | Family,
    dataset: Dataset[tuple[Tensor, int]],
    objective: Objective | Mapping[str, Any] | str,
    *,
    lr: float,
    batch: int,
    steps: int | Sequence[int],
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    base: nn.Module | None = None,
    classes: int | None = None,
    noise: NoiseLevels | Mapping[str, float] | None = None,
    sigma_data: float | None = None,
    optimizer: Optimizer | Mapping[str, Any] | None = None,
    negatives: Dataset[tuple[Tensor, int]] | None = None,
    micro_batch: int = 0,
) -> nn.Module:
    """Fine-tune a class-conditional generator; gives a copy of ``net`` or ``base``, tuned.

    Args:
        net: a denoiser, a network with ``log_likelihood``, or a family with its network ``base``.
        dataset: (image, label) by number, read once: uint8 (C, H, W), or float as the network
            models it; a label is a number from 0.
        objective: as in a configuration, ``"mclr"`` or ``{"name": "mclr", "K": 4}``; or the
            settings themselves, ``Mclr(name="mclr", K=4)``; or an ``OwnObjective``.
        lr, batch: learning rate; images of a step, at least 2.
        steps: how many; or several numbers, each of which leaves a checkpoint.
        seed: of minibatches, partners and noise.
        out: folder of the run, new or left by the same call; without it nothing is kept.
        classes: their number, which is the null label; that of the family, or of the labels.
        noise: ln σ ~ N(P_mean, P_std²) for a denoiser; −1.2 and 1.2 as EDM has it.
        sigma_data: σ_d of w(σ) for a denoiser, in units of x; 0.5 as EDM has it.
        optimizer: section ``optimizer`` of a run; Adam without it.
        negatives: (x, label) that the frozen network drew, for objectives that need them.
        micro_batch: images of one pass, where memory is short; 0: all.

    Returns:
        The network in evaluation mode; the average of its weights if ``optimizer`` has one.

    Raises:
        UserError: an argument, an item of the dataset or what the network gives is not as above;
            ``out`` has another run; the loss is not finite.
        mclr.training.loop.Interrupted: SIGINT or SIGTERM; the state is saved.
    """
    family, start = _family(net, base, noise, sigma_data)
    settings = _settings(objective, lr, batch, steps, optimizer)
    known = known_classes(family) if classes is None else classes
    data = samples_of("dataset", family, dataset, known)
    made = None
    if negatives is not None:
        made = samples_of("negatives", family, negatives, data.classes, generated=True)
    return _run(family, start, settings, seed, data, made, out, micro_batch)


def _run(
    family: Family,
    start: nn.Module,
    settings: FineTuning,
    seed: int,
    data: Samples,
    made: Samples | None,
    out: str | os.PathLike[str] | None,
    micro_batch: int,
) -> nn.Module:
    """The pipeline's loop, in ``out`` or in a folder that goes when it ends."""
    content = _identity(family, start, settings, seed, data, made)
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    share = Share(micro_batch, processes.rank(), processes.count())
    gpus = [family.device] if family.device.type == "cuda" else []
    with ExitStack() as stack:
        folder = Path(out) if out else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _claim(folder, content | {"key": key})
        stack.enter_context(torch.random.fork_rng(devices=gpus))  # the loop seeds torch's own
        trainee = finetune_trainee(family, start, settings, seed, data, made, share)
        state = StateFolder(folder / STATE, key)
        stack.enter_context(state.held())
        train(
            trainee,
            name=folder.name if out else "finetune",
            checkpoints=tuple(settings.checkpoints),
            batch=settings.batch,
            seed=seed,
            state=state,
            events=EventLog(folder / EVENTS),
        )
        found, _ = trainee.results[-1]
        if out and processes.is_first():
            save_tensors(folder / WEIGHTS, {k: v.cpu() for k, v in found.state_dict().items()}, {})
        processes.wait_for_all()
    return found.eval()


def _family(
    net: nn.Module | Family,
    base: nn.Module | None,
    noise: NoiseLevels | Mapping[str, float] | None,
    sigma_data: float | None,
) -> tuple[Family, nn.Module]:
    """The family of a network, and the network to start from."""
    if isinstance(net, Family):
        if base is None:
            raise UserError("base: a family is fine-tuned from one of its networks; give it there")
        if noise is not None or sigma_data is not None:
            raise UserError("noise, sigma_data: a family has its own; leave them out")
        return net, base
    if not isinstance(net, nn.Module):
        raise UserError(f"net: a {type(net).__name__}; expected a torch.nn.Module or a family")
    if base is not None:
        raise UserError("base: of a family alone; the network itself is the base")
    if hasattr(net, "log_likelihood"):
        if noise is not None or sigma_data is not None:
            raise UserError("noise, sigma_data: of denoisers; this network has a log_likelihood")
        return Likelihoods(net), net
    levels = _checked("noise", NoiseLevels, noise) if noise is not None else EDM_NOISE
    return Denoisers(net, levels, EDM_SIGMA_DATA if sigma_data is None else sigma_data), net


def _settings(
    objective: Objective | Mapping[str, Any] | str,
    lr: float,
    batch: int,
    steps: int | Sequence[int],
    optimizer: Optimizer | Mapping[str, Any] | None,
) -> FineTuning:
    """The settings of the run, checked as those of a configuration are."""
    told: Any = {"name": objective} if isinstance(objective, str) else objective
    given = told if isinstance(told, Objective) else None
    content = {
        "model": "network",
        "objective": {"name": "mclr"} if given else told,
        "lr": lr,
        "batch": batch,
        "checkpoints": [steps] if isinstance(steps, int) else list(steps),
    }
    if optimizer is not None:
        content["optimizer"] = _checked("optimizer", Optimizer, optimizer)
    found: FineTuning = _checked("", FineTuning, content)
    return found.model_copy(update={"objective": given}) if given else found


def _checked(where: str, kind: Any, content: Any) -> Any:
    """Settings of a kind; UserError with the argument and the key that is wrong."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        item = error.errors()[0]
        names = [where, *map(str, item["loc"])]
        place = ".".join(dict.fromkeys(filter(None, names))).replace("checkpoints", "steps")
        said = item["msg"].removeprefix("Value error, ")
        raise UserError(f"{place}: {said}, got {item.get('input')!r}") from None


def _identity(
    family: Family,
    start: nn.Module,
    settings: FineTuning,
    seed: int,
    data: Samples,
    made: Samples | None,
) -> dict[str, Any]:
    """All that decides the weights of the end, but for code of other people."""
    objective = settings.objective
    run = settings.model_dump(mode="json", by_alias=True, exclude={"objective", "model"})
    about: dict[str, Any] = {"class": _name(family)}
    for name, value in vars(family).items():
        if isinstance(value, BaseModel):
            about[name] = plain(value)
        elif isinstance(value, bool | int | float | str):
            about[name] = value
    return {
        "mclr": importlib.metadata.version("mclr"),
        "family": about,
        "run": run | {"objective": plain(objective) | {"class": _name(objective)}},
        "seed": seed,
        "classes": data.classes,
        "base": _digest(start.state_dict()),
        "dataset": _digest({"x": data.x, "labels": data.labels}),
        "negatives": _digest({"x": made.x, "labels": made.labels}) if made else None,
    }


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _claim(folder: Path, content: dict[str, Any]) -> None:
    """Note what run a folder is of; UserError if it has something else, which then stays."""
    path = folder / RUN
    if path.is_file():
        if (found := read_json(path, "key")) == content:
            return
        changed = [key for key in content if found.get(key) != content[key] and key != "key"]
        raise UserError(
            f"out: {folder} has another run ({', '.join(changed)} differ); choose another folder, "
            "or delete it"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"out: {folder} exists and is no run of mclr.finetune; choose another one")
    processes.wait_for_all()
    if processes.is_first():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    processes.wait_for_all()

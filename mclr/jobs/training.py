"""Jobs that train a model: a base model, fine-tuning."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mclr.data.load import Manifest
from mclr.device import CPU
from mclr.errors import UserError
from mclr.events import EventLog
from mclr.files import (
    load_tensors,
    read_json,
    remove_unfinished,
    save_tensors,
    write_json,
    write_yaml,
)
from mclr.jobs.encoding import is_of_pixels, load_encoded
from mclr.jobs.inputs import Data, run_training, state_folder
from mclr.models.families import make_family
from mclr.models.family import Family, load_network
from mclr.models.spec import ModelSpec
from mclr.objectives.objective import KIND
from mclr.planning.specs import BaseSpec, FinetuneSpec
from mclr.provenance import collect, own_code
from mclr.settings.origin import Released
from mclr.settings.section import canonical
from mclr.training import processes
from mclr.training.base import base_trainee
from mclr.training.finetune import finetune_trainee
from mclr.training.given import Samples
from mclr.training.share import WHOLE, Share
from mclr.training.state import StateFolder


def train_base(
    spec: BaseSpec,
    data: Data,
    tokenizer: Path | None,
    run: Path,
    state: Path,
    share: Share = WHOLE,
    device: torch.device = CPU,
    encoded: Path | None = None,
    version: str = "",
) -> None:
    """Train a base model from scratch, on the data or on ``encoded``, what the family made of it.

    The latter is a file of ``mclr.jobs.encoding``. version: of the result, see ``state_folder``.
    """
    manifest, split = data.manifest, data.folder / "train.parquet"
    family = make_family(spec, manifest, tokenizer, device)
    settings = spec.base
    if isinstance(settings, Released):
        raise ValueError(f"{run.name} is taken over, not trained")
    x, labels = _examples(family, spec, data, encoded, state)
    trainee = base_trainee(family, settings, x, labels, manifest.num_classes, share)
    inputs = [split, tokenizer, encoded]
    private = state_folder(state, version, spec, *(path for path in inputs if path))
    started = time.time()
    with private.held():
        run_training(
            trainee, run.name, (settings.steps,), settings.batch, settings.seed, private, run
        )
        about = started, version, None, _chosen(family, spec)
        _publish(run, spec, (settings.steps,), private, split, *about)


def finetune(
    spec: FinetuneSpec,
    data: Data,
    base: Path,
    tokenizer: Path | None,
    negatives: Path | None,
    run: Path,
    state: Path,
    share: Share = WHOLE,
    selection: Path | None = None,
    device: torch.device = CPU,
    encoded: Path | None = None,
    version: str = "",
    guide: Path | None = None,
) -> None:
    """Fine-tune a base model with one objective, on the data or on ``encoded`` as above.

    With a ``selection`` its hyperparameters and step count instead of those of ``spec``, and the
    one checkpoint is called final.safetensors. ``guide``: the network that guides the base model,
    where the objective learns from its guidance and ``spec`` has one.
    """
    spec = selected_spec(spec, selection) if selection else spec
    manifest, settings, split = data.manifest, spec.run, data.folder / "train.parquet"
    trained = spec.with_(noise=settings.noise) if settings.noise else spec
    family = make_family(trained, manifest, tokenizer, device)
    x, labels = _examples(family, spec, data, encoded, state)
    objective = settings.objective.loaded(spec.objective_sha256)
    generated = None
    if negatives:
        tensors, _ = load_tensors(negatives)
        wanted = objective.needs.negatives
        made, made_labels = tensors["x"][:wanted], tensors["labels"][:wanted]
        generated = Samples(made, made_labels, manifest.num_classes, generated=True)
    trainee = finetune_trainee(
        family,
        load_network(family, base),
        settings,
        spec.seed,
        Samples(x, labels, manifest.num_classes),
        generated,
        share,
        _guide(trained, manifest, tokenizer, device, guide),
    )
    optional = [path for path in (tokenizer, negatives, encoded, guide) if path]
    private = state_folder(state, version, spec, split, base, *optional)
    started, checkpoints = time.time(), tuple(settings.checkpoints)
    with private.held():
        run_training(trainee, run.name, checkpoints, settings.batch, spec.seed, private, run)
        only = "final.safetensors" if selection else None
        facts = {**objective.facts, **_chosen(family, spec)}
        about = started, version, only, facts, settings.how.evaluated
        _publish(run, spec, checkpoints, private, split, *about)


def _guide(
    spec: FinetuneSpec,
    manifest: Manifest,
    tokenizer: Path | None,
    device: torch.device,
    weights: Path | None,
) -> nn.Module | None:
    """The network that guides the base model, as it is sampled with; None if it does itself."""
    if spec.guide_network is None:
        return None
    if weights is None:
        raise UserError("this objective learns from a network that guides: give --guide")
    family = make_family(spec.with_(network=spec.guide_network), manifest, tokenizer, device)
    return family.frozen(load_network(family, weights))


def _chosen(family: Family, spec: ModelSpec) -> dict[str, str]:
    """What ``precision: auto`` means on this machine; nothing where a type is named."""
    if spec.precision != "auto":
        return {}
    return {"computed_in": str(family.dtype(family.device)).removeprefix("torch.")}


def _examples(
    family: Family, spec: ModelSpec, data: Data, encoded: Path | None, state: Path
) -> tuple[Tensor, Tensor]:
    """What the family made of the training images, and their labels.

    A model of pixels takes the images themselves, of which a minibatch at a time is converted.
    """
    if encoded:
        return load_encoded(encoded, spec)
    images, labels = data.train(state)
    return (images if is_of_pixels(spec) else family.encode(images)), labels


def selected_spec(spec: FinetuneSpec, selection: Path) -> FinetuneSpec:
    """The specification with the hyperparameters, and up to the step, that were selected.

    Its schedule stays that of the whole run.
    """
    selected, content = read_json(selection, "hyperparameters", "step"), spec.content()
    chosen, run = selected["hyperparameters"], content["run"]
    for section in filter(None, (run, run["objective"], run["noise"])):
        section |= {key: chosen[key] for key in section if key in chosen}
    if "optimizer" in run:
        run["optimizer"] = {"steps": run["checkpoints"][-1]} | run["optimizer"]
    run["checkpoints"] = [selected["step"]]
    identity = content["identity"] | {"hyperparameters": chosen}
    return spec.with_(run=run, identity=identity)


def _publish(
    run: Path,
    spec: BaseSpec | FinetuneSpec,
    checkpoints: tuple[int, ...],
    private: StateFolder,
    split: Path,
    started: float,
    version: str,
    only: str | None = None,
    also: dict[str, Any] | None = None,
    kept: tuple[bool, ...] = (False,),
) -> None:
    """Move a finished run from its private folder to where everyone reads it.

    ``split``: the training images, whose sha256 is one of ``private.inputs``. ``only``: another
    name for its one checkpoint. ``also``: more facts for its provenance. ``kept``: whether its
    checkpoints are raw weights, averages of them, or both.
    Of several processes the first does so, and the others wait for it.
    """
    if not processes.is_first():
        processes.wait_for_all()
        return
    for folder in (run, run / "checkpoints"):
        remove_unfinished(folder)
    for made in [private.checkpoint(step, averaged) for step in checkpoints for averaged in kept]:
        tensors, metadata = load_tensors(made)
        target = run / "checkpoints" / (only or made.name)
        save_tensors(target, tensors, metadata | {"spec": canonical(spec)}, noted=True)
    content = spec.content()
    if only:  # what an objective is comes first where its other values were selected
        tuned = content["run"]
        tuned["objective"] = dict(
            sorted(tuned["objective"].items(), key=lambda i: i[0] not in KIND)
        )
    write_yaml(run / "config.yaml", content)
    facts = collect(
        own_code(content),
        data_sha256=private.inputs[str(split)],
        inputs=private.inputs,
        config_sha256=hashlib.sha256(canonical(spec).encode()).hexdigest(),
        code=version,
        seconds=round(time.time() - started, 1),
        **spec.identity.model_dump(),
        **(also or {}),
    )
    write_json(run / "provenance.json", facts, noted=True)
    EventLog(run / "events.jsonl").write("end", step=checkpoints[-1])
    private.clear()
    processes.wait_for_all()

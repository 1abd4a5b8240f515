"""Jobs that train a model: a base model, fine-tuning."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import yaml

from mclr.config import FineTuning, canonical
from mclr.data.load import Manifest
from mclr.events import EventLog
from mclr.files import load_tensors, save_tensors, write_json, write_text
from mclr.jobs.inputs import Data, run_training, state_folder
from mclr.models.family import load_network, make_family
from mclr.provenance import code_digest, collect
from mclr.training import processes
from mclr.training.base import base_settings, base_trainee
from mclr.training.finetune import Samples, finetune_trainee
from mclr.training.share import WHOLE, Share
from mclr.training.state import StateFolder


def train_base(
    spec: dict[str, Any],
    data: Data,
    tokenizer: Path | None,
    run: Path,
    state: Path,
    share: Share = WHOLE,
) -> None:
    """Train a base model from scratch."""
    manifest = data.manifest
    family = make_family(spec, manifest, tokenizer)
    settings = base_settings(spec)
    images, labels = data.train()
    x, classes = family.encode(images), manifest.num_classes
    trainee = base_trainee(family, settings, x, labels, classes, share)
    inputs = [data.folder / "train.parquet", *([tokenizer] if tokenizer else [])]
    private = state_folder(state, __name__, spec, *inputs)
    started = time.time()
    with private.held():
        run_training(
            trainee, run.name, (settings.steps,), settings.batch, settings.seed, private, run
        )
        _publish(run, spec, (settings.steps,), private, manifest, started)


def finetune(
    spec: dict[str, Any],
    data: Data,
    base: Path,
    tokenizer: Path | None,
    negatives: Path | None,
    run: Path,
    state: Path,
    share: Share = WHOLE,
) -> None:
    """Fine-tune a base model with one objective."""
    manifest, settings = data.manifest, FineTuning.model_validate(spec["run"])
    family = make_family(spec, manifest, tokenizer)
    images, labels = data.train()
    generated = None
    if negatives:
        tensors, _ = load_tensors(negatives)
        wanted = getattr(settings.objective, "n_negatives", 0)
        made, made_labels = tensors["x"][:wanted], tensors["labels"][:wanted]
        generated = Samples(made, made_labels, manifest.num_classes)
    trainee = finetune_trainee(
        family,
        load_network(family, base),
        settings,
        spec["seed"],
        Samples(family.encode(images), labels, manifest.num_classes),
        generated,
        share,
    )
    optional = [path for path in (tokenizer, negatives) if path]
    private = state_folder(state, __name__, spec, data.folder / "train.parquet", base, *optional)
    started, checkpoints = time.time(), tuple(settings.checkpoints)
    with private.held():
        run_training(trainee, run.name, checkpoints, settings.batch, spec["seed"], private, run)
        _publish(run, spec, checkpoints, private, manifest, started)


def _publish(
    run: Path,
    spec: dict[str, Any],
    checkpoints: tuple[int, ...],
    private: StateFolder,
    manifest: Manifest,
    started: float,
) -> None:
    """Move a finished run from its private folder to where everyone reads it.

    Of several processes the first does so, and the others wait for it.
    """
    if not processes.is_first():
        processes.wait_for_all()
        return
    for step in checkpoints:
        tensors, metadata = load_tensors(private.checkpoint(step))
        target = run / "checkpoints" / private.checkpoint(step).name
        save_tensors(target, tensors, metadata | {"spec": canonical(spec)})
    write_text(run / "config.yaml", yaml.safe_dump(spec, sort_keys=False, allow_unicode=True))
    facts = collect(
        data_sha256=manifest.hashes["train"],
        config_sha256=hashlib.sha256(canonical(spec).encode()).hexdigest(),
        code=code_digest(__name__),
        seconds=round(time.time() - started, 1),
        **spec["identity"],
    )
    write_json(run / "provenance.json", facts)
    EventLog(run / "events.jsonl").write("end", step=checkpoints[-1])
    private.clear()
    processes.wait_for_all()

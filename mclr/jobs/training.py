"""Jobs that train: feature net, tokenizer, base model, fine-tuning."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from mclr.config import ClassifierFeatures, FineTuning, TokenizerTraining, canonical
from mclr.data.load import Manifest, load_images, load_manifest, minibatch, step_generator
from mclr.events import EventLog
from mclr.files import load_tensors, save_tensors, sha256, write_json, write_text
from mclr.metrics.classifier import accuracy
from mclr.metrics.features import build_classifier, write_features
from mclr.models.family import load_network, make_family
from mclr.models.var.config import VqvaeArchitecture, VqvaeConfig
from mclr.models.var.vqvae import Vqvae
from mclr.objectives.base import Loss
from mclr.provenance import code_digest, collect
from mclr.training import processes
from mclr.training.base import base_settings, base_trainee
from mclr.training.finetune import Samples, finetune_trainee
from mclr.training.loop import train
from mclr.training.share import WHOLE, Share
from mclr.training.state import StateFolder
from mclr.training.trainee import Trainee


@dataclass(frozen=True)
class Data:
    """The prepared data of a tier: manifest and the training split."""

    folder: Path

    @property
    def manifest(self) -> Manifest:
        return load_manifest(self.folder / "manifest.json")

    def train(self) -> tuple[Tensor, Tensor]:
        return load_images(self.folder / "train.parquet", self.manifest)

    def reference(self) -> tuple[Tensor, Tensor]:
        return load_images(self.folder / "reference.parquet", self.manifest)


def state_folder(folder: Path, spec: dict[str, Any], *inputs: Path) -> StateFolder:
    """The private folder of a run, keyed by its specification, code and input files."""
    parts = [canonical(spec), code_digest(__name__), *(sha256(path) for path in inputs)]
    return StateFolder(folder, hashlib.sha256("\n".join(parts).encode()).hexdigest())


def train_feature_net(spec: dict[str, Any], data: Data, folder: Path, state: Path) -> None:
    """Train the classifier; write its weights, its accuracies and the reference features."""
    settings, manifest = ClassifierFeatures.model_validate(spec), data.manifest
    images, labels = data.train()
    net = build_classifier(settings, manifest, step_generator(settings.seed, 1))
    private = state_folder(state, spec, data.folder / "train.parquet")

    def losses(step: int) -> Iterator[Loss]:
        rows = minibatch(len(images), settings.batch, step, settings.seed)
        yield Loss(nn.functional.cross_entropy(net(images[rows])[1], labels[rows]), {})

    trainee = Trainee(net, torch.optim.Adam(net.parameters()), lambda step: settings.lr, losses)
    reference, reference_labels = data.reference()
    with private.held():
        _train(trainee, folder.name, (settings.steps,), settings, private, folder)
        write_features(
            folder / "reference.parquet", {folder.name: net.eval()}, reference, reference_labels
        )
        info = {
            "train_accuracy": accuracy(net, images, labels),
            "held_out_accuracy": accuracy(net, reference, reference_labels),
            "settings": spec,
        }
        save_tensors(folder / "net.safetensors", net.state_dict(), {"settings": canonical(spec)})
        write_json(folder / "info.json", info)
        private.clear()


def train_tokenizer(spec: dict[str, Any], data: Data, output: Path, state: Path) -> None:
    """Train the multi-scale VQ-VAE of an autoregressive model."""
    settings = TokenizerTraining.model_validate(spec["tokenizer"]["training"])
    codes = VqvaeArchitecture.model_validate(spec["tokenizer"]["network"]).model_dump()
    net = Vqvae.build(
        VqvaeConfig(**codes, img_channels=data.manifest.channels), step_generator(settings.seed, 1)
    ).train()
    images = data.train()[0].float() / 127.5 - 1
    private = state_folder(state, spec, data.folder / "train.parquet")

    def losses(step: int) -> Iterator[Loss]:
        x = images[minibatch(len(images), settings.batch, step, settings.seed)]
        out = net(x)
        reconstruction = nn.functional.mse_loss(out.recon, x)
        terms = {
            "reconstruction": reconstruction.item(),
            "codes_used": (out.hits.sum(0) > 0).float().mean().item(),
        }
        yield Loss(reconstruction + out.vq_loss, terms)

    optimizer = torch.optim.Adam(net.parameters(), betas=(0.9, 0.99))
    trainee = Trainee(net, optimizer, lambda step: settings.lr, losses)
    with private.held():
        _train(trainee, output.parent.name, (settings.steps,), settings, private, output.parent)
        save_tensors(output, net.state_dict(), {"spec": canonical(spec)})
        private.clear()


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
    private = state_folder(state, spec, *inputs)
    started = time.time()
    with private.held():
        _train(trainee, run.name, (settings.steps,), settings, private, run)
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
    private = state_folder(state, spec, data.folder / "train.parquet", base, *optional)
    started, checkpoints = time.time(), tuple(settings.checkpoints)
    with private.held():
        train(
            trainee,
            name=run.name,
            checkpoints=checkpoints,
            batch=settings.batch,
            seed=spec["seed"],
            state=private,
            events=EventLog(run / "events.jsonl"),
        )
        _publish(run, spec, checkpoints, private, manifest, started)


def _train(
    trainee: Trainee,
    name: str,
    checkpoints: tuple[int, ...],
    settings: Any,
    private: StateFolder,
    folder: Path,
) -> None:
    train(
        trainee,
        name=name,
        checkpoints=checkpoints,
        batch=settings.batch,
        seed=settings.seed,
        state=private,
        events=EventLog(folder / "events.jsonl"),
    )


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

"""The job that makes a feature net, and the features of real images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mclr.data.load import minibatch, step_generator
from mclr.device import CPU
from mclr.files import save_tensors, write_json
from mclr.jobs.inputs import Data, run_training, state_folder
from mclr.metrics.classifier import BATCH, accuracy, hits
from mclr.metrics.features import Settings, build_classifier, read_features, write_batches
from mclr.objectives.loss import Loss
from mclr.settings.features import ClassifierFeatures, EfficientNetFeatures
from mclr.settings.section import canonical
from mclr.training.trainee import Trainee

N_TRAIN = 5_000
"""Training images whose features are written, at most: what a metric says of real images."""


def train_feature_net(
    settings: Settings, data: Data, folder: Path, state: Path, version: str = ""
) -> None:
    """Train a feature net, or the probe of one that others trained; write what it sees.

    Writes ``net.safetensors``, its accuracies ``info.json``, the features of the reference images
    ``reference.parquet`` and those of random training images ``train.parquet``. The columns bear
    the name of ``folder``, without its resolution. version: of the result, see ``state_folder``.
    """
    if isinstance(settings, ClassifierFeatures):
        _train_classifier(settings, data, folder, state, version)
    elif isinstance(settings, EfficientNetFeatures):
        net, images, labels = _pretrained(settings, data)
        write_net(settings, net, data, folder, (images, labels))
    else:
        raise ValueError(f"{settings.kind} is taken over as published, not trained")


def _train_classifier(
    settings: ClassifierFeatures,
    data: Data,
    folder: Path,
    state: Path,
    version: str,
) -> None:
    images, labels = data.train(state)
    net = build_classifier(settings, data.manifest, step_generator(settings.seed, 1))
    private = state_folder(state, version, settings, data.folder / "train.parquet")

    def losses(step: int) -> Iterator[Loss]:
        rows = minibatch(len(images), settings.batch, step, settings.seed)
        yield Loss(nn.functional.cross_entropy(net(images[rows])[1], labels[rows]), {})

    trainee = Trainee(net, torch.optim.Adam(net.parameters()), lambda step: settings.lr, losses)
    with private.held():
        run_training(
            trainee, folder.name, (settings.steps,), settings.batch, settings.seed, private, folder
        )
        write_net(settings, net.eval(), data, folder, (images, labels))
        private.clear()


def _pretrained(settings: EfficientNetFeatures, data: Data) -> tuple[nn.Module, Tensor, Tensor]:
    """EfficientNet with a trained probe, and the images and labels that it was trained on."""
    from mclr.metrics.efficientnet import EfficientNetLite0, published_weights
    from mclr.metrics.probe import fit_probe

    n = len(data.labels("train"))
    rows = _some_rows(n, settings.probe_images, settings.seed, 1)
    images, labels = data.rows("train", rows)
    net = EfficientNetLite0(settings.size, data.manifest.num_classes)
    tensors = published_weights(data.manifest.num_classes)
    net.load(tensors)
    weight, bias = fit_probe(net.features(images), labels)
    net.load(tensors | {"head.weight": weight, "head.bias": bias})
    return net.eval().requires_grad_(False), images, labels


def write_net(
    settings: Settings,
    net: nn.Module,
    data: Data,
    folder: Path,
    learned: tuple[Tensor, Tensor] | None,
    state: dict[str, Tensor] | None = None,
    most: int = N_TRAIN,
) -> None:
    """The files of the job.

    learned: images and labels that it learned from; None if others trained it.
    state: what its file holds, if not its parameters.
    most: training images whose features are written.
    """
    name = folder.name.removesuffix(f"-{data.manifest.resolution}px")
    device = next((p.device for p in net.parameters()), CPU)
    reference = ((x.to(device), labels) for x, labels in data.batches("reference", BATCH))
    write_batches(folder / "reference.parquet", {name: net}, reference)
    some = _some_rows(len(data.labels("train")), most, settings.seed, 2)
    chosen = (data.rows("train", rows) for rows in some.split(BATCH))
    parts = ((x.to(device), labels) for x, labels in chosen)
    write_batches(folder / "train.parquet", {name: net}, parts, some.tolist())
    info: dict[str, Any] = {"settings": json.loads(canonical(settings))}
    if learned:
        held_out = read_features([folder / "reference.parquet"], name)
        info |= {
            "train_accuracy": accuracy(net, *learned),
            "held_out_accuracy": hits(held_out.logits, held_out.labels),
        }
    tensors = state or net.state_dict()
    metadata = {"settings": canonical(settings)}
    save_tensors(folder / "net.safetensors", tensors, metadata, noted=True)
    write_json(folder / "info.json", info)


def _some_rows(n: int, most: int, seed: int, purpose: int) -> Tensor:
    """At most ``most`` random rows of ``n``, in order."""
    return torch.randperm(n, generator=step_generator(seed, purpose))[:most].sort().values

"""The job that makes a feature net, and the features of the reference images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mclr.config import ClassifierFeatures, canonical
from mclr.data.load import minibatch, step_generator
from mclr.files import save_tensors, write_json
from mclr.jobs.inputs import Data, run_training, state_folder
from mclr.metrics.classifier import accuracy
from mclr.metrics.features import build_classifier, write_features
from mclr.objectives.base import Loss
from mclr.training.trainee import Trainee


def train_feature_net(spec: dict[str, Any], data: Data, folder: Path, state: Path) -> None:
    """Train the classifier; write its weights, its accuracies and the reference features."""
    settings, manifest = ClassifierFeatures.model_validate(spec), data.manifest
    images, labels = data.train()
    net = build_classifier(settings, manifest, step_generator(settings.seed, 1))
    private = state_folder(state, __name__, spec, data.folder / "train.parquet")

    def losses(step: int) -> Iterator[Loss]:
        rows = minibatch(len(images), settings.batch, step, settings.seed)
        yield Loss(nn.functional.cross_entropy(net(images[rows])[1], labels[rows]), {})

    trainee = Trainee(net, torch.optim.Adam(net.parameters()), lambda step: settings.lr, losses)
    reference, reference_labels = data.reference()
    with private.held():
        run_training(
            trainee, folder.name, (settings.steps,), settings.batch, settings.seed, private, folder
        )
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

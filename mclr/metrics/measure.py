"""All metrics of a set of images, by the feature nets and the protocol of a tier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mclr.data.load import load_manifest
from mclr.device import CPU
from mclr.files import sha256
from mclr.metrics.features import (
    Features,
    feature_settings,
    published_moments,
    read_features,
    resize_of,
)
from mclr.metrics.reference import Reference
from mclr.metrics.scores import inception_score, protocol, scores
from mclr.settings.features import Protocol


class Measure:
    """What sets of images are compared with, and how.

    Args:
        evaluation: what numbers must have in common to be compared.
        manifest_file: of the prepared data.
        feature_nets: folder of each feature net (weights and reference features).
        device: where distances between many images are computed.
    """

    def __init__(
        self,
        evaluation: Protocol,
        manifest_file: Path,
        feature_nets: Mapping[str, Path],
        device: torch.device = CPU,
    ) -> None:
        self.evaluation = evaluation
        self.manifest = load_manifest(manifest_file)
        self.weights = {name: path / "net.safetensors" for name, path in feature_nets.items()}
        self.real = {
            name: Reference(
                read_features([path / "reference.parquet"], name).features,
                evaluation.neighbourhood,
                published_moments(path / "net.safetensors"),
                device,
            )
            for name, path in feature_nets.items()
        }

    def protocol(self, n_samples: int) -> dict[str, Any]:
        """What must be equal for two numbers to be compared, for sets of so many images."""
        resized = {name: resize_of(feature_settings(path)) for name, path in self.weights.items()}
        return protocol(
            self.evaluation.model_dump() | {"n_samples": n_samples},
            {name: sha256(path) for name, path in self.weights.items()},
            self.manifest.hashes["reference"],
            "none" if set(resized.values()) == {"none"} else resized,
        )

    def columns(self, generated: Mapping[str, Features]) -> dict[str, float]:
        """The metrics of images whose features by every feature net are given.

        Every net with logits has its Inception Score ``is_<net>``; that of ``isc_features`` is
        also ``is_mean``, with its deviation ``is_std``.
        """
        columns: dict[str, float] = {}
        for name, features in generated.items():
            columns |= scores(name, features, self.real[name], self.manifest.num_classes)
            chosen = name == self.evaluation.isc_features
            if features.logits.shape[1] or chosen:
                mean, std = inception_score(features.logits, self.evaluation.isc_splits)
                columns |= {f"is_{name}": mean}
                columns |= {"is_mean": mean, "is_std": std} if chosen else {}
        return columns

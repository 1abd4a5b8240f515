"""Feature nets that others published: taken over as they are, with their moments for FD."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from pretrained_nets import TINY_VIT, random_vit
from tiny import TINY, Trained

from mclr.config.reading import parse_tier
from mclr.data.load import load_images, load_manifest
from mclr.errors import UserError
from mclr.jobs.inputs import Data
from mclr.jobs.published_net import take_over
from mclr.metrics.features import (
    SETTINGS,
    Settings,
    load_feature_net,
    published_moments,
    read_features,
)
from mclr.metrics.measure import Measure
from mclr.planning.plan import Plan


def vit_features() -> Settings:
    network = {key: getattr(TINY_VIT, key) for key in ("width", "depth", "heads", "patch", "grid")}
    content = {"kind": "dinov2", "released": "x.pth", "side": 28, "network": network, "seed": 0}
    return SETTINGS.validate_python(content)


def test_published_net_brings_its_moments(trained: Trained, tmp_path: Path) -> None:
    weights, statistics = tmp_path / "vit.pth", tmp_path / "ref.pkl"
    torch.save(random_vit(), weights)
    samples = np.random.default_rng(0).normal(size=(40, TINY_VIT.width))
    moments = {"mu": samples.mean(0), "sigma": np.cov(samples, rowvar=False)}
    statistics.write_bytes(pickle.dumps({"num_images": 40, "fd_dinov2": moments}))
    settings, folder = vit_features(), tmp_path / "dinov2"
    take_over(settings, Data(trained.prepared), weights, statistics, folder, 50)
    manifest = load_manifest(trained.manifest)
    images = load_images(trained.prepared / "reference.parquet", manifest)[0][:3]
    features, logits = load_feature_net(folder / "net.safetensors", manifest)(images)
    stored = read_features([folder / "reference.parquet"], "dinov2").features[:3]
    torch.testing.assert_close(features, stored, rtol=1e-4, atol=1e-5)
    assert logits.shape == (3, 0)
    found = published_moments(folder / "net.safetensors")
    assert found is not None and np.array_equal(found.mu.numpy(), moments["mu"])
    spec = Plan(parse_tier(copy.deepcopy(TINY), "tiny")).evaluate_spec("edm2-base")
    measure = Measure(spec.evaluation, trained.manifest, {"dinov2": folder})
    real = measure.real["dinov2"]
    made = torch.from_numpy(samples)
    assert abs(real.frechet_distance(made)) < 1e-6  # the moments are those of these samples
    assert trained.net.is_dir() and published_moments(trained.net / "net.safetensors") is None
    take_over(settings, Data(trained.prepared), weights, None, tmp_path / "plain" / "dinov2", 50)
    assert published_moments(tmp_path / "plain/dinov2/net.safetensors") is None


def test_statistics_of_another_net_are_named(trained: Trained, tmp_path: Path) -> None:
    weights, statistics = tmp_path / "vit.pth", tmp_path / "ref.pkl"
    torch.save(random_vit(), weights)
    statistics.write_bytes(pickle.dumps({"fid": {"mu": np.zeros(3), "sigma": np.eye(3)}}))
    with pytest.raises(UserError, match="statistics of fid, but none of 'fd_dinov2'"):
        take_over(
            vit_features(), Data(trained.prepared), weights, statistics, tmp_path / "dinov2", 50
        )

"""Labels in the proportions of the reference; uniform ones where the data are uniform."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import Trained

from mclr.data.load import Manifest, load_manifest
from mclr.errors import UserError
from mclr.jobs.floors import _some, floors
from mclr.jobs.labels import (
    block_labels,
    check_scheme,
    labels_of,
    proportional_counts,
    proportional_labels,
)
from mclr.jobs.sampling import sample
from mclr.metrics.features import Features, read_features
from mclr.metrics.scores import frechet_distance
from mclr.planning.plan import Plan


def data(train: list[int], reference: list[int]) -> Manifest:
    names = tuple(f"c{i}" for i in range(len(train)))
    counts = {"train": tuple(train), "reference": tuple(reference)}
    return Manifest(1, 8, len(train), names, {}, None, counts)


@pytest.mark.parametrize(
    ("counts", "n", "found"),
    [
        ([400, 40], 440, [400, 40]),
        ([400, 40], 100, [91, 9]),  # 90.9 and 9.1
        ([1, 1, 1], 5, [2, 2, 1]),  # equal remainders: the first classes
        ([47, 16, 15, 12, 10], 10, [5, 2, 1, 1, 1]),  # 4.7, 1.6, 1.5, 1.2, 1.0
        ([3, 0, 1], 8, [6, 0, 2]),
        ([5, 5000], 10, [0, 10]),
    ],
)
def test_largest_remainders(counts: list[int], n: int, found: list[int]) -> None:
    assert proportional_counts(counts, n) == found
    labels = proportional_labels(counts, n).tolist()
    assert [labels.count(c) for c in range(len(counts))] == found


def test_a_label_depends_on_its_seed_alone() -> None:
    manifest = data([900, 90, 10], [90, 9, 1])
    n = 40
    block = block_labels(list(range(3 * n, 4 * n)), "proportional", manifest, n)
    assert Counter(block.tolist()) == {0: 36, 1: 4}
    for seeds in ([125], [150, 121, 150], list(range(159, 119, -1))):
        found = block_labels(seeds, "proportional", manifest, n)
        assert found.tolist() == [int(block[seed - 3 * n]) for seed in seeds]
    assert torch.equal(block, block_labels(list(range(n)), "proportional", manifest, n))


def test_classes_are_spread_over_the_images() -> None:
    """Any run of images has about its share of a class."""
    labels = proportional_labels([700, 200, 100], 1000)
    for first in range(0, 1000, 50):
        found = torch.bincount(labels[first : first + 50], minlength=3)
        assert (found - torch.tensor([35, 10, 5])).abs().max() <= 1


def test_even_classes_have_balanced_labels() -> None:
    seeds = list(range(40, 80))
    found = block_labels(seeds, "proportional", data([30] * 4, [9] * 4), 40)
    assert torch.equal(found, labels_of(seeds, "balanced", 4))


@pytest.mark.parametrize("scheme", ["balanced", "random"])
def test_uniform_labels_want_even_data(scheme: Any) -> None:
    check_scheme(scheme, data([80, 160], [20, 40]))
    check_scheme("proportional", data([1600, 160], [400, 40]))
    check_scheme(scheme, Manifest(1, 8, 2, ("a", "b"), {}))
    with pytest.raises(UserError) as caught:
        check_scheme(scheme, data([160, 80, 100], [41, 20, 30]))
    text = str(caught.value)
    assert f"evaluation.labels: {scheme}" in text and "write `labels: proportional`" in text
    assert "100 images of c1 and 201 of c0" in text


@pytest.fixture
def uneven(trained: Trained, tmp_path: Path) -> Path:
    """The manifest of the digits, as if the first classes had been larger."""
    content = json.loads(trained.manifest.read_text())
    content["splits"]["train"]["class_counts"] = [300, 200, *[60] * 8]
    content["splits"]["reference"]["class_counts"] = [30, 20, *[6] * 8]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content))
    return path


def test_samples_have_the_proportions_of_the_reference(
    trained: Trained, tiny_plan: Plan, uneven: Path, tmp_path: Path
) -> None:
    point = next(p for p in tiny_plan.points("edm2-base") if p.seed == 1 and not p.guidance)
    spec = tiny_plan.sample_spec(point)
    nets, files = {"cnn": trained.net / "net.safetensors"}, []
    for scheme in ("balanced", "random", "proportional"):
        told = spec.with_(labels=scheme, n_samples=49, batch=7, shards=3)
        files = [tmp_path / f"{scheme}-{shard}.parquet" for shard in range(3)]
        for shard, file in enumerate(files):
            about = shard, uneven, trained.edm2, None, nets, file, tmp_path / "grid.png"
            if scheme == "proportional":
                sample(told, *about)
                continue
            with pytest.raises(UserError, match="66 images of 2 and 330 of 0"):
                sample(told, *about)
            assert not file.exists()
    found = read_features(files, "cnn")
    assert found.seeds.tolist() == list(range(49, 98))
    assert torch.bincount(found.labels).tolist() == [15, 10, *[3] * 8]


def two_classes(many: int, few: int) -> Features:
    """Dark and bright images, far from each other."""
    labels = torch.tensor([0] * many + [1] * few)
    features = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(many))
    features[:, 0] += 40 * labels
    return Features(features, features[:, :0], labels, torch.arange(len(labels)))


def test_real_images_are_as_far_as_real_images() -> None:
    """The case that made the scheme: 2,000 dark and 200 bright images."""
    real, reference = two_classes(1600, 160), two_classes(400, 40)
    manifest = data([1600, 160], [400, 40])
    found = {s: _some(real, 440, s, manifest) for s in ("balanced", "proportional")}
    assert torch.bincount(found["proportional"].labels).tolist() == [400, 40]
    fd = {s: frechet_distance(f.features, reference.features) for s, f in found.items()}
    assert fd["proportional"] < 0.1 < 10 < fd["balanced"]
    short = _some(two_classes(1600, 10), 440, "proportional", manifest)
    assert torch.bincount(short.labels).tolist() == [430, 10], "filled up with what there is"


def test_floors_refuse_uniform_labels(
    trained: Trained, tiny_plan: Plan, uneven: Path, tmp_path: Path
) -> None:
    spec = tiny_plan.floors_spec("edm2")
    with pytest.raises(UserError, match=r"evaluation\.labels: balanced"):
        floors(spec, uneven, {"cnn": trained.net}, tmp_path / "floors.json")
    told = spec.evaluation.model_copy(update={"labels": "proportional"})
    floors(spec.with_(evaluation=told), uneven, {"cnn": trained.net}, tmp_path / "floors.json")
    found = json.loads((tmp_path / "floors.json").read_text())
    assert found["protocol"]["labels"] == "proportional"


def test_the_manifest_knows_the_classes(trained: Trained) -> None:
    counts = load_manifest(trained.manifest).class_counts
    assert sum(counts["train"]) == 1000 and sum(counts["reference"]) == 797

"""Feature nets and feature files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny import Trained
from torch import Tensor, nn

from mclr.data.load import Manifest, load_images
from mclr.errors import UserError
from mclr.files import read_json
from mclr.files.checksums import note_of
from mclr.jobs import feature_net
from mclr.jobs.inputs import Data
from mclr.metrics.classifier import Classifier, accuracy
from mclr.metrics.features import (
    build_classifier,
    feature_table,
    load_feature_net,
    net_features,
    read_features,
    stream_features,
    write_features,
)
from mclr.settings.features import ClassifierFeatures

SETTINGS = ClassifierFeatures(channels=3, dimensions=7, steps=1, batch=1, lr=1, seed=0)


def net(manifest: Manifest, seed: int = 0) -> Classifier:
    return build_classifier(SETTINGS, manifest, torch.Generator().manual_seed(seed))


def some_images(n: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(256, (n, 1, 8, 8), generator=generator).to(torch.uint8)


def test_classifier(manifest: Manifest) -> None:
    features, logits = net(manifest)(some_images(5))
    assert features.shape == (5, 7) and logits.shape == (5, 10)
    assert (features >= 0).all()


def test_weights_depend_on_the_generator_alone(manifest: Manifest) -> None:
    first = net(manifest)
    torch.manual_seed(5)
    for a, b in zip(first.parameters(), net(manifest).parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first.head.weight, net(manifest, 1).head.weight)


def test_accuracy(manifest: Manifest) -> None:
    classifier, images = net(manifest), some_images(8)
    labels = classifier(images)[1].argmax(1)
    assert accuracy(classifier, images, labels) == 1.0
    labels[:2] = (labels[:2] + 1) % 10
    assert accuracy(classifier, images, labels) == 0.75


def test_trained_net_is_read_back(trained: Trained, manifest: Manifest) -> None:
    """The reference features its job wrote are those of the net that is loaded."""
    loaded = load_feature_net(trained.net / "net.safetensors", manifest)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    images, labels = load_images(trained.prepared / "reference.parquet", manifest)
    stored = read_features([trained.net / "reference.parquet"], "cnn")
    features, logits = loaded(images)
    torch.testing.assert_close(stored.features.float(), features)
    torch.testing.assert_close(stored.logits.float(), logits)
    assert torch.equal(stored.labels, labels)
    assert stored.seeds.tolist() == list(range(797))
    info = read_json(trained.net / "info.json")
    right = (logits.argmax(1) == labels).float().mean().item()
    assert info["held_out_accuracy"] == pytest.approx(right)
    assert info["settings"]["dimensions"] == 4 and 0 <= info["train_accuracy"] <= 1


def test_training_images_are_written_too(trained: Trained, manifest: Manifest) -> None:
    """In the order of the file; their seeds are its rows."""
    stored = read_features([trained.net / "train.parquet"], "cnn")
    images, labels = load_images(trained.prepared / "train.parquet", manifest)
    assert stored.seeds.tolist() == list(range(1000)) and torch.equal(stored.labels, labels)
    expected, _ = load_feature_net(trained.net / "net.safetensors", manifest)(images)
    torch.testing.assert_close(stored.features.float(), expected)


def test_few_of_many_training_images_are_written(
    trained: Trained, manifest: Manifest, tmp_path: Path
) -> None:
    settings, data = SETTINGS, Data(trained.prepared)
    trained_net = load_feature_net(trained.net / "net.safetensors", manifest)
    feature_net.write_net(settings, trained_net, data, tmp_path / "cnn", None, most=50)
    some = read_features([tmp_path / "cnn" / "train.parquet"], "cnn")
    everything = read_features([trained.net / "train.parquet"], "cnn")
    assert len(some.seeds) == 50 and some.seeds.max() > 500
    assert torch.equal(some.labels, everything.labels[some.seeds])
    torch.testing.assert_close(some.features, everything.features[some.seeds])


def test_real_images_are_seen_in_parts(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the activations of a large set are never in memory together."""
    classifier, images, labels = net(manifest), some_images(25), torch.arange(25) % 10
    sizes: list[int] = []
    classifier.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    write_features(tmp_path / "whole", {"cnn": classifier}, images, labels)
    whole = accuracy(classifier, images, labels)
    for module in ("features", "classifier"):
        monkeypatch.setattr(f"mclr.metrics.{module}.BATCH", 10)
    write_features(tmp_path / "parts", {"cnn": classifier}, images, labels)
    assert accuracy(classifier, images, labels) == pytest.approx(whole)
    assert sizes == [25, 25, 10, 10, 5, 10, 10, 5]
    first, second = (read_features([tmp_path / name], "cnn") for name in ("whole", "parts"))
    assert torch.equal(first.seeds, second.seeds) and torch.equal(first.labels, second.labels)
    torch.testing.assert_close(first.features, second.features)


def test_shards_are_joined_in_the_order_of_seeds(manifest: Manifest, tmp_path: Path) -> None:
    nets = {"a": net(manifest), "b": net(manifest, 1)}
    images, labels = some_images(6), torch.arange(6)
    seeds = [5, 3, 4, 0, 2, 1]
    paths = [tmp_path / f"{i}.parquet" for i in range(2)]
    for path, part in zip(paths, (slice(0, 2), slice(2, 6)), strict=True):
        stream_features(
            path, [feature_table(net_features(nets, images[part]), seeds[part], labels[part])]
        )
    found = read_features(paths, "b")
    assert found.seeds.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.labels.tolist() == [3, 5, 4, 1, 2, 0]
    assert found.features.dtype == torch.float32 and found.logits.dtype == torch.float64
    expected = nets["b"](images[found.labels])[0].detach()
    torch.testing.assert_close(found.features.float(), expected)
    assert pq.read_schema(paths[0]).names == [
        "seed", "label", "a.features", "a.logits", "b.features", "b.logits",
    ]  # fmt: skip


class NoClassifier(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = images.flatten(1).float()
        return features, features.new_empty(len(features), 0)


def test_a_net_without_logits(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_features(path, {"dinov2": NoClassifier()}, some_images(3), torch.arange(3))
    assert pq.read_schema(path).names == ["seed", "label", "dinov2.features"]
    found = read_features([path], "dinov2")
    assert found.features.shape == (3, 64) and found.logits.shape == (3, 0)


def test_streaming_holds_one_batch_at_a_time(tmp_path: Path) -> None:
    """Each batch is on disk, in a row group of its own, before the next is made."""
    made: list[int] = []

    def batches() -> Iterator[pa.Table]:
        for i in range(3):
            made.append(i)
            yield pa.table({"seed": [i]})

    stream_features(tmp_path / "a.parquet", batches())
    assert made == [0, 1, 2] and pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 3


def test_a_crash_while_streaming_leaves_nothing(tmp_path: Path) -> None:
    def batches() -> Iterator[pa.Table]:
        yield pa.table({"seed": [1]})
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        stream_features(tmp_path / "a.parquet", batches())
    assert list(tmp_path.iterdir()) == []


def test_missing_or_damaged_shards(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "point" / "shard-000.parquet"
    with pytest.raises(UserError, match="point: a feature shard is missing or damaged"):
        read_features([path], "a")
    write_features(path, {"a": net(manifest)}, some_images(3), torch.arange(3))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(
        UserError, match=r"shard-000\.parquet: damaged, or another file in its place"
    ):
        read_features([path], "a")
    note_of(path).unlink()  # of an earlier version
    with pytest.raises(UserError, match="point: a feature shard is missing or damaged"):
        read_features([path], "a")
    with pytest.raises(UserError, match="no feature shards to read for a"):
        read_features([], "a")

"""An image is its seed: shards, batches and neighbours change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tiny import Trained, edited
from torch import Tensor

from mclr.data.load import Manifest
from mclr.errors import UserError
from mclr.files import load_tensors
from mclr.jobs.labels import labels_of
from mclr.jobs.sampling import (
    GRID_SEED,
    NEGATIVES_SEED,
    sample,
    sample_negatives,
    shard_batches,
    write_grid,
)
from mclr.metrics.features import Features, read_features
from mclr.models.families import make_family
from mclr.models.family import load_network
from mclr.planning.plan import Plan
from mclr.planning.specs import SampleSpec

MODELS = ("edm2", "var")


def spec_of(plan: Plan, model: str, guidance: float = 0.0, **edit: Any) -> SampleSpec:
    points = plan.points(f"{model}-base")
    point = next(p for p in points if p.seed == 1 and p.guidance == guidance)
    return plan.sample_spec(point).with_(**edit)


def run(
    folder: Path, trained: Trained, model: str, spec: SampleSpec, weights: Path | None = None
) -> tuple[Features, list[Any]]:
    """All shards of a point: features by seed, and the grids."""
    files, grids = [], []
    for shard in range(spec.shards):
        files.append(folder / f"shard-{shard:03d}.parquet")
        grid = folder / f"shard-{shard:03d}.png"
        sample(
            spec, shard, trained.manifest, weights or trained.base(model),
            trained.tokenizer_of(model), {"cnn": trained.net / "net.safetensors"}, files[-1], grid,
        )  # fmt: skip
        with Image.open(grid) as image:
            grids.append(np.array(image))
    return read_features(files, "cnn"), grids


def test_labels() -> None:
    assert labels_of([0, 9, 10, 23], "balanced", 10).tolist() == [0, 9, 0, 3]
    seeds = list(range(2000))
    random = labels_of(seeds, "random", 10)
    assert torch.equal(random[1000:], labels_of(seeds[1000:], "random", 10))
    assert np.bincount(random, minlength=10).min() > 140
    assert random[:10].tolist() != list(range(10))


@pytest.mark.parametrize("shards", [1, 2, 3, 4])
def test_shards_are_whole_batches(shards: int, tiny_plan: Plan) -> None:
    spec = spec_of(tiny_plan, "edm2", seed=3, n_samples=20, batch=6, shards=shards)
    parts = [shard_batches(spec, shard) for shard in range(shards)]
    assert all(parts)
    batches = [batch for part in parts for batch in part]
    assert [len(batch) for batch in batches] == [6, 6, 6, 2]
    assert [seed for batch in batches for seed in batch] == list(range(60, 80))


@pytest.mark.parametrize("model", MODELS)
def test_shards_change_no_bit(
    model: str, trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    found = []
    for shards in (1, 2, 4):
        spec = spec_of(tiny_plan, model, shards=shards)
        found.append(run(tmp_path / str(shards), trained, model, spec)[0])
    for other in found[1:]:
        assert torch.equal(other.features, found[0].features)
        assert torch.equal(other.logits, found[0].logits)
        assert torch.equal(other.labels, found[0].labels)
    assert found[0].seeds.tolist() == list(range(20, 40))
    assert found[0].labels.tolist() == [*range(10), *range(10)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("guided", [False, True])
def test_batches_change_rounding_alone(
    model: str, guided: bool, trained: Trained, tiny_plan: Plan, manifest: Manifest
) -> None:
    """Image i is a function of its seed and label: alone, or among others in another order."""
    guidance = (0.5 if model == "edm2" else 1.5) if guided else 0.0
    spec = spec_of(tiny_plan, model, guidance)
    family = make_family(spec, manifest, trained.tokenizer_of(model))
    net = load_network(family, trained.base(model))
    seeds, labels = [7, 8, 9, 10], torch.tensor([1, 2, 3, 4])
    with torch.no_grad():
        together = family.generate(net, seeds, labels, guidance)
        backwards = family.generate(net, seeds[::-1], labels.flip(0), guidance)
        alone = [
            family.generate(net, [s], labels[i : i + 1], guidance) for i, s in enumerate(seeds)
        ]
    for other in (backwards.flip(0), torch.cat(alone)):
        torch.testing.assert_close(other, together, rtol=1e-4, atol=1e-4)
    assert not torch.equal(together[0], together[1])


def test_other_seeds_other_images(trained: Trained, tiny_plan: Plan, tmp_path: Path) -> None:
    first, _ = run(tmp_path / "1", trained, "edm2", spec_of(tiny_plan, "edm2"))
    second, _ = run(tmp_path / "0", trained, "edm2", spec_of(tiny_plan, "edm2", seed=0))
    assert second.seeds.tolist() == list(range(20))
    assert not torch.equal(first.features, second.features)


def test_features_follow_the_label_scheme(
    trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    spec = spec_of(tiny_plan, "edm2", labels="random")
    found, _ = run(tmp_path, trained, "edm2", spec)
    assert torch.equal(found.labels, labels_of(list(range(20, 40)), "random", 10))


def cells(grid: Any) -> Tensor:
    """(rows, classes, 8, 8)"""
    return torch.from_numpy(grid).view(-1, 8, 10, 8).transpose(1, 2)


def spy(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[list[int], list[int]]]:
    """Seeds and labels of every call of a family's ``generate``."""
    calls: list[tuple[list[int], list[int]]] = []
    import mclr.models.edm2.family as edm2
    import mclr.models.var.family as var

    kind: Any = {"edm2": edm2.Edm2Family, "var": var.VarFamily}[name]
    original = kind.generate

    def generate(
        self: Any, net: Any, seeds: Any, labels: Tensor, guidance: float, **how: Any
    ) -> Any:
        calls.append((list(seeds), labels.tolist()))
        return original(self, net, seeds, labels, guidance, **how)

    monkeypatch.setattr(kind, "generate", generate)
    return calls


@pytest.mark.parametrize("model", MODELS)
def test_grid_rows_share_their_noise(
    model: str, trained: Trained, tiny_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One seed per row for all classes; the same seeds whatever the point; more in each shard."""
    calls = spy(monkeypatch, model)
    guidance = 0.5 if model == "edm2" else 1.5
    for name, spec in (
        ("a", spec_of(tiny_plan, model)),
        ("b", spec_of(tiny_plan, model, guidance)),
        ("c", spec_of(tiny_plan, model, seed=0)),
    ):
        _, grids = run(tmp_path / name, trained, model, spec)
        assert [grid.shape for grid in grids] == [(16, 80), (16, 80)]
    grid_calls = [call for call in calls if call[0][0] >= GRID_SEED]
    for shard in range(2):
        expected = [GRID_SEED + 2 * shard + row for row in range(2) for _ in range(10)]
        assert grid_calls[shard::2] == [(expected, [*range(10), *range(10)])] * 3


def test_grid_of_a_network_blind_to_classes(
    trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    """If classes do not matter, a row repeats one image: its columns differ by class alone."""
    from mclr.files import save_tensors

    tensors, metadata = load_tensors(trained.edm2)
    tensors["unet.emb_label.weight"].zero_()
    save_tensors(tmp_path / "blind.safetensors", tensors, metadata)
    spec = spec_of(tiny_plan, "edm2")
    _, grids = run(tmp_path, trained, "edm2", spec, tmp_path / "blind.safetensors")
    rows = cells(grids[0]).int()
    assert (rows - rows[:, :1]).abs().max() <= 1
    assert (rows[0, 0] - rows[1, 0]).abs().max() > 5


def test_grid_of_some_classes(trained: Trained, tiny_plan: Plan, tmp_path: Path) -> None:
    """Its columns are those of the whole grid."""
    spec = spec_of(tiny_plan, "edm2")
    _, whole = run(tmp_path, trained, "edm2", spec)
    _, some = run(tmp_path, trained, "edm2", spec.with_(grid_classes=[7, 2]))
    wanted = cells(whole[0])[:, [7, 2]].int()
    rows = torch.from_numpy(some[0]).view(-1, 8, 2, 8).permute(0, 2, 1, 3).int()
    found = rows.reshape(wanted.shape)
    assert (found - wanted).abs().max() <= 1
    with pytest.raises(UserError, match=r"evaluation.grid_classes: 10 is no class of the data"):
        run(tmp_path, trained, "edm2", spec.with_(grid_classes=[10]))


def test_write_grid(manifest: Manifest, tmp_path: Path) -> None:
    """Image r·10 + c lies in row r and column c, upright."""
    images = torch.zeros(20, 1, 8, 8, dtype=torch.uint8)
    for i in range(20):
        images[i] = 10 * i
        images[i, 0, 0, 1] = 255
    write_grid(tmp_path / "grid.png", images, manifest, 10)
    with Image.open(tmp_path / "grid.png") as image:
        found = cells(np.array(image))
    assert torch.equal(found.reshape(20, 1, 8, 8), images)


def test_write_grid_in_colour(tmp_path: Path) -> None:
    images = torch.arange(4 * 3 * 4, dtype=torch.uint8).view(4, 3, 2, 2)
    write_grid(tmp_path / "grid.png", images, Manifest(3, 2, 2, ("a", "b"), {}), 2)
    with Image.open(tmp_path / "grid.png") as image:
        found = np.array(image)
    assert found.shape == (4, 4, 3)
    np.testing.assert_array_equal(found[2:, :2], images[2].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("model", MODELS)
def test_negatives(model: str, trained: Trained, tiny_plan: Plan, tmp_path: Path) -> None:
    spec, output = tiny_plan.negatives_spec(model), tmp_path / "negatives.safetensors"
    tokenizer = trained.tokenizer_of(model)
    sample_negatives(spec, trained.manifest, trained.base(model), tokenizer, output)
    tensors, metadata = load_tensors(output)
    assert tensors["labels"].tolist() == [i % 10 for i in range(24)]
    assert len(tensors["x"]) == 24 and metadata["seed"] == str(NEGATIVES_SEED)
    assert tensors["x"].is_floating_point() == (model == "edm2")
    fewer = spec.with_(n_negatives=12)
    sample_negatives(fewer, trained.manifest, trained.base(model), tokenizer, output)
    assert torch.equal(load_tensors(output)[0]["x"], tensors["x"][:12])


def test_image_seeds_of_three_purposes_never_meet(tiny_plan: Plan) -> None:
    """The largest evaluated seed that a configuration may ask for is below all others."""
    from mclr.config.tier import IMAGE_SEEDS

    assert IMAGE_SEEDS <= NEGATIVES_SEED < GRID_SEED < 2**32


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda c: c[:-7], "checkpoint is truncated or not safetensors"),
        (lambda c: b"", "checkpoint is truncated or not safetensors"),
        (None, "checkpoint is missing"),
    ],
)
def test_damaged_checkpoint(
    damage: Any, text: str, trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    weights = tmp_path / "step-000004.safetensors"
    if damage:
        weights.write_bytes(damage(trained.edm2.read_bytes()))
    with pytest.raises(UserError, match=rf"step-000004\.safetensors: {text}"):
        run(tmp_path / "out", trained, "edm2", spec_of(tiny_plan, "edm2"), weights)
    assert not (tmp_path / "out").exists()


def test_checkpoint_of_another_architecture(
    trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    spec = edited(spec_of(tiny_plan, "edm2"), network={"model_channels": 8})
    with pytest.raises(UserError, match="weights do not fit the configured network"):
        run(tmp_path, trained, "edm2", spec)


def test_feature_file_has_a_row_group_per_batch(
    trained: Trained, tiny_plan: Plan, tmp_path: Path
) -> None:
    run(tmp_path, trained, "edm2", spec_of(tiny_plan, "edm2", shards=1))
    assert pq.ParquetFile(tmp_path / "shard-000.parquet").num_row_groups == 4

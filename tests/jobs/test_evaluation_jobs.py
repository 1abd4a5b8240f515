"""Evaluation of points, the best checkpoint, and the table of all metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from tiny import Trained

from mclr.cli import cli
from mclr.data.load import Manifest, load_images
from mclr.errors import UserError
from mclr.files import read_json, save_tensors, sha256, write_json
from mclr.jobs.evaluation import evaluate
from mclr.jobs.selection import copy_best, gather
from mclr.metrics.features import (
    Features,
    feature_table,
    load_feature_net,
    net_features,
    packages_of,
    read_features,
    stream_features,
    with_packages,
)
from mclr.metrics.measure import Measure
from mclr.metrics.reference import Reference
from mclr.metrics.scores import inception_score, scores
from mclr.planning.plan import Plan
from mclr.planning.specs import PlannedPoint
from mclr.settings.section import canonical


class Scene:
    """The evaluation of one experiment, whose points hold features of noisy real images."""

    def __init__(self, trained: Trained, manifest: Manifest, plan: Plan, folder: Path) -> None:
        self.trained, self.folder = trained, folder
        self.spec = plan.evaluate_spec("edm2-mclr")
        self.nets = {"cnn": load_feature_net(trained.net / "net.safetensors", manifest)}
        self.images, _ = load_images(trained.prepared / "train.parquet", manifest)
        for point in self.spec.points:
            self.write(point, 0, range(12))
            self.write(point, 1, range(12, 20))

    def shard(self, point: PlannedPoint, shard: int) -> Path:
        return self.folder / "features" / point.path / f"shard-{shard:03d}.parquet"

    def write(self, point: PlannedPoint, shard: int, rows: Any) -> None:
        seeds = [20 * point.seed + i for i in rows]
        images = self.images[torch.tensor(seeds) + 40 * point.step]
        labels = torch.tensor([seed % 10 for seed in seeds])
        stream_features(
            self.shard(point, shard),
            [feature_table(net_features(self.nets, images), seeds, labels)],
        )

    def run(self) -> dict[str, Any]:
        output = self.folder / "evaluation.json"
        nets = {"cnn": self.trained.net}
        evaluate(self.spec, self.trained.manifest, nets, self.folder / "features", output)
        found: dict[str, Any] = read_json(output)
        return found


@pytest.fixture
def scene(trained: Trained, manifest: Manifest, tiny_plan: Plan, tmp_path: Path) -> Scene:
    return Scene(trained, manifest, tiny_plan, tmp_path)


def test_rows(scene: Scene) -> None:
    found = scene.run()
    assert [(row["seed"], row["step"]) for row in found["rows"]] == [(0, 2), (0, 4), (1, 2), (1, 4)]
    point, row = scene.spec.points[3], found["rows"][3]
    generated = read_features([scene.shard(point, s) for s in (0, 1)], "cnn")
    real = read_features([scene.trained.net / "reference.parquet"], "cnn")
    expected = scores("cnn", generated, Reference(real.features, 3), classes=10)
    mean, std = inception_score(generated.logits, 2)
    assert row == {
        "tier": "tiny", **point.model_dump(), "n_samples": 20, "protocol": found["protocol"]["id"],
        **expected, "is_mean": mean, "is_std": std, "is_cnn": mean,
    }  # fmt: skip


def test_protocol(scene: Scene, manifest: Manifest) -> None:
    found = scene.run()["protocol"]
    assert found["reference_sha256"] == manifest.hashes["reference"]
    assert found["feature_nets"] == {"cnn": sha256(scene.trained.net / "net.safetensors")}
    assert (found["n_samples"], found["labels"], found["neighbourhood"]) == (20, "balanced", 3)
    assert found["resize"] == "none"
    assert "shards" not in found  # which no number depends on


def test_two_feature_nets(scene: Scene) -> None:
    """Columns of both; ``is_mean`` is the Inception Score of the one that is configured."""
    for point in scene.spec.points:
        for shard in (0, 1):
            table = pq.read_table(scene.shard(point, shard))
            for column in ("features", "logits"):
                table = table.append_column(f"more.{column}", table[f"cnn.{column}"])
            stream_features(scene.shard(point, shard), [table])
    more = scene.folder / "more"
    more.mkdir()
    settings = {"kind": "efficientnet-lite0", "size": 32, "probe_images": 10, "seed": 0}
    save_tensors(more / "net.safetensors", {}, {"settings": canonical(settings)})
    table = pq.read_table(scene.trained.net / "reference.parquet")
    names = [name.replace("cnn.", "more.") for name in table.column_names]
    pq.write_table(table.rename_columns(names), more / "reference.parquet")
    output = scene.folder / "two.json"
    nets = {"cnn": scene.trained.net, "more": more}
    evaluate(scene.spec, scene.trained.manifest, nets, scene.folder / "features", output)
    content = read_json(output)
    row = content["rows"][0]
    assert row["fd_more"] == row["fd_cnn"] and {"precision_more", "is_std"} <= row.keys()
    assert row["is_more"] == row["is_cnn"] == row["is_mean"] and "is_std_more" not in row
    resized = "bilinear with antialias, float32, 32×32"
    assert content["protocol"]["resize"] == {"cnn": "none", "more": resized}


def test_missing_seeds(scene: Scene) -> None:
    scene.write(scene.spec.points[1], 1, range(12, 19))
    with pytest.raises(UserError, match=r"step-000004.*: 19 images, expected the 20 seeds from 0"):
        scene.run()


def test_duplicate_seeds(scene: Scene) -> None:
    scene.write(scene.spec.points[2], 1, range(11, 19))
    with pytest.raises(UserError, match="20 images, expected the 20 seeds from 20; delete the"):
        scene.run()


def test_missing_shard(scene: Scene) -> None:
    scene.shard(scene.spec.points[0], 1).unlink()
    with pytest.raises(UserError, match="a feature shard is missing or damaged"):
        scene.run()


def test_shards_of_an_earlier_configuration_are_not_read(scene: Scene) -> None:
    """Three shards once, two now: the third file is still there and means nothing."""
    before = scene.run()
    for point in scene.spec.points:
        scene.write(point, 2, range(14, 20))
    assert scene.run() == before


# ------------------------------------------------------------------ real images


def floors_of(scene: Scene, **edit: Any) -> dict[str, Any]:
    spec = {
        "tier": "tiny",
        "models": ["edm2", "var"],
        "evaluation": scene.spec.evaluation.model_dump() | edit,
    }
    output = scene.folder / "floors.json"
    arguments = ["--spec", canonical(spec), "--manifest", scene.trained.manifest]
    arguments += ["--features", f"cnn={scene.trained.net}", "--output", output]
    CliRunner().invoke(cli, ["floors", *map(str, arguments)], catch_exceptions=False)
    found: dict[str, Any] = read_json(output)
    return found


def test_real_images_are_measured_as_generated_ones(scene: Scene) -> None:
    """The rows fit the others' columns; those of n_samples images share their protocol."""
    others, found = scene.run(), floors_of(scene)
    assert found["protocol"] == others["protocol"]
    rows = found["rows"]
    assert [(row["model"], row["n_samples"]) for row in rows] == [
        (model, n) for n in (10, 20, 40) for model in ("edm2", "var")
    ]
    assert rows[0].keys() == others["rows"][0].keys()
    same = [row["protocol"] == found["protocol"]["id"] for row in rows]
    assert same == [False, False, True, True, False, False]
    ids = {content["id"]: content["n_samples"] for content in found["other_protocols"]}
    assert ids == {rows[0]["protocol"]: 10, rows[4]["protocol"]: 40}
    row = rows[2]
    assert (row["method"], row["stage"], row["hyperparameters"]) == ("real", "grid", {"n": 20})
    assert {row[key] for key in ("run_id", "checkpoint")} == {""}
    assert (row["step"], row["seed"], row["guidance"], row["nfe"], row["dial"]) == (0, 0, 0, 0, 1)


def test_real_images_are_balanced_training_images(
    scene: Scene, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Features] = []
    library = Measure.columns

    def columns(self: Measure, generated: dict[str, Features]) -> dict[str, float]:
        seen.append(generated["cnn"])
        return library(self, generated)

    monkeypatch.setattr(Measure, "columns", columns)
    for labels in ("balanced", "random"):
        floors_of(scene, labels=labels)
    images, labels = load_images(scene.trained.prepared / "train.parquet", manifest)
    for features in seen:
        rows = features.seeds
        assert len(rows.unique()) == len(rows)
        assert torch.equal(features.labels, labels[rows])
        expected, _ = scene.nets["cnn"](images[rows])
        torch.testing.assert_close(features.features.float(), expected)
    counts = [features.labels.bincount(minlength=10).tolist() for features in seen]
    assert counts[:3] == [[n] * 10 for n in (1, 2, 4)]
    assert counts[4] != [2] * 10
    assert not torch.equal(seen[1].seeds.sort().values, seen[1].seeds)


def test_more_real_images_than_there_are(scene: Scene) -> None:
    found = floors_of(scene, n_samples=600)  # of 1,000
    assert [row["n_samples"] for row in found["rows"][::2]] == [300, 600]
    with pytest.raises(UserError, match=r"n_samples: 1001 images, but .* features of 1000;"):
        floors_of(scene, n_samples=1001)


# ------------------------------------------------------------------ the best checkpoint


def evaluation_of(folder: Path, rows: list[tuple[float, int, int, float]]) -> Path:
    """(lr, step, seed, FD), each with a checkpoint that holds these words."""
    content = []
    for lr, step, seed, fd in rows:
        checkpoint = folder / f"{lr}-{step}-{seed}.safetensors"
        checkpoint.write_text(checkpoint.name)
        content.append(
            {
                "method": "mclr",
                "hyperparameters": {"lr": lr, "batch": 8},
                "step": step,
                "seed": seed,
                "guidance": 0.0,
                "fd_cnn": fd,
                "checkpoint": str(checkpoint),
            }
        )
    write_json(folder / "evaluation.json", {"rows": content})
    return folder / "evaluation.json"


def best(folder: Path, rows: list[tuple[float, int, int, float]]) -> str:
    output = folder / "best" / "x.safetensors"
    copy_best(evaluation_of(folder, rows), "cnn", output)
    return output.read_text()


def test_best_is_by_mean_over_seeds(tmp_path: Path) -> None:
    """Step 10 has the single lowest FD, step 20 the lowest mean; of its seeds, the better one."""
    rows = [(0.1, 10, 0, 1.0), (0.1, 10, 1, 9.0), (0.1, 20, 0, 4.0), (0.1, 20, 1, 3.0)]
    assert best(tmp_path, rows) == "0.1-20-1.safetensors"


def test_best_tells_hyperparameters_apart(tmp_path: Path) -> None:
    rows = [(0.1, 10, 0, 5.0), (0.1, 10, 1, 5.0), (0.2, 10, 0, 2.0), (0.2, 10, 1, 6.0)]
    assert best(tmp_path, rows) == "0.2-10-0.safetensors"


def test_best_of_a_base_model_is_guided(tmp_path: Path) -> None:
    file = evaluation_of(tmp_path, [(0.1, 10, 0, 1.0), (0.1, 20, 0, 5.0)])
    content = read_json(file)
    for row, method, guidance in zip(content["rows"], ("base", "cfg"), (0.0, 0.5), strict=True):
        row |= {"method": method, "guidance": guidance}
    write_json(file, content)
    copy_best(file, "cnn", tmp_path / "best")
    assert (tmp_path / "best").read_text() == "0.1-20-0.safetensors"


def test_best_checkpoint_missing(tmp_path: Path) -> None:
    file = evaluation_of(tmp_path, [(0.1, 10, 0, 5.0)])
    (tmp_path / "0.1-10-0.safetensors").unlink()
    with pytest.raises(UserError, match=r"0\.1-10-0\.safetensors: checkpoint is missing"):
        copy_best(file, "cnn", tmp_path / "best")
    assert not (tmp_path / "best").exists()


# ------------------------------------------------------------------ all metrics


def test_gather(scene: Scene, tmp_path: Path) -> None:
    scene.run()
    for seed in (0, 1):
        provenance = tmp_path / "runs" / f"edm2-mclr-seed{seed}" / "provenance.json"
        write_json(provenance, {"git_commit": f"commit{seed}"})
    metrics, protocols = tmp_path / "metrics.parquet", tmp_path / "protocols.json"
    gather([tmp_path / "evaluation.json"], tmp_path / "runs", metrics, protocols)
    table = pd.read_parquet(metrics)
    assert set(table.columns) >= {
        "tier", "model", "method", "hyperparameters", "seed", "step", "guidance", "nfe",
        "n_samples", "protocol", "checkpoint", "run_id", "git_commit", "fd_cnn", "precision_cnn",
        "recall_cnn", "is_mean", "is_std",
    }  # fmt: skip
    assert "path" not in table.columns
    assert table["git_commit"].tolist() == ["commit0", "commit0", "commit1", "commit1"]
    assert set(table["hyperparameters"]) == {'{"K":4,"batch":8,"dsm":0.0,"lr":0.001}'}
    stored = read_json(protocols)
    assert stored.keys() == set(table["protocol"])
    assert all(content["id"] == name for name, content in stored.items())


def test_other_packages_are_told_with_the_row(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the sampling job, of this one and of training; nothing where all are the lock file's."""
    assert all("packages" not in row for row in scene.run()["rows"])

    path = scene.shard(scene.spec.points[0], 1)
    noted = "torch 2.13.0 (requirements.lock: 2.14.1)"
    stream_features(path, with_packages([pq.read_table(path)], noted))
    rows = scene.run()["rows"]
    assert [row.get("packages") for row in rows] == [noted, None, None, None]

    monkeypatch.setattr("mclr.jobs.evaluation.other_packages", lambda: "numpy 1")
    evaluated = scene.run()["rows"]
    assert [row["packages"] for row in evaluated] == [f"numpy 1; {noted}", *["numpy 1"] * 3]

    trained = {"seed-0": {"torch": "0.1"}, "seed-1": {}}
    for seed, packages in trained.items():
        made = {"git_commit": "abc", "packages": packages}
        write_json(
            tmp_path / "runs" / f"edm2-mclr-{seed.replace('-', '')}" / "provenance.json", made
        )
    gather([tmp_path / "evaluation.json"], tmp_path / "runs", tmp_path / "m", tmp_path / "p")
    lines = pd.read_parquet(tmp_path / "m")["packages"].tolist()
    assert lines[0].startswith(f"numpy 1; {noted}; torch 0.1 (requirements.lock: ")
    assert lines[2:] == ["numpy 1", "numpy 1"]


def test_samples_note_other_packages(tmp_path: Path) -> None:
    table = feature_table(
        {"cnn": (torch.ones(2, 3), torch.ones(2, 0))}, [0, 1], torch.tensor([0, 1])
    )
    stream_features(tmp_path / "same.parquet", with_packages([table], ""))
    stream_features(tmp_path / "plain.parquet", [table])
    assert sha256(tmp_path / "same.parquet") == sha256(tmp_path / "plain.parquet")
    stream_features(tmp_path / "other.parquet", with_packages([table], "torch 1"))
    paths = [tmp_path / name for name in ("same.parquet", "other.parquet")]
    assert packages_of(paths) == {"torch 1"}


def test_gather_without_provenance(scene: Scene, tmp_path: Path) -> None:
    scene.run()
    with pytest.raises(UserError, match=r"provenance\.json: file is missing"):
        gather([tmp_path / "evaluation.json"], tmp_path / "runs", tmp_path / "m", tmp_path / "p")
    assert not (tmp_path / "m").exists()

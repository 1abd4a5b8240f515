"""The job that measures: every point of an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mclr.data.load import load_manifest
from mclr.errors import UserError
from mclr.files import sha256, write_json
from mclr.metrics.features import Features, read_features


def evaluate(
    spec: dict[str, Any],
    manifest_file: Path,
    feature_nets: dict[str, Path],
    features: Path,
    output: Path,
) -> None:
    """FD, IS, precision and recall of every point of an experiment.

    Args:
        feature_nets: folder of each feature net (weights and reference features).
        features: folder that holds the points' feature shards.
    """
    from mclr.metrics.scores import inception_score, protocol, scores

    evaluation = spec["evaluation"]
    hashes = {name: sha256(folder / "net.safetensors") for name, folder in feature_nets.items()}
    manifest = load_manifest(manifest_file)
    shared = protocol(evaluation, hashes, manifest.hashes["reference"])
    real = {
        name: read_features([folder / "reference.parquet"], name)
        for name, folder in feature_nets.items()
    }
    rows = []
    for point in spec["points"]:
        folder = features / point["path"]
        shards = [folder / f"shard-{shard:03d}.parquet" for shard in range(spec["shards"])]
        row = {"tier": spec["tier"], **point, "n_samples": evaluation["n_samples"]}
        row["protocol"] = shared["id"]
        for name in feature_nets:
            generated = _complete(read_features(shards, name), evaluation["n_samples"], point)
            k, classes = evaluation["neighbourhood"], manifest.num_classes
            row |= scores(name, generated, real[name], k, classes)
            if name == evaluation["isc_features"]:
                mean, std = inception_score(generated.logits, evaluation["isc_splits"])
                row |= {"is_mean": mean, "is_std": std}
        rows.append(row)
    write_json(output, {"protocol": shared, "rows": rows})


def _complete(features: Features, n_samples: int, point: dict[str, Any]) -> Features:
    first = point["seed"] * n_samples
    if features.seeds.tolist() != list(range(first, first + n_samples)):
        raise UserError(
            f"features of {point['path']}: {len(features.seeds)} images, expected the "
            f"{n_samples} seeds from {first}; delete the folder and run `snakemake` again"
        )
    return features

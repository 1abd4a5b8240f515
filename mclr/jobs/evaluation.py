"""Jobs that measure: points of an experiment, its best checkpoint, all metrics of a tier."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from mclr.config import canonical
from mclr.data.load import load_manifest
from mclr.errors import UserError
from mclr.files import atomic, read_json, sha256, write_json
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
    reference_hash = load_manifest(manifest_file).hashes["reference"]
    shared = protocol(evaluation, hashes, reference_hash)
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
            row |= scores(name, generated, real[name], evaluation["neighbourhood"])
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


def copy_best(evaluation: Path, features: str, output: Path) -> None:
    """Copy the checkpoint of an experiment with the lowest FD.

    The step and hyperparameters are those of the lowest mean over seeds, as in Table 1; of their
    seeds, the one with the lowest FD.
    """
    rows = pd.DataFrame(read_json(evaluation)["rows"])
    rows = rows[rows["guidance"] == 0]
    fd = f"fd_{features}"
    group = rows["hyperparameters"].map(canonical) + rows["step"].astype(str)
    winners = rows[group == rows.groupby(group)[fd].mean().idxmin()]
    checkpoint = Path(winners.sort_values(fd)["checkpoint"].iloc[0])
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: checkpoint is missing; run `snakemake` to make it again")
    with atomic(output) as temporary:
        shutil.copyfile(checkpoint, temporary)


def gather(evaluations: list[Path], runs: Path, metrics: Path, protocols: Path) -> None:
    """Collect the rows of all experiments into ``metrics.parquet``."""
    contents = [read_json(path) for path in evaluations]
    rows = [row for content in contents for row in content["rows"]]
    for row in rows:
        row["hyperparameters"] = canonical(row["hyperparameters"])
        row["git_commit"] = read_json(runs / row["run_id"] / "provenance.json")["git_commit"]
    table = pd.DataFrame(rows).drop(columns="path")
    with atomic(metrics) as temporary:
        table.to_parquet(temporary, index=False)
    write_json(protocols, {c["protocol"]["id"]: c["protocol"] for c in contents})

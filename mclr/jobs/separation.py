"""The job that asks the frozen base model how distinct the classes of images are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from mclr.data.load import Manifest, load_images, load_labels, load_manifest, step_generator
from mclr.errors import UserError
from mclr.files import read_table, write_json
from mclr.jobs.labels import labels_of
from mclr.metrics.separation import contrast_labels, likelihood_ratios, pixel_statistics, summarise
from mclr.models.drawing import draw_images
from mclr.models.families import make_family
from mclr.models.family import Family, load_network
from mclr.planning.points import GRID
from mclr.planning.specs import SeparationSpec
from mclr.report.summary import table_rows

# Images of this job: no other purpose takes seeds from here on.
SEPARATION_SEED = 2**31 + 2**30


def separation(
    spec: SeparationSpec,
    data: Path,
    metrics: Path,
    base: Path,
    tuned: Path | None,
    tokenizer: Path | None,
    output: Path,
) -> None:
    """Write likelihood ratios and pixel statistics of real images and of several models'.

    Args:
        data: prepared data of the model's resolution.
        tuned: checkpoint that MCLR made; without it the base model and CFG alone are compared.
    """
    manifest = load_manifest(data / "manifest.json")
    family = make_family(spec, manifest, tokenizer)
    frozen = family.frozen(load_network(family, base))
    scales = _scales(read_table(metrics), spec.model, spec.features)
    seeds = [SEPARATION_SEED + i for i in range(spec.n_images)]
    labels = labels_of(seeds, "balanced", manifest.num_classes)
    sets = {"real": _real(data, manifest, labels)}
    for name, scale in {"base": 0.0, **scales}.items():
        sets[name] = _generate(family, frozen, base, seeds, labels, scale, spec.batch)
    if tuned:
        net = family.frozen(load_network(family, tuned))
        sets["mclr"] = _generate(family, net, tuned, seeds, labels, 0.0, spec.batch)
    found = {
        name: {"guidance": scales.get(name, 0.0)}
        | asdict(summarise(_ratios(family, frozen, images, labels, manifest.num_classes, spec)))
        | pixel_statistics(images)
        for name, images in sets.items()
    }
    about = spec.model_dump(include={"model", "n_images", "draws", "others"})
    write_json(output, about | {"images": found})


def _scales(metrics: pd.DataFrame, model: str, features: str) -> dict[str, float]:
    """The guidance scale of CFG in Table 1, and the highest that was tried."""
    rows = metrics[metrics["model"] == model]
    best = table_rows(rows, features, features, GRID).set_index("method")
    if "cfg" not in best.index:
        return {}
    highest = float(rows.loc[rows["method"] == "cfg", "guidance"].max())
    return {"cfg": float(best.loc["cfg", "guidance"]), "cfg-highest": highest}  # type: ignore[arg-type]


def _real(data: Path, manifest: Manifest, labels: Tensor) -> Tensor:
    """Held-out images with these labels: the first of each class."""
    classes = load_labels(data / "reference.parquet")
    chosen = torch.empty_like(labels)
    for c in labels.unique():
        wanted, rows = labels == c, (classes == c).nonzero().flatten()
        n = int(wanted.sum())
        if len(rows) < n:
            raise UserError(
                f"{data}/reference.parquet: {len(rows)} images of class {int(c)}, {n} are needed; "
                "ask for fewer images"
            )
        chosen[wanted] = rows[:n]
    return load_images(data / "reference.parquet", manifest, chosen)[0]


def _batches(n: int, size: int) -> Iterator[slice]:
    return (slice(i, min(i + size, n)) for i in range(0, n, size))


@torch.no_grad()
def _generate(
    family: Family,
    net: Any,
    weights: Path,
    seeds: list[int],
    labels: Tensor,
    scale: float,
    size: int,
) -> Tensor:
    parts = [
        draw_images(family, net, seeds[part], labels[part], scale).checked(weights).cpu()
        for part in _batches(len(seeds), size)
    ]
    return torch.cat(parts)


@torch.no_grad()
def _ratios(
    family: Family, net: Any, images: Tensor, labels: Tensor, classes: int, spec: SeparationSpec
) -> Tensor:
    """Ratios of all images; every set is measured with the same draws."""
    contrasts = contrast_labels(labels, classes, spec.others)
    parts = []
    for i, part in enumerate(_batches(len(images), spec.batch)):
        x = family.from_encoded(family.encode(images[part]), step_generator(i, 1, 7))
        generator = step_generator(i, 2, 7)
        parts.append(likelihood_ratios(family, net, x, contrasts[part], spec.draws, generator))
    return torch.cat(parts)

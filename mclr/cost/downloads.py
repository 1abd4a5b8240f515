"""Published files that a tier fetches, and their sizes: known, or estimated from parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mclr.cost.work import Workload
from mclr.data.raw import expected
from mclr.data.releases import FOLDER, released_row
from mclr.metrics.cost import dimensions, published_parameters
from mclr.planning.job import release
from mclr.settings.features import PublishedFeatures

CONFIG_BYTES = 1e3
"""Of a network's description in JSON."""


@dataclass(frozen=True)
class Download:
    """A published file; ``known``: data/versions.csv has its size, which is else an estimate."""

    file: str
    bytes: float
    known: bool


def source_bytes(source: str) -> int:
    """Bytes that fetching a source transfers, by data/versions.csv; 0 for what a package holds."""
    if source == "images":
        return 0
    row = expected(source)
    return 0 if row["url"].startswith("package:") else int(row["bytes"])


def released_downloads(load: Workload) -> list[Download]:
    """The files behind the jobs of a workload, in their order."""
    guesses = {file: size for name, size in _sizes(load).items() for file in release(name)}
    known = _known_sizes(load)
    found = []
    for file in load.subjects("fetch_released"):
        guess = CONFIG_BYTES if file.endswith(".json") else guesses[str(FOLDER / file)]
        found.append(Download(file, known.get(file, guess), file in known))
    return found


def _known_sizes(load: Workload) -> dict[str, float]:
    """Of files that are there, and of those whose size data/versions.csv has."""
    sizes = {}
    rows = [released_row(name) for name in _sizes(load)]
    for row in filter(None, rows):
        if row["bytes"]:
            sizes[row["file"]] = float(row["bytes"])
    for file in load.subjects("fetch_released"):
        if (FOLDER / file).is_file():
            sizes[file] = float((FOLDER / file).stat().st_size)
    return sizes


def _sizes(load: Workload) -> dict[str, float]:
    """Bytes of each release: parameters times the numbers they are stored in.

    EDM2 publishes float16, the others float32; statistics are a mean and a covariance in float64
    by each of the feature nets.
    """
    plan, found = load.plan, dict[str, float]()
    for name, model in plan.tier.models.items():
        files, item = model.releases, load.networks[name].release_bytes
        sizes = {
            "base": item * load.networks[name].parameters,
            "guide": item * load.guides[name].parameters if name in load.guides else 0,
            "tokenizer": 4 * load.networks[name].coder.parameters if "tokenizer" in files else 0,
        }
        found |= {part.released: float(sizes[role]) for role, part in files.items()}
        tuned = [run.released for run in plan.tier.released.values() if run.model == name]
        found |= dict.fromkeys(tuned, float(item * load.networks[name].parameters))
    nets = plan.tier.features
    moments = {name: 8.0 * (dimensions(net) ** 2 + dimensions(net)) for name, net in nets.items()}
    statistics: dict[str, set[str]] = {}
    for folder, (name, _) in plan.nets.items():
        net = nets[name]
        if isinstance(net, PublishedFeatures):
            found[net.released] = 4.0 * published_parameters(net)
            if released := load.dag.statistics_of(folder):
                statistics.setdefault(released, set()).add(name)
    return found | {
        released: math.fsum(moments[name] for name in names)
        for released, names in statistics.items()
    }

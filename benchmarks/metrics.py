"""FD, precision and recall beside torch-fidelity, and beside the matrix products they need.

`python benchmarks/metrics.py` prints one JSON object, per measure and variant: the median over
rounds of its seconds of CPU and of wall time, how many times the CPU time of "first" and of
"later" it takes (medians of the rounds' ratios), and by how many MB the process grew at most while
it ran (Linux). The variants take turns in one process:

    first      the first point of an evaluation: what depends on real images alone included
    later      every other point
    products   of precision and recall: real by real, made by made, real by made images in float32,
               all pairs, block by block, by the fastest operation there is here
    float32    torch-fidelity on features in float32, as it takes them from its nets
    float64    torch-fidelity on features in float64: the counts and the FD that ours are

`--variants first products` leaves out torch-fidelity, which keeps matrices of all distances.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from speed import resident
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from mclr.device import set_up
from mclr.metrics.bounds import as_written, product
from mclr.metrics.neighbours import COLUMNS, ROWS
from mclr.metrics.reference import Reference

K = 3
Runs = dict[str, Callable[[], Any]]
Costs = dict[str, dict[str, float]]


def pairs(made: Tensor, real: Tensor) -> None:
    """The float32 products of precision and recall, none of which is kept."""
    with as_written(made.device):
        for a, b in ((real, real), (made, made), (real, made)):
            for rows in a.split(ROWS):
                for columns in b.split(COLUMNS):
                    product(rows, columns)


def library_counts(made: Tensor, real: Tensor) -> None:
    """Precision and recall by torch-fidelity."""
    prc_features_to_metric(
        made, real, prc_neighborhood=K, prc_batch_size=10_000, save_cpu_ram=False, verbose=False
    )


def library_distance(made: Tensor, real: Tensor) -> None:
    """FD by torch-fidelity."""
    fid_statistics_to_metric(*map(fid_features_to_statistics, (made, real)), verbose=False)


def measures(made: Tensor, real: Tensor) -> dict[str, Runs]:
    """Per measure, its variants in the order in which they run."""
    return {
        "precision_recall": variants(Reference.precision_recall, library_counts, made, real)
        | {"products": partial(pairs, made, real)},
        "frechet_distance": variants(Reference.frechet_distance, library_distance, made, real),
    }


def variants(
    ours: Callable[[Reference, Tensor], Any],
    library: Callable[[Tensor, Tensor], None],
    made: Tensor,
    real: Tensor,
) -> Runs:
    """Those of one measure."""
    references: list[Reference] = []

    def first() -> None:
        references[:] = [Reference(real, K)]
        later()

    def later() -> None:
        ours(references[0], made)

    def float64() -> None:
        library(made.double(), real.double())

    return {"first": first, "later": later, "float32": partial(library, made, real),
            "float64": float64}  # fmt: skip


def costs(run: Callable[[], Any]) -> dict[str, float]:
    """CPU and wall time in seconds, and growth in MB."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before, cpu, wall = resident("VmRSS"), time.process_time(), time.perf_counter()
    run()
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "megabytes": (resident("VmHWM") - before) / 1024,
    }


def summary(rounds: list[Costs]) -> Costs:
    """Medians over rounds of every variant's costs, and its CPU time as ratios to ours."""
    found = {}
    for variant, own in rounds[0].items():
        found[variant] = {
            key: round(statistics.median(r[variant][key] for r in rounds), 3) for key in own
        }
        found[variant]["megabytes"] = round(max(r[variant]["megabytes"] for r in rounds))
        for ours in {"first", "later"} & set(rounds[0]):
            ratios = [r[variant]["cpu_s"] / r[ours]["cpu_s"] for r in rounds]
            found[variant][f"times_{ours}"] = round(statistics.median(ratios), 2)
    return found


def both(measured: dict[str, Costs]) -> Costs:
    """The costs of all measures, added; the larger of their memories."""
    return {
        variant: {
            key: sum(m[variant][key] for m in measured.values()) for key in ("cpu_s", "wall_s")
        }
        | {"megabytes": max(m[variant]["megabytes"] for m in measured.values())}
        for variant in ("first", "later", "float32", "float64")
        if all(variant in m for m in measured.values())
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4000, help="of either kind")
    parser.add_argument("--dimensions", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measures", nargs="*", help="default: all")
    parser.add_argument("--variants", nargs="*", help="default: all")
    options = parser.parse_args()
    set_up(options.threads, "cpu")
    generator = torch.Generator().manual_seed(0)
    made, real = torch.randn(2, options.images, options.dimensions, generator=generator)
    runs = measures(made, real)
    for name in set(runs) - set(options.measures or runs):
        del runs[name]
    rounds: list[dict[str, Costs]] = []
    for _ in range(options.rounds):
        measured = {
            name: {v: costs(run) for v, run in own.items() if v in (options.variants or own)}
            for name, own in runs.items()
        }
        rounds.append(measured | {"both": both(measured)})
    found = {name: summary([r[name] for r in rounds]) for name in rounds[0]}
    print(json.dumps(vars(options) | {"torch": torch.__version__, "found": found}, indent=2))


if __name__ == "__main__":
    main()

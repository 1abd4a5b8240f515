"""Speed and memory of the library beside plain code of the same maths.

`python benchmarks/speed.py` prints a table, or with `--json` the measurements: images per second
in the best round, and how many times faster than the first variant that is (plain code, or of
`steps` the step of base training), from the best rounds and as the median over rounds. One thread,
one process, CPU time where there is no GPU; the variants take turns, so that a busy machine slows
all of them alike, and only ratios mean anything beyond one run. Memory is by how much a process of
its own grows in three runs of a case.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import torch  # noqa: E402
from speed_cases import Case, all_cases  # noqa: E402

from mclr.device import set_up  # noqa: E402

Measured = dict[str, dict[str, float]]


def measure(case: Case, rounds: int) -> Measured:
    """Per variant: images per second, and ratios of the first variant's time to its own."""
    runs = {name: build() for name, build in case.builders.items()}
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(timed(run))
    first = next(iter(seconds.values()))
    return {
        name: {
            "images_per_second": case.count / min(own),
            "ratio": min(first) / min(own),
            "median_ratio": statistics.median(p / o for p, o in zip(first, own, strict=True)),
        }
        for name, own in seconds.items()
    }


def timed(run: Callable[[], Any]) -> float:
    """Seconds of one run: of this process's one thread, or until a GPU has finished it."""
    clock = time.perf_counter if torch.cuda.is_initialized() else time.process_time
    start = clock()
    run()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return clock() - start


def growth(case: Case, variant: str) -> float:
    """MB by which the peak memory of three runs exceeds this process before them (Linux)."""
    run = case.builders[variant]()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = resident("VmRSS")
    for _ in range(3):
        run()
    return (resident("VmHWM") - before) / 1024


def resident(name: str) -> int:
    """A line of /proc/self/status, kB. Unlike ru_maxrss it does not inherit the parent's peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def growth_elsewhere(options: argparse.Namespace, case: str, variant: str) -> float:
    """``growth`` in a process of its own."""
    command = [sys.executable, __file__, "--size", options.size, "--batch", str(options.batch)]
    command += ["--memory-of", f"{case}|{variant}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(found: dict[str, Measured]) -> str:
    """One line per case and variant: images/s, ratios and memory."""
    lines = [f"{'case':18} {'variant':13} {'images/s':>9} {'ratio':>6} {'median':>6} {'MB':>6}"]
    for case, variants in found.items():
        for name, m in variants.items():
            memory = f"{m['megabytes']:6.0f}" if "megabytes" in m else f"{'–':>6}"
            lines.append(
                f"{case:18} {name:13} {m['images_per_second']:9.1f} {m['ratio']:6.2f} "
                f"{m['median_ratio']:6.2f} {memory}"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["digits", "fashion"], default="fashion")
    parser.add_argument("--batch", type=int, default=64, help="samples of a training step")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", nargs="*", help="names, or parts of names; default: all")
    parser.add_argument("--memory", action="store_true", help="also measure memory")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = all_cases(options.size, options.batch, set_up(1, options.device))
    if options.memory_of:
        case, variant = options.memory_of.split("|")
        print(growth(cases[case], variant))
        return
    found: dict[str, Measured] = {}
    for name, case in cases.items():
        if options.cases is None or any(part in name for part in options.cases):
            found[name] = measure(case, options.rounds)
            for variant in found[name] if options.memory else ():
                found[name][variant]["megabytes"] = growth_elsewhere(options, name, variant)
    facts = {"size": options.size, "batch": options.batch, "torch": torch.__version__}
    facts["cpu_bfloat16"] = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    print(json.dumps(facts | {"cases": found}, indent=2) if options.json else table(found))


if __name__ == "__main__":
    main()

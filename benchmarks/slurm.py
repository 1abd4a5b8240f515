"""The digits tier on Slurm against the same tier without it: `benchmarks/slurm.py [WAY ...]`.

Needs root on Debian: it brings up the two virtual nodes of `workflow/cluster/start` on this machine
and stops them if they were down. Runs `snakemake all`, from raw data to report, in clones

    local      --cores 2
    slurm      --profile slurm, one job a node at a time
    grouped    the same, eight samples to a Slurm job

and prints one JSON object for each: seconds of wall time, jobs in Slurm, and of those jobs the
seconds that Slurm counted (start to end) and the seconds in their commands (Snakemake's
benchmarks); the share that is neither is what a job costs. The environment must exist (`make env`).
It takes half an hour on a quiet machine of 2 cores.
"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from timings import ROOT, clone, seconds

CLUSTER = ROOT / "workflow" / "cluster"
# A node has 8,000 MB, so that it takes one job at a time and two run on the two cores. Eight
# samples together ask for 80 minutes, of the 120 that the partition allows.
SITE = "{account: ml, partition: cpu, " + ", ".join(
    f"{name}: {{memory_mb: 7000, max_memory_mb: 7000, minutes: 10}}"
    for name in ("train", "sample", "evaluate")
)
WAYS = {
    "local": "snakemake --cores 2 all",
    "slurm": "snakemake --profile slurm all",
    "grouped": "snakemake --profile slurm --groups sample=samples"
    " --group-components samples=8 -- all",
}


def in_commands(folder: Path) -> float:
    """Seconds of the commands that Slurm starts, by their benchmarks."""
    # Those of the small rules, which stay beside Snakemake, lie at the top.
    paths = (folder / "results" / "digits" / "benchmarks").glob("*/**/*.tsv")
    return sum(float(next(csv.DictReader(path.open(), delimiter="\t"))["s"]) for path in paths)


def in_slurm(folder: Path) -> list[int]:
    """Seconds from start to end of every Slurm job that ran in a folder."""
    fields = ("--format", "ElapsedRaw,WorkDir%200", "--starttime", "now-1days")
    listed = subprocess.run(
        ("sacct", "-XnP", *fields), check=True, capture_output=True, text=True
    ).stdout
    rows = [line.split("|") for line in listed.splitlines()]
    return [int(elapsed) for elapsed, work_dir in rows if Path(work_dir) == folder.resolve()]


def measure(way: str, folder: Path) -> dict[str, float]:
    """Run everything in a clone, one way."""
    (folder / "config" / "site.yaml").write_text(SITE + "}\n")
    cost: dict[str, float] = {"wall_s": seconds(WAYS[way], folder)}
    cost["in_commands_s"] = round(in_commands(folder), 1)
    if way != "local":
        elapsed = in_slurm(folder)
        cost |= {"slurm_jobs": len(elapsed), "in_slurm_s": sum(elapsed)}
    return cost


def main() -> None:
    """Measure and print."""
    was_up = subprocess.run(("squeue", "-h"), capture_output=True).returncode == 0
    subprocess.run((CLUSTER / "start",), check=True, capture_output=True)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for way in sys.argv[1:] or WAYS:
                cost = measure(way, clone(Path(scratch, way)))
                print(json.dumps({way: cost}), flush=True)
    finally:
        if not was_up:
            subprocess.run((CLUSTER / "stop", "--purge"), check=True, capture_output=True)


if __name__ == "__main__":
    main()

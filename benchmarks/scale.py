"""Cost of the workflow itself against the number of jobs: `python benchmarks/scale.py [L ...]`.

The real rules, on every tier of `config/` and on synthetic tiers whose jobs only create their
output files: 8 objectives × L learning rates × 5 seeds × 10 checkpoints, which is about 440 jobs
for each L (default: 1, 5 and 9). Prints one JSON object at the end, and each of its figures on
standard error as soon as it is there: for each tier seconds of wall time, of CPU time and peak
memory in MB of `snakemake` for

    one file    a dry run for one file: reading the rules, which every job on a cluster does too
    plan        a dry run for everything: the DAG is built and printed
    run         everything is run on all cores (synthetic tiers)
    no-op       everything again: there is nothing to do (synthetic tiers)

The environment must exist (`make env`). Compare only figures of one run.
"""

import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from timings import ROOT, clone

# The command of a rule: strings on lines of their own, below "shell:".
SHELL = re.compile(r"^( *)shell:\n(?: *\".*\"\n)+", re.MULTILINE)

# Where the imagenet tier finds a file to plan for; it is empty.
IMAGENET = "ILSVRC2012_img_train.tar"


def make_trivial(folder: Path) -> None:
    """Let every job of a clone create its files and do nothing else."""
    for rules in (folder / "workflow" / "rules").glob("*.smk"):
        trivial = r'\1shell:\n\1    "touch {output:q}"\n'
        rules.write_text(SHELL.sub(trivial, rules.read_text()))


def synthetic(learning_rates: int) -> dict[str, Any]:
    """The digits tier with a sweep in every experiment."""
    tier: dict[str, Any] = yaml.safe_load((ROOT / "config" / "digits.yaml").read_text())
    tier["tier"] = f"sweep{learning_rates}"
    tier["seeds"] = list(range(5))
    for run in tier["runs"].values():
        run["checkpoints"] = [10 * (i + 1) for i in range(10)]
        run["sweep"] = {"lr": [1e-4 * (i + 1) for i in range(learning_rates)]}
    return tier


def snakemake(folder: Path, config: str, *arguments: str) -> tuple[dict[str, float], str]:
    """Run Snakemake to its end: what it cost, and what it said."""
    tools = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    environment["IMAGENET"] = str(folder / IMAGENET)
    fixed = ("--configfile", config, "--cores", str(os.cpu_count()), "--quiet", "rules")
    words = ("snakemake", *fixed, *arguments)
    said = folder / "said.txt"
    start = time.monotonic()
    process = os.fork()
    if not process:
        os.chdir(folder)
        stream = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        os.execvpe(words[0], words, environment)
    _, status, usage = os.wait4(process, 0)
    if status:
        sys.exit(f"{' '.join(words)} failed:\n{said.read_text()[-3000:]}")
    cost = {
        "wall_s": round(time.monotonic() - start, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "memory_mb": round(usage.ru_maxrss / 1024),
    }
    return cost, said.read_text()


def number_of_jobs(output: str) -> int:
    """The total of the table of jobs that Snakemake prints."""
    totals = [line.split()[1] for line in output.splitlines() if line.startswith("total ")]
    return int(totals[0]) if totals else 0


def tell(name: str, step: str, cost: dict[str, float]) -> None:
    """One line on standard error, at once."""
    figures = ", ".join(f"{key} {value:g}" for key, value in cost.items())
    print(f"{name}: {step}: {figures}", file=sys.stderr, flush=True)


def measure(folder: Path, config: str, name: str, run: bool) -> dict[str, Any]:
    """All the costs of one tier."""
    found: dict[str, Any] = {}

    def cost(step: str, *arguments: str) -> str:
        found[step], output = snakemake(folder, config, *arguments)
        tell(name, step, found[step])
        return output

    cost("one file", "--dry-run", f"results/{name}/config.yaml")
    found["jobs"] = number_of_jobs(cost("plan", "--dry-run", "all"))
    if run:
        cost("run", "all")
        output = cost("no-op", "all")
        assert number_of_jobs(output) == 0, output
        seconds = found["run"]["wall_s"] - found["no-op"]["wall_s"]
        found["jobs per second"] = round(found["jobs"] / seconds, 1)
    return found


def main() -> None:
    """Measure and print."""
    sizes = [int(word) for word in sys.argv[1:]] or [1, 5, 9]
    results: dict[str, Any] = {"cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = clone(Path(scratch, "mclr"))
        make_trivial(folder)
        (folder / IMAGENET).touch()
        for path in sorted((folder / "config").glob("*.yaml")):
            name = yaml.safe_load(path.read_text()).get("tier")
            if name is None:  # an example of a site file
                continue
            results[name] = measure(folder, str(path), name, run=False)
        for size in sizes:
            tier = synthetic(size)
            path = folder / f"{tier['tier']}.yaml"
            path.write_text(yaml.safe_dump(tier, sort_keys=False))
            results[tier["tier"]] = measure(folder, str(path), tier["tier"], run=True)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

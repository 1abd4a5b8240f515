"""Copies of this checkout to run the real Snakefile in, on a tier of a few seconds per job."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MICRO = "tests/workflow/micro.yaml"
STAGES = "tests/workflow/stages.yaml"


class Checkout:
    """A working directory of its own, with the tools of the environment that runs the tests."""

    def __init__(self, folder: Path, config: str = MICRO) -> None:
        self.folder = folder
        self.config = config
        self.results = folder / "results" / Path(config).stem
        self.environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PYTHONPATH", "MLFLOW", "SNAKEMAKE", "MAKE", "MFLAGS"))
        }
        tools = Path(sys.executable).parent
        self.environment["PATH"] = f"{tools}{os.pathsep}{self.environment['PATH']}"

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command here; output and errors together in ``stdout``."""
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        if check and result.returncode:
            raise AssertionError(f"{command} gave {result.returncode}:\n{result.stdout[-4000:]}")
        return result

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Plain snakemake on the checkout's tier."""
        fixed = ("snakemake", "--configfile", self.config, "--cores", "2")
        return self.run(*fixed, *arguments, check=check)

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs that a dry run would do: count by rule name."""
        out = self.snakemake("--dry-run", "--quiet", "rules", *arguments).stdout
        return count_jobs(out)

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text that must occur in a file of the checkout."""
        text = (self.folder / path).read_text()
        assert old in text, f"{path} does not contain {old!r}"
        (self.folder / path).write_text(text.replace(old, new, 1))


def count_jobs(output: str) -> dict[str, int]:
    """The job table that Snakemake prints before it runs or pretends to."""
    rows = [line.split() for line in output.splitlines()]
    counts = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
    return {name: count for name, count in counts.items() if name not in {"total", "all"}}


def by_rule(planned: dict[str, int]) -> Counter[str]:
    """The same, with the rules that are made for one network or run under their common name."""
    found: Counter[str] = Counter()
    for rule, count in planned.items():
        made = re.match("((import_)?(base|guide)|import_tuned|finetune)_(?!final$)", rule)
        found[made[1] if made else rule] += count
    return found


def follow(checkout: Checkout, page: str, *, skip: str = "") -> dict[str, str]:
    """Run the bash blocks of a page, in order, but for commands that equal ``skip``.

    What each command printed, by command.
    """
    checkout.environment["PYTHONPATH"] = str(checkout.folder)
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    commands = [line for line in "".join(blocks).splitlines() if line != skip]
    return {command: checkout.run("bash", "-c", command).stdout for command in commands}


def copy_tree(target: Path, config: str = MICRO) -> Checkout:
    """Copy every file that git knows or would add."""
    listed = subprocess.run(
        ("git", "ls-files", "-co", "--exclude-standard", "-z"),
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, listed):
        source = ROOT / name
        if name.startswith("data/store/") or not os.path.lexists(source):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target / name, follow_symlinks=False)
    return Checkout(target, config)

"""A checkout that runs a small tier on Slurm, and questions to ask of it and of Slurm."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from checkout import MICRO, ROOT, Checkout, copy_tree

from mclr.events import read_events
from mclr.operations.slurm import ask, jobs_of

CLUSTER = ROOT / "workflow" / "cluster"
# The pauses of the profile are those of jobs of hours; here jobs take seconds.
QUICK = (
    *("--slurm-init-seconds-before-status-checks", "2", "--max-status-checks-per-second", "1"),
    *("--jobs", "4", "--latency-wait", "20"),
)
COMMAND = ("snakemake", "--profile", "slurm", "--configfile", MICRO, *QUICK)
BASE = "results/micro/runs/edm2-base/config.yaml"
SITE = {"account": "ml", "partition": "cpu"}
SMALL = {"memory_mb": 1500, "minutes": 10}


class SlurmCheckout(Checkout):
    """A checkout with a site file for the virtual cluster."""

    process: subprocess.Popen[str] | None = None

    def start(self, target: str, *options: str) -> None:
        """Begin `snakemake --profile slurm` in the background; its output goes to output.txt."""
        with (self.folder / "output.txt").open("a") as output:
            self.process = subprocess.Popen(
                [*COMMAND, *options, "--", target],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                text=True,
            )

    def finish(self, seconds: float = 900) -> str:
        """Wait for a Snakemake that must succeed; everything it printed."""
        assert self.process is not None
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = -1
        assert status == 0, f"{status}\n{self.output[-5000:]}"
        return self.output

    @property
    def output(self) -> str:
        return (self.folder / "output.txt").read_text()

    @property
    def events(self) -> list[str]:
        """Names of the events of the base run, so far."""
        path = self.results / "runs" / "edm2-base" / "events.jsonl"
        return [event["event"] for event in read_events(path)]

    @property
    def trains(self) -> bool:
        """Whether the base run has made some steps, and has state to resume from."""
        state = self.results / "state" / "edm2-base" / "state.safetensors"
        return "train" in self.events and state.exists()

    def jobs(self) -> list[str]:
        """Slurm's ids of the jobs of this checkout that wait or run."""
        return jobs_of(self.folder)

    def base_jobs(self) -> list[dict[str, str]]:
        """Slurm's record of every job that trained the base model, in order of submission."""
        fields = ("JobIDRaw", "State", "Start", "End", "NNodes")
        listed = ask("sacct", "-XnP", f"--name={self._run_ids()}", f"--format={','.join(fields)}")
        rows = [line.split("|") for line in listed.splitlines()]
        logs = f"{self.folder}/.snakemake/slurm_logs/rule_base_edm2/"
        return [
            dict(zip(fields, row, strict=True))
            for row in rows
            if f"{logs}{row[0]}.log" in self.output
        ]

    def _run_ids(self) -> str:
        """Job names of all runs of Snakemake here, as it prints them."""
        lines = self.output.splitlines()
        return ",".join(line.split()[-1] for line in lines if line.startswith("SLURM run ID:"))

    def training_processes(self) -> list[int]:
        """Process ids of the base job's Python processes here, one per rank."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                here = (entry / "cwd").resolve() == self.folder.resolve()
                if here and b" -m mclr " in command and b" base " in command:
                    found.append(int(entry.name))
        return found

    def end(self) -> None:
        """Leave no process and no job behind."""
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if jobs := self.jobs():
            ask("scancel", *jobs)
            wait_for(lambda: not self.jobs(), 60)


def wait_for(condition: Callable[[], object], seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)


def slurm_checkout(folder: Path, steps: int, warning: int, train: dict[str, int]) -> SlurmCheckout:
    """A checkout of one model and one fine-tuning run; the base model trains for ``steps``."""
    checkout = SlurmCheckout(copy_tree(folder).folder)
    tier = yaml.safe_load((folder / MICRO).read_text())
    tier["models"] = {"edm2": tier["models"]["edm2"] | {"guidance": [0.5]}}
    tier["models"]["edm2"]["base"]["steps"] = steps
    tier["runs"] = {"edm2-mclr": tier["runs"]["edm2-mclr"] | {"checkpoints": [2]}}
    tier["evaluation"]["shards"] = 1
    (folder / MICRO).write_text(yaml.safe_dump(tier))
    classes = {
        "warning_seconds": warning,
        "train": SMALL | train,
        "sample": SMALL,
        "evaluate": SMALL,
    }
    (folder / "config" / "site.yaml").write_text(yaml.safe_dump(SITE | classes))
    checkout.edit("mclr/training/loop.py", "STATE_SECONDS = 60.0", "STATE_SECONDS = 0.5")
    checkout.environment.pop("MCLR_SITE", None)
    return checkout

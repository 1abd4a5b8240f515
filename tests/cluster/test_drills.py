"""Faults that take minutes; docs/faults.md records how they went."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from slurm_checkout import BASE, CLUSTER, SlurmCheckout, wait_for

from mclr.operations.slurm import ask

pytestmark = pytest.mark.drill
Make = Callable[..., SlurmCheckout]


@pytest.fixture(autouse=True)
def _healthy(cluster: Path) -> Iterator[None]:
    """Nodes that a drill took down come back."""
    yield
    subprocess.run([CLUSTER / "start"], check=True, capture_output=True)


def report(checkout: SlurmCheckout, begun: float) -> list[str]:
    """States of the base jobs, printed with the events for docs/faults.md."""
    states = [job["State"].split()[0] for job in checkout.base_jobs()]
    resumes = checkout.events.count("resume")
    print(f"\n{states}, {resumes} resumes, {time.monotonic() - begun:.0f} s")
    return states


@pytest.mark.parametrize(("minutes", "warning"), [(1, 0), (2, 40)])
def test_time_limit(minutes: int, warning: int, on_slurm: Make) -> None:
    """Too short; the second attempt has twice the time. Slurm asks at the limit, or before it."""
    checkout = on_slurm(100_000, warning, minutes=minutes)
    rate = "STATE_SECONDS = 0.5"
    checkout.edit("mclr/training/loop.py", rate, "STATE_SECONDS = 3600.0")
    checkout.start(BASE)
    begun = time.monotonic()
    state = checkout.results / "state" / "edm2-base" / "state.safetensors"
    wait_for(state.exists, 240)  # written because Slurm asked the job to end, and not before
    wait_for(lambda: "resume" in checkout.events, 120)
    checkout.end()
    log = checkout.folder / "results" / "micro" / "logs" / "base" / "edm2.log"
    assert report(checkout, begun)[0] in {"TIMEOUT", "FAILED"}, log.read_text()


def test_power_cut_of_a_node(on_slurm: Make) -> None:
    checkout = on_slurm(400)
    checkout.start(BASE)
    wait_for(lambda: checkout.trains)
    begun = time.monotonic()
    node = ask("squeue", "-h", "-o", "%N", "-j", checkout.jobs()[0]).strip()
    subprocess.run([CLUSTER / "crash-node", node], check=True)
    checkout.finish(400)
    assert report(checkout, begun) == ["NODE_FAIL", "COMPLETED"]
    assert checkout.events.count("resume") == 1


def test_slurmd_killed_and_its_job_goes_on(on_slurm: Make, cluster: Path) -> None:
    """Slurm gives the node up and starts the job elsewhere; the first copy still trains."""
    checkout = on_slurm(4000)
    checkout.start(BASE)
    wait_for(lambda: checkout.trains)
    begun = time.monotonic()
    (orphan,) = checkout.training_processes()
    node = ask("squeue", "-h", "-o", "%N", "-j", checkout.jobs()[0]).strip()
    os.kill(int((cluster / "run" / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)
    wait_for(lambda: len(checkout.training_processes()) == 2, 240)
    starts = checkout.events.count("start") + checkout.events.count("resume")
    time.sleep(5)
    assert starts == 1, "the second copy wrote beside the first"
    os.kill(orphan, signal.SIGKILL)
    wait_for(lambda: "resume" in checkout.events, 60)
    checkout.end()
    assert report(checkout, begun)[0] == "NODE_FAIL"


def test_slurmctld_away_for_a_minute(on_slurm: Make, cluster: Path) -> None:
    checkout = on_slurm(300)
    checkout.start(BASE)
    wait_for(lambda: checkout.trains)
    begun = time.monotonic()
    os.kill(int((cluster / "run" / "slurmctld.pid").read_text()), signal.SIGKILL)
    time.sleep(70)
    subprocess.run(["slurmctld"], check=True)
    checkout.finish(400)
    assert report(checkout, begun) == ["COMPLETED"]


def test_snakemake_killed_twice_and_run_to_the_end(on_slurm: Make) -> None:
    """All of the tier: no job that had finished runs again."""
    checkout = on_slurm(200)
    begun = time.monotonic()
    for rule in ("base_edm2", "finetune_edm2_mclr_seed0"):
        checkout.start("all")
        wait_for(lambda rule=rule: f"rule {rule}:" in checkout.output.split("SNAKEMAKE")[-1])
        wait_for(checkout.jobs)
        assert checkout.process is not None
        os.killpg(checkout.process.pid, signal.SIGKILL)
        checkout.process.wait()
    checkout.start("all")
    checkout.finish()
    finished = [line for line in checkout.output.splitlines() if line.startswith("Finished jobid")]
    names = [line.partition("Rule: ")[2].rstrip(")") for line in finished]
    for name in ("fetch", "prepare", "base_edm2", "finetune_edm2_mclr_seed0"):
        assert names.count(name) == 1, names
    print(f"\n{len(finished)} jobs finished, {time.monotonic() - begun:.0f} s")


def test_disk_full(on_slurm: Make, tmp_path: Path) -> None:
    """State on a disk of one megabyte: a plain message, nothing half-written, then room."""
    checkout = on_slurm(60)
    begun = time.monotonic()
    disk = checkout.results / "state"
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    try:
        checkout.start(BASE, "--retries", "0")
        wait_for(lambda: checkout.process and checkout.process.poll() is not None, 200)
        assert checkout.process and checkout.process.returncode != 0
        log = (checkout.results / "logs" / "base" / "edm2.log").read_text()
        assert "state.safetensors: cannot be written: " in log
        assert "No space left on device" in log and "nothing was left half-written" in log
        assert not list(disk.rglob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        checkout.start(BASE)
        checkout.finish()
    finally:
        checkout.end()
        subprocess.run(["umount", "-l", disk], check=True)
    report(checkout, begun)


def test_memory_limit_of_slurm(on_slurm: Make) -> None:
    """A job that Slurm kills for its memory runs again with twice as much."""
    checkout = on_slurm(60, memory_mb=350)
    begun = time.monotonic()
    checkout.start(BASE)
    checkout.finish(400)
    assert report(checkout, begun)[-1] == "COMPLETED"
    site = yaml.safe_load((checkout.folder / "config" / "site.yaml").read_text())
    assert site["train"]["memory_mb"] == 350

"""`snakemake --profile slurm all` on two nodes, and what it survives."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from checkout import MICRO
from slurm_checkout import BASE, SlurmCheckout, wait_for

Make = Callable[..., SlurmCheckout]


def one_after_the_other(checkout: SlurmCheckout) -> None:
    """No two jobs trained the base model at the same time."""
    jobs = checkout.base_jobs()
    for earlier, later in pairwise(jobs):
        assert earlier["End"] <= later["Start"], jobs


def test_all_on_two_nodes_with_a_training_process_killed(on_slurm: Make) -> None:
    checkout = on_slurm(200, nodes=2)
    checkout.start("all")
    wait_for(lambda: checkout.trains)
    ranks = checkout.training_processes()
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    checkout.finish()
    jobs = checkout.base_jobs()
    assert [(job["State"], job["NNodes"]) for job in jobs] == [("FAILED", "2"), ("COMPLETED", "2")]
    one_after_the_other(checkout)
    assert checkout.events[0] == "start" and checkout.events[-1] == "end"
    assert checkout.events.count("resume") == 1
    for name in ("table1.csv", "report.html", "tracking.json", "best/edm2-mclr.safetensors"):
        assert (checkout.results / name).stat().st_size > 0
    again = checkout.run("snakemake", "--profile", "slurm", "--configfile", MICRO, "--", "all")
    assert "Nothing to be done" in again.stdout


def test_snakemake_killed_and_run_again(on_slurm: Make) -> None:
    checkout = on_slurm(400)
    checkout.start(BASE)
    wait_for(lambda: checkout.trains)
    first = checkout.jobs()
    assert len(first) == 1
    assert checkout.process is not None
    os.killpg(checkout.process.pid, signal.SIGKILL)
    checkout.process.wait()
    assert checkout.jobs() == first
    before = len(checkout.output)
    checkout.start(BASE)
    second = checkout.finish()[before:]
    assert f"cancelling Slurm jobs of an earlier run in this directory: {first[0]}" in second
    assert "rule prepare" not in second
    assert checkout.events.count("start") == checkout.events.count("resume") == 1
    assert len(checkout.base_jobs()) == 2
    one_after_the_other(checkout)


def test_cancelled_from_outside_and_slurmctld_restarted(on_slurm: Make, cluster: Path) -> None:
    checkout = on_slurm(400)
    checkout.start(BASE)
    wait_for(lambda: checkout.trains)
    (job,) = checkout.jobs()
    subprocess.run(["scancel", job], check=True)
    wait_for(lambda: "resume" in checkout.events)
    controller = int((cluster / "run" / "slurmctld.pid").read_text())
    os.kill(controller, signal.SIGKILL)
    time.sleep(5)
    subprocess.run(["slurmctld"], check=True)
    checkout.finish()
    states = [job["State"].split()[0] for job in checkout.base_jobs()]
    assert states == ["CANCELLED", "COMPLETED"]
    one_after_the_other(checkout)

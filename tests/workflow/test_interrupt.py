"""SIGINT to Snakemake's process alone: what was running ends, and is not made again."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from checkout import MICRO, Checkout


def test_a_job_that_ends_after_the_signal_is_not_made_again(fresh: Checkout) -> None:
    fresh.edit(MICRO, "steps: 6, batch: 32, lr: 0.01,", "steps: 400, batch: 32, lr: 0.01,")
    target = "results/micro/runs/edm2-base/config.yaml"
    events = fresh.results / "runs" / "edm2-base" / "events.jsonl"
    running = subprocess.Popen(
        ("snakemake", "--configfile", MICRO, "--cores", "2", target, "table1"),
        cwd=fresh.folder,
        env=fresh.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    deadline = time.monotonic() + 200
    while not (events.exists() and '"train"' in events.read_text()):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    assert not (fresh.folder / target).exists()
    os.kill(running.pid, signal.SIGINT)
    output, _ = running.communicate(timeout=200)
    assert running.returncode != 0
    assert "Will exit after finishing currently running jobs" in output
    assert '"end"' in events.read_text()
    assert fresh.planned("--nolock", target) == {}
    assert not (fresh.results / "table1.csv").exists()

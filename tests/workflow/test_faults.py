"""What happens when something is wrong: one clear line, nothing half-written, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

from checkout import MICRO, Checkout
from safetensors import safe_open


def temporary_files(checkout: Checkout) -> list[str]:
    return [str(path) for path in checkout.folder.rglob(".*.tmp")]


def test_config_typo_is_one_line_before_anything_runs(fresh: Checkout) -> None:
    fresh.edit(MICRO, "name: mclr, K: 2", "name: mlcr, K: 2")
    result = fresh.snakemake("all", check=False)
    assert result.returncode != 0
    (line,) = [line for line in result.stdout.splitlines() if "mlcr" in line]
    assert MICRO in line
    assert "runs.edm2-mclr.objective.name" in line
    assert "'ccdpo'" in line
    assert not fresh.results.exists()


def test_corrupt_raw_data(copy_of_finished: Callable[[], Checkout]) -> None:
    checkout = copy_of_finished()
    raw = checkout.folder / "data" / "raw" / "micro.raw"
    content = bytearray(raw.read_bytes())
    content[1000] ^= 1
    raw.write_bytes(bytes(content))
    result = checkout.snakemake("all", check=False)
    assert result.returncode != 0
    assert "data/raw/micro.raw: raw data is corrupt" in result.stdout
    assert temporary_files(checkout) == []


def test_truncated_checkpoint_is_named(copy_of_finished: Callable[[], Checkout]) -> None:
    checkout = copy_of_finished()
    weights = checkout.results / "runs" / "edm2-mclr-seed0" / "checkpoints"
    damaged = weights / "step-000002.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    result = checkout.snakemake("all", check=False)
    assert result.returncode != 0
    assert "step-000002.safetensors: damaged, or another file in its place" in result.stdout
    assert temporary_files(checkout) == []
    damaged.unlink()  # as the message says
    checkout.snakemake("all")


def test_missing_checkpoint_is_made_again_when_it_is_needed(
    copy_of_finished: Callable[[], Checkout],
) -> None:
    checkout = copy_of_finished()
    run = checkout.results / "runs" / "edm2-mclr-seed0" / "checkpoints"
    before = (run / "step-000002.safetensors").read_bytes()
    (run / "step-000002.safetensors").unlink()
    assert "Nothing to be done" in checkout.snakemake("all").stdout
    (checkout.results / "best" / "edm2-mclr.safetensors").unlink()
    checkout.snakemake("all")
    assert (run / "step-000002.safetensors").read_bytes() == before


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(fresh: Checkout) -> None:
    settings = "objective: {name: mclr, K: 1}\n    lr: %s\n    batch: 16\n    checkpoints: %s"
    fresh.edit(MICRO, settings % ("0.0001", "[2]"), settings % ("1.0e+30", "[1, 3]"))
    target = "results/micro/runs/var-mclr-seed0/config.yaml"
    result = fresh.snakemake(target, check=False)
    assert result.returncode != 0
    assert "at step 2; training stopped" in result.stdout
    kept = fresh.results / "state" / "var-mclr-seed0" / "step-000001.safetensors"
    assert str(kept.relative_to(fresh.folder)) in result.stdout
    with safe_open(kept, framework="pt") as stored:
        assert len(list(stored.keys())) > 10
    assert not (fresh.folder / target).exists()


def start(checkout: Checkout, *arguments: str) -> subprocess.Popen[str]:
    command = ("snakemake", "--configfile", MICRO, "--cores", "2", *arguments)
    return subprocess.Popen(
        command,
        cwd=checkout.folder,
        env=checkout.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def test_ctrl_c_loses_no_finished_work_and_a_second_run_is_refused(fresh: Checkout) -> None:
    fresh.edit(MICRO, "steps: 6, batch: 32, lr: 0.01,", "steps: 1500, batch: 32, lr: 0.01,")
    events = fresh.results / "runs" / "edm2-base" / "events.jsonl"
    target = "results/micro/runs/edm2-base/config.yaml"
    first = start(fresh, target)
    wait_for(lambda: events.exists() and events.read_text().count('"train"') >= 2)

    second = fresh.snakemake(target, check=False)
    assert second.returncode != 0
    assert f"another snakemake (process {first.pid}) is working in" in second.stdout

    os.killpg(first.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    output, _ = first.communicate(timeout=200)
    assert first.returncode != 0
    assert "state saved; run again to resume" in output
    assert not (fresh.folder / target).exists()
    assert (fresh.results / "state" / "edm2-base" / "state.safetensors").is_file()
    assert (fresh.folder / "data" / "prepared" / "micro" / "manifest.json").is_file()

    again = fresh.snakemake(target)
    assert "prepare" not in again.stdout.split("Job stats")[1].split("total")[0]
    kinds = [line.split('"event": "')[1].split('"')[0] for line in events.read_text().splitlines()]
    assert kinds[0] == "start"
    assert kinds.count("resume") == 1
    assert kinds[-1] == "end"

"""`mclr plan`: what it prints is what the document shows; cuts; numbers for programs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from mclr.cli import cli
from mclr.commands.plan import plan as command
from mclr.config.reading import load_tier, parse_tier
from mclr.cost.cuts import cuts_of
from mclr.cost.table import duration, number, quantity, size_text
from mclr.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> str:
    """In an empty folder, where no results are."""
    runner = CliRunner()
    with runner.isolated_filesystem():
        done = runner.invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_document_shows_what_the_command_prints() -> None:
    """When a tier changes: run the command where no results are, and copy what it prints."""
    blocks = re.findall(r"```\n\$ mclr plan (.*)\n([^`]*)```", (ROOT / "docs/cost.md").read_text())
    assert blocks
    for line, shown in blocks:
        config, *options = shlex.split(line)
        assert run(str(ROOT / config), *options) == shown


def test_numbers_for_programs(tiny: dict[str, Any], tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny))
    found = json.loads(run(str(config), "--json", "--gpus", "3", "--gpu", "a100"))
    assert found["assumptions"]["gpus"] == 3 and found["assumptions"]["utilisation"] == 0.2
    assert sum(rule["jobs"] for rule in found["rules"].values()) == found["total"]["jobs"]
    hours = found["total"]["gpu_hours"]
    assert hours["h100"] == hours["h200"] < hours["a100"]
    plan = found["schedule"]
    assert plan["bound"] <= plan["makespan"] <= plan["chain"] + plan["busy"] / 3
    half = json.loads(run(str(config), "--json", "--utilisation", "0.1"))
    assert half["total"]["gpu_hours"]["a100"] == pytest.approx(2 * hours["a100"])
    assert {"24 GB", "40 GB", "80 GB"} == found["memory"][0]["micro_batch"].keys()


def test_cores_in_the_place_of_gpus(tiny: dict[str, Any], tmp_path: Path) -> None:
    """Every job holds a core; half the rate takes twice as long; without one it is timed here."""
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny))
    on_cpu = (str(config), "--hardware", "cpu", "--cores", "2")
    text = run(*on_cpu, "--rate", "10")
    assert "Time on 2 cores\n" in text and "core-seconds of computing" in text
    assert "at 10 Gflop/s a core (as told)" in text and "GPU" not in text and "H100" not in text
    fast, slow = (json.loads(run(*on_cpu, "--json", "--rate", rate)) for rate in ("10", "5"))
    hours = (found["total"]["gpu_hours"]["core"] for found in (slow, fast))
    assert next(hours) == pytest.approx(2 * next(hours))
    jobs = fast["total"]["jobs"]
    assert fast["schedule"]["busy"] >= 10 * jobs and fast["schedule"]["gpus"] == 2
    assert fast["schedule"]["makespan"] >= fast["schedule"]["busy"] / 2
    timed = run(*on_cpu)
    rate = float(re.findall(r"at ([\d.]+) Gflop/s a core \(timed here, on training", timed)[0])
    assert 0 < rate < 1000
    with pytest.raises(UserError, match="--cores, --rate: are of processors"):
        run(str(config), "--cores", "2")


def test_a_missing_configuration_is_told() -> None:
    done = CliRunner().invoke(cli, ["plan", "absent.yaml"])
    assert "absent.yaml: no such configuration file" in str(done.exception)


def test_cuts_leave_what_they_say() -> None:
    tier = load_tier(ROOT / "config" / "fashion.yaml")
    cuts = {cut.name: cut.tier for cut in cuts_of(tier)}
    assert len(cuts) == 5
    scales = cuts["half of the guidance scales"].models["edm2-pixel"].guidance
    assert scales == [0.1, 0.3, 0.5, 0.9, 1.5, 3]
    before = tier.runs["edm2-pixel-mclr"].checkpoints
    steps = cuts["half of the checkpoints"].runs["edm2-pixel-mclr"].checkpoints
    assert len(steps) == (len(before) + 1) // 2 and steps[-1] == before[-1]
    fewer = cuts["1/5 of the samples"]
    assert fewer.evaluation.n_samples * 5 == tier.evaluation.n_samples
    assert next(c for c in cuts_of(tier) if c.tier == fewer).sample_ratio(tier) == 5
    seeds = cuts["one final seed"].final
    assert seeds is not None and len(seeds.seeds) == 1
    plain = cuts["no ablations, no studies"]
    assert all(run.final for run in plain.runs.values()) and not plain.studies


def test_rows_of_a_tier_without_final_seeds_are_no_ablations() -> None:
    cuts = {cut.name for cut in cuts_of(load_tier(ROOT / "config" / "digits.yaml"))}
    assert "half of the checkpoints" in cuts and "no ablations, no studies" not in cuts


def test_cuts_that_change_nothing_or_break_the_tier_are_left_out(tiny: dict[str, Any]) -> None:
    names = [cut.name for cut in cuts_of(parse_tier(tiny, "tiny"))]
    assert names == ["half of the guidance scales", "half of the checkpoints"]


def test_numbers_are_short() -> None:
    assert [number(x) for x in (0, 0.0004, 0.12345, 3.14159, 1234.5)] == [
        "0", "< 0.001", "0.12", "3.1", "1,234"
    ]  # fmt: skip
    assert [duration(s) for s in (90, 600, 9000, 200_000)] == [
        "90 s", "10 min", "2 h 30 min", "2 d 8 h"
    ]  # fmt: skip
    assert (quantity(1.23e15), size_text(4.5e9)) == ("1.23 P", "4.5 GB")

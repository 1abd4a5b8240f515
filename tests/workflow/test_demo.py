"""What `make demo` says of Snakemake's output."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from ptys import COLOUR

sys.path.insert(0, str(ROOT / "workflow"))
from demo import PHASES, Progress, failed, run

OUTPUT = """\
Job stats:
job                     count
--------------------  -------
all                         1
base_edm2                   1
finetune_edm2_mclr_seed0    2
sample                      3
table1                      1
total                       8

[Mon Nov 30 20:00:00 2026]
Finished jobid: 4 (Rule: base_edm2)
1 of 8 steps (12%) done
Finished jobid: 5 (Rule: finetune_edm2_mclr_seed0)
Finished jobid: 6 (Rule: sample)
Finished jobid: 7 (Rule: finetune_edm2_mclr_seed0)
Finished jobid: 8 (Rule: sample)
Finished jobid: 9 (Rule: sample)
Finished jobid: 10 (Rule: table1)
Finished jobid: 0 (Rule: all)
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(out: io.StringIO) -> str:
    progress = Progress(out)
    for line in OUTPUT.splitlines():
        progress.read(line)
    return out.getvalue()


def test_a_line_per_phase_in_a_file() -> None:
    lines = told(io.StringIO()).splitlines()
    assert [line[:28].split("  ")[0] for line in lines] == [
        *("base models", "fine-tuning", "samples", "table and report")
    ]
    assert [line.split(" jobs")[0].split()[-3:] for line in lines] == [
        *(["1", "of", "1"], ["2", "of", "2"], ["3", "of", "3"], ["1", "of", "1"])
    ]
    assert all("about" in line and line.endswith("left") for line in lines[:3])
    assert "done in 0 s" in lines[3]


def test_a_terminal_shows_the_phase_that_runs_and_keeps_finished_ones() -> None:
    text = told(Terminal())
    assert "\r\033[Kfine-tuning         1 of   2 jobs" in text and not COLOUR.search(text)
    kept = [line.split("\r\033[K")[-1] for line in text.strip("\n").split("\n")]
    assert [line.split("  ")[0] for line in kept] == [
        *("base models", "fine-tuning", "samples", "table and report")
    ]


def test_what_is_said_of_a_failure_stands_on_a_clean_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = tmp_path / "fails"
    fails.write_text(
        f"#!/bin/sh\ncat <<'END'\n{OUTPUT[: OUTPUT.index('Finished jobid: 6')]}END\nexit 3\n"
    )
    fails.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(fails))
    out = Terminal()
    assert run(2, tmp_path / "logs" / "demo.log", out) == 3
    assert out.getvalue().split("\r\033[K")[-2].startswith("fine-tuning")
    assert out.getvalue().endswith("\r\033[K")


def test_every_rule_has_a_phase_and_a_failure_is_told_in_short(tmp_path: Path) -> None:
    assert list(PHASES.values())[-1] == ("",)
    log = tmp_path / "demo.log"
    log.write_text("Building DAG\nmclr: error: config/x.yaml: lr: wrong\nmore\n" * 3)
    assert failed(log) == (
        f"mclr: error: config/x.yaml: lr: wrong\ndemo: failed; all of it is in {log}"
    )

"""`make demo`: the digits tier, told in a few lines: a line per phase, the table, the verdict.

Snakemake's own output goes to a file, which the first line names.
"""

import argparse
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

LOG = Path("results/digits/demo.log")
PICTURE = Path("results/digits/figures/edm2-progressive.png")
PHASES = {
    "data, feature net": ("fetch", "prepare", "feature_net", "published_net"),
    "base models": ("tokenizer", "encode", "import", "guide", "base"),
    "fine-tuning": ("negatives", "finetune", "select"),
    "samples": ("sample",),
    "metrics": ("evaluate", "floors", "metrics", "best"),
    "table and report": ("",),
}
"""Phases, in order, and how the names of their rules begin; the last has all others."""
SECONDS = {"feature_net": 4, "tokenizer": 12, "base": 30, "finetune": 8, "figures": 10}
"""Of one job on two cores, as measured (`results/digits/benchmarks`)."""
OTHERS_S = 2  # of the others, forks of a process that has its libraries
SAVED = "state saved, run make demo again to resume"
ERROR = re.compile(r"(mclr: error|Error|\w*Exception|\w+Error)\b.*")


class Progress:
    """Counts finished jobs and says a line per finished phase, with the time that is left."""

    def __init__(self, out: TextIO) -> None:
        self.out, self.begun = out, time.monotonic()
        self.planned: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.told: set[str] = set()
        self._in_table = False

    def read(self, line: str) -> None:
        """One line of Snakemake's output."""
        words = line.split()
        if line.startswith("Job stats:"):
            self._in_table, self.planned = True, Counter()
        elif self._in_table and len(words) == 2 and words[1].isdigit():
            if words[0] not in ("total", "all"):
                self.planned[words[0]] += int(words[1])
            self._in_table = words[0] != "total"
        elif found := re.match(r"Finished jobid: \d+ \(Rule: (\w+)\)", line):
            if found[1] in self.planned:
                self.done[found[1]] += 1
            self._tell()

    def _tell(self) -> None:
        left = self._left()
        for phase in PHASES:
            done, planned = (_of_phase(jobs, phase) for jobs in (self.done, self.planned))
            words = f"{phase:<17} {done:>3} of {planned:>3} jobs   {left}"
            if planned and done == planned and phase not in self.told:
                self.told.add(phase)
                self._write(words + "\n")
            elif done < planned and self.out.isatty():
                self._write(words)
                return

    def _write(self, words: str) -> None:
        """A line, over the one that is not ended yet where there is a terminal."""
        self.out.write(_over(self.out) + words)
        self.out.flush()

    def _left(self) -> str:
        spent = time.monotonic() - self.begun
        done, planned = (
            sum(_seconds(r) * n for r, n in j.items()) for j in (self.done, self.planned)
        )
        if done == planned:
            return f"done in {_duration(spent)}"
        return f"about {_duration(spent / done * (planned - done))} left"


def _over(out: TextIO) -> str:
    """What clears the line that is not ended yet."""
    return "\r\033[K" if out.isatty() else ""


def _phase_of(rule: str) -> str:
    return next(p for p, starts in PHASES.items() if rule.startswith(starts))


def _of_phase(jobs: Counter[str], phase: str) -> int:
    return sum(count for rule, count in jobs.items() if _phase_of(rule) == phase)


def _work(jobs: Counter[str]) -> int:
    """Seconds that jobs take on the machine of ``SECONDS``."""
    return sum(_seconds(rule) * count for rule, count in jobs.items())


def _seconds(rule: str) -> int:
    return next((s for start, s in SECONDS.items() if rule.startswith(start)), OTHERS_S)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def run(cores: int, log: Path, out: TextIO) -> int:
    """Snakemake's exit status; on Ctrl-C, once it has ended, KeyboardInterrupt."""
    log.parent.mkdir(parents=True, exist_ok=True)
    out.write(f"The digits tier on {cores} cores. Snakemake's own log: {log}\n")
    out.flush()
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "all"]
    progress = Progress(out)
    with (
        log.open("w", encoding="utf-8") as stream,
        subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                stream.write(line)
                stream.flush()
                progress.read(line)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Snakemake has it, too, and ends its jobs
            stream.write(process.stdout.read())
            raise
        finally:
            out.write(_over(out))
            out.flush()
    return process.returncode


def failed(log: Path) -> str:
    """What Snakemake complained of, in a few lines."""
    lines = log.read_text(encoding="utf-8").splitlines()
    said = [line.strip() for line in lines if ERROR.match(line.strip())]
    return "\n".join([*dict.fromkeys(said[:8]), f"demo: failed; all of it is in {log}"])


def verdict() -> str:
    """What the table comes to."""
    import pandas as pd

    from mclr.config.reading import load_tier
    from mclr.report.rows import make_table
    from mclr.report.verdict import verdict as of_table

    tier = load_tier(ROOT / "config" / "digits.yaml")
    metrics = pd.read_parquet("results/digits/metrics.parquet")
    return of_table(make_table(metrics, tier), tier)


def main() -> int:
    """Run, show, and say what came out; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cores", type=int, default=2)
    cores = parser.parse_args().cores
    try:
        status = run(cores, LOG, sys.stdout)
        if status:
            print(failed(LOG), file=sys.stderr)
            return status
        subprocess.run([sys.executable, "-m", "mclr", "show"], check=True)
    except KeyboardInterrupt:
        print(_over(sys.stdout) + SAVED, flush=True)
        return 0  # make, which the same Ctrl-C ends, adds a line to any other status
    print(f"Picture: {PICTURE}\n{verdict()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Snakemake's benchmarks, of jobs whose commands are run by forks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
from snakemake import benchmark

from mclr.forks.server import link_of


def see_forks(folder: Path) -> None:
    """Count the forks of a folder (``mclr.forks.server``) as processes of their jobs.

    Snakemake (9.27) looks at the shell that it starts and at its children alone.
    """

    class Shell(psutil.Process):  # type: ignore[misc]
        def children(self, recursive: bool = False) -> list[psutil.Process]:
            found: list[psutil.Process] = super().children(recursive)
            links = (link_of(folder, process.pid) for process in (self, *found))
            forks = [
                psutil.Process(int(link.readlink().name)) for link in links if link.is_symlink()
            ]
            return found + forks

    class Timer(benchmark.BenchmarkTimer):  # type: ignore[misc]
        def __init__(self, pid: int, *arguments: Any, **options: Any) -> None:
            super().__init__(pid, *arguments, **options)
            self.main = Shell(pid)

    benchmark.BenchmarkTimer = Timer

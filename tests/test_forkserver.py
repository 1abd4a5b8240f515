"""Commands that are run by forks: as a new process would, signals and mistakes included."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
T = TypeVar("T")


class Run:
    """A process that is there as long as a Snakemake would be, and commands that it starts."""

    def __init__(self, top: Path) -> None:
        self.top = top
        shutil.copytree(ROOT / "mclr", top / "mclr")
        (top / "configuration").mkdir()
        self.owner = subprocess.Popen(["sleep", "1000"])
        # A socket has a short name, and pytest's folders have long ones.
        self.folder = Path(f"/tmp/mclr-{self.owner.pid}-{secrets.token_hex(4)}")
        self.environment = os.environ | {
            "PYTHONPATH": str(top),
            "OMP_NUM_THREADS": "1",
            "MCLR_FORKSERVER": str(self.folder),
        }

    def start(
        self, *arguments: str, cwd: Path | str = "", **environment: str
    ) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            (sys.executable, "-m", "mclr", *arguments),
            cwd=cwd or self.top / "configuration",
            env=self.environment | environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def outcome(self, *arguments: str, **environment: str) -> tuple[int, str, str, bool]:
        """Exit status, output, errors of a command, and whether a fork ran it."""
        process = self.start(*arguments, **environment)
        output, errors = process.communicate(timeout=100)
        return process.returncode, output, errors, self.fork_of(process) is not None

    def fork_of(self, process: subprocess.Popen[str]) -> int | None:
        """The fork that runs the command of a process."""
        link = self.folder / str(process.pid)
        return int(link.readlink().name) if link.is_symlink() else None

    def blocked(self) -> tuple[subprocess.Popen[str], psutil.Process]:
        """A command that waits for a file that nobody writes, and the fork that runs it."""
        fifo = self.top / "configuration" / secrets.token_hex(4)
        os.mkfifo(fifo)
        process = self.start("select", "--evaluation", str(fifo), "--by", "cnn", "--output", "o")
        fork = eventually(lambda: self.fork_of(process))
        # Blocked, for its handlers are there once it is.
        eventually(lambda: psutil.Process(fork).status() == psutil.STATUS_SLEEPING)
        return process, psutil.Process(fork)

    def end(self) -> None:
        self.owner.kill()
        self.owner.wait()


def eventually(found: Callable[[], T | None], seconds: float = 60) -> T:
    """What is found, as soon as it is."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run whose fork server has been started, by its second command."""
    run = Run(tmp_path_factory.mktemp("run"))
    try:
        first, second = run.outcome("schema"), run.outcome("schema")
        assert first[:3] == second[:3] and first[0] == 0
        assert json.loads(first[1])["title"]
        assert [first[3], second[3]] == [False, True]
        yield run
    finally:
        run.end()


def test_a_mistake_is_told_as_by_a_new_process(run: Run) -> None:
    wrong = ("select", "--evaluation", "none.json", "--by", "cnn", "--output", "o")
    cold = run.outcome(*wrong, MCLR_FORKSERVER="")
    assert run.outcome(*wrong) == (*cold[:3], True)
    assert cold[0] == 2 and cold[2].startswith("mclr: error: none.json: ") and not cold[3]


def test_a_fork_has_folder_and_environment_of_its_command(run: Run) -> None:
    """The site file is found by a variable, and read from the working directory."""
    (run.top / "configuration" / "site.yaml").write_text("trian: {}\n")
    status, output, _, is_fork = run.outcome("doctor", "--no-jobs", MCLR_SITE="site.yaml")
    assert (status, is_fork) == (1, True) and "site.yaml: trian: unknown key" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_fork_and_ends_both_alike(run: Run, number: int) -> None:
    process, fork = run.blocked()
    process.send_signal(number)
    assert process.wait(60) in (-number, 130)
    eventually(lambda: not fork.is_running())


def test_a_command_that_is_killed_takes_its_fork_along(run: Run) -> None:
    process, fork = run.blocked()
    process.kill()
    eventually(lambda: not fork.is_running())
    process, fork = run.blocked()
    fork.kill()
    assert process.wait(60) == -signal.SIGKILL


def test_libraries_with_other_settings_are_imported_anew(run: Run) -> None:
    status, output, _, is_fork = run.outcome("schema", OMP_NUM_THREADS="2")
    assert (status, is_fork) == (0, False) and output
    assert run.outcome("schema", SOMETHING="2")[3]


def test_a_fork_runs_no_code_of_another_checkout(run: Run, tmp_path: Path) -> None:
    """The working directory's copy of the package goes before the one that the server has."""
    shutil.copytree(ROOT / "mclr", tmp_path / "mclr")
    (tmp_path / "mclr" / "cli.py").write_text("def main(): print('of this checkout')")
    process = run.start("schema", cwd=tmp_path)
    assert process.communicate(timeout=100) == ("of this checkout\n", "")
    assert run.fork_of(process) is None


def test_the_server_imports_what_its_first_command_would(tmp_path: Path) -> None:
    """In a checkout that is not installed, and is found as the working directory alone."""
    run = Run(tmp_path / "run")
    del run.environment["PYTHONPATH"]
    cli = run.top / "mclr" / "cli.py"
    cli.write_text(cli.read_text() + "\n\ndef main() -> None:\n    print(__file__)\n")
    try:
        for is_fork in (False, True):
            process = run.start(cwd=run.top)
            assert process.communicate(timeout=100) == (f"{cli}\n", "")
            assert (run.fork_of(process) is not None) is is_fork
    finally:
        run.end()


def test_processes_of_torchrun_are_their_own(run: Run) -> None:
    assert run.outcome("schema", RANK="0")[::3] == (0, False)


def test_others_cannot_offer_a_server(run: Run, tmp_path: Path) -> None:
    """A folder that others may write into is not trusted."""
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    (tmp_path / "open" / "socket").symlink_to(run.folder / "socket")
    assert run.outcome("schema", MCLR_FORKSERVER=str(tmp_path / "open"))[::3] == (0, False)


def test_edited_code_is_run_as_it_is(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    try:
        assert [run.outcome("schema")[3] for _ in range(3)] == [False, True, True]
        file = run.top / "mclr" / "cli.py"
        file.write_text(file.read_text() + "\n")
        assert run.outcome("schema")[::3] == (0, False)
    finally:
        run.end()


def test_the_server_ends_with_its_run_after_the_last_command(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    try:
        assert [run.outcome("schema")[3] for _ in range(2)] == [False, True]
        process, fork = run.blocked()
        server = eventually(fork.parent)
    finally:
        run.end()
    time.sleep(2)
    assert server.is_running() and fork.is_running()
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    eventually(lambda: not server.is_running())
    assert not run.folder.exists()


def test_a_fork_ends_with_its_server(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    try:
        assert [run.outcome("schema")[3] for _ in range(2)] == [False, True]
        process, fork = run.blocked()
        eventually(fork.parent).kill()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1 and "the fork server has ended" in errors
        eventually(lambda: not fork.is_running())
    finally:
        run.end()

"""The process whose forks run the commands of a run's jobs: it has imported what they use.

Importing torch takes longer than many jobs of a small tier. Each command is a process of its own
all the same: a fork has the arguments, environment, working directory and open files of the
process that handed it over (``mclr.forks.handover``), gets that one's signals, and is killed
if that one is. The server computes nothing, ends with the Snakemake that it belongs to, and gives
back commands whose libraries, or whose code, would not be those that it has imported.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import secrets
import select
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mclr.forks.ending import end_with
from mclr.forks.handover import ACCEPTED, SOCKET, VARIABLE, imported_by, imported_with

PRELOADED = (
    *("mclr.cli", "mclr.operations.site", "mclr.training.processes", "mclr.planning.specs"),
    *("mclr.jobs.sampling", "mclr.jobs.training", "mclr.jobs.encoding", "mclr.jobs.tokenizer"),
    *("mclr.jobs.feature_net", "mclr.jobs.evaluation", "mclr.jobs.floors", "mclr.metrics.measure"),
)
LOOK_SECONDS = 0.5
"""How often the server looks whether its run still goes on."""

PR_SET_PDEATHSIG = 1


def offer() -> Path | None:
    """Let the commands that this process starts share a fork server; its folder, to be removed.

    Only where a fork is known to be safe, and the user has not said otherwise: Linux, and no
    ``MCLR_FORKSERVER`` that is empty.
    """
    if sys.platform != "linux" or os.environ.get(VARIABLE) == "":
        return None
    name = f"mclr-{os.getpid()}-{secrets.token_hex(8)}"
    folder = Path(tempfile.gettempdir(), name)
    os.environ[VARIABLE] = str(folder)
    return folder


def withdraw(folder: Path) -> None:
    """Remove what ``offer`` named; commands that are still running end as they would."""
    shutil.rmtree(folder, ignore_errors=True)


def owner(folder: Path) -> int:
    """The process that a folder of ``offer`` belongs to."""
    return int(folder.name.split("-")[1])


def link_of(folder: Path, pid: int) -> Path:
    """A link whose target is the fork that runs the command of a process."""
    return folder / str(pid)


@dataclass
class Command:
    """What a process has handed over: its connection, its open files, and its content."""

    connection: socket.socket
    files: list[int]
    arguments: list[str]
    cwd: str
    environment: dict[str, str]
    pid: int
    python: list[str]


def receive(connection: socket.socket) -> Command | None:
    """The command of a process that has connected; None if it has gone again."""
    connection.settimeout(LOOK_SECONDS * 20)
    try:
        header, files, _, _ = socket.recv_fds(connection, 4, 3)
        length = int.from_bytes(header, "big")
        content = b""
        while len(content) < length and (part := connection.recv(length - len(content))):
            content += part
        return Command(connection, list(files), **json.loads(content))
    except (OSError, ValueError, TypeError):
        connection.close()
        return None


class Server:
    """Forks a process for each command until its run has ended.

    libraries: the variables that they were imported with; python: with what, and from where.
    """

    def __init__(self, folder: Path, libraries: dict[str, str], python: list[str]) -> None:
        self.folder, self.owner = folder, owner(folder)
        self.libraries, self.python = libraries, python
        self.code = _stamps()
        self.running: dict[int, socket.socket] = {}
        self.listener = socket.socket(socket.AF_UNIX)
        unready = folder / f"{SOCKET}.new"
        self.listener.bind(str(unready))
        self.listener.listen(64)
        unready.rename(folder / SOCKET)
        self.woken, wake = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake)
        self.wake = wake

    def serve(self) -> Command | None:
        """Run until the run has ended: None; in a fork, return the command that it is to run."""
        while self.running or _is_alive(self.owner):
            waiting: list[int | socket.socket] = [self.listener, self.woken, *self.running.values()]
            ready, _, _ = select.select(waiting, [], [], LOOK_SECONDS)
            self._reap()
            for pid, connection in list(self.running.items()):
                if connection in ready:
                    _pass_on(connection, pid)
            if self.listener in ready and (command := self._accept()):
                return command
        withdraw(self.folder)
        return None

    def _accept(self) -> Command | None:
        """Fork for the next command; None in the server."""
        command = receive(self.listener.accept()[0])
        if command is None:
            return None
        pid = 0
        if self._would_import_the_same(command):
            server = os.getpid()
            if (pid := os.fork()) == 0:
                self._become(command, server)
                return command
            self.running[pid] = command.connection
            with suppress(OSError):  # of a run that has ended
                link_of(self.folder, command.pid).symlink_to(str(pid))
        for file in command.files:
            os.close(file)
        with suppress(OSError):  # it has gone, which the next round finds
            command.connection.send(ACCEPTED if pid else b"-")
        if not pid:
            command.connection.close()
        return None

    def _would_import_the_same(self, command: Command) -> bool:
        is_alike = imported_with(command.environment) == self.libraries
        return is_alike and command.python == self.python and _stamps() == self.code

    def _become(self, command: Command, server: int) -> None:
        """Make a fork the process that its command was handed over by, as far as it can see."""
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:  # it has ended in between
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for file in (self.woken, self.wake):
            os.close(file)
        for connection in (self.listener, command.connection, *self.running.values()):
            connection.close()
        for number, file in enumerate(command.files):
            os.dup2(file, number)
            os.close(file)
        sys.stdin, sys.stdout, sys.stderr = _standard()
        os.chdir(command.cwd)
        os.environ.clear()
        os.environ.update(command.environment)
        sys.argv[:] = command.arguments

    def _reap(self) -> None:
        """Tell of the forks that have ended how."""
        with suppress(BlockingIOError):
            os.read(self.woken, 512)
        while self.running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self.running.pop(pid) as connection, suppress(OSError):
                connection.send(status.to_bytes(4, "big"))


def _pass_on(connection: socket.socket, pid: int) -> None:
    """Signals to the process that handed over, to its fork, which is killed if that one was."""
    try:
        numbers = connection.recv(16)
    except OSError:
        numbers = b""
    for number in numbers or [signal.SIGKILL]:
        os.kill(pid, number)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False  # it has ended, or its number is that of a process of another user
    return True


def _standard() -> Iterator[Any]:
    """Standard input, output and error as Python makes them at its start."""
    yield open(0, closefd=False)  # noqa: SIM115
    for number, errors in ((1, "strict"), (2, "backslashreplace")):
        is_line = number == 2 or os.isatty(number)
        raw = open(number, "wb", closefd=False)  # noqa: SIM115
        yield io.TextIOWrapper(raw, errors=errors, line_buffering=is_line)


def _stamps() -> dict[str, tuple[int, int]]:
    """Time and size of the files of this package that are imported."""
    files = (
        getattr(m, "__file__", None) for n, m in [*sys.modules.items()] if n.startswith("mclr")
    )
    return {file: _stamp(file) for file in files if file}


def _stamp(file: str) -> tuple[int, int]:
    try:
        about = os.stat(file)
    except OSError:
        return 0, 0
    return about.st_mtime_ns, about.st_size


def main() -> None:
    """Serve the run whose folder is the argument; in a fork, run the command."""
    folder, libraries = Path(sys.argv[1]), imported_with(dict(os.environ))
    python = imported_by()
    for module in PRELOADED:
        import_module(module)
    command = Server(folder, libraries, python).serve()
    if command is not None:
        from mclr.cli import main as run

        end_with(run)

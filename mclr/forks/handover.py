"""A job's command, given to a process that has imported torch: the side of the job.

``python -m mclr`` runs a command by itself, unless ``MCLR_FORKSERVER`` names a folder. Then the
second command of a run starts a fork server there (``mclr.forks.server``), and forks of
it run this command and the later ones: a fork computes what a new process computes, without the
seconds that it takes to import torch. What is imported here is light: every command pays for it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

VARIABLE = "MCLR_FORKSERVER"
"""Names the folder of a run's fork server; empty: every command is a new process."""

SOCKET, LOG = "socket", "log"
ACCEPTED = b"+"
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1)
IMPORTED_WITH = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "VECLIB_", "NUMEXPR_", "BLIS_"),
    *("TORCH", "PYTORCH", "ATEN_", "DNNL_", "ONEDNN_", "CUDA", "CUBLAS", "NVIDIA", "ARROW_"),
    *("LD_", "MALLOC_", "PYTHON", "LC_", "LANG"),
)
"""How the names of variables begin that libraries read when they are imported."""

START_SECONDS = 60.0
LONGEST_PATH = 100  # of a socket


def hand_over() -> None:
    """Have the run's fork server run this process's command, and end as it ends.

    Returns where it is to be run here: there is no server to be, this is the first command of the
    run, or the server was started with other settings of the libraries or of the code.
    """
    folder = os.environ.get(VARIABLE, "")
    if not folder or "RANK" in os.environ or sys._xoptions:  # RANK: started by torchrun
        return
    connection = _connected(folder)
    if connection is None:
        return
    with connection:
        told = {
            "arguments": sys.argv,
            "cwd": os.getcwd(),
            "environment": dict(os.environ),
            "pid": os.getpid(),
            "python": imported_by(),
        }
        before = {number: signal.getsignal(number) for number in FORWARDED}
        for number, handler in before.items():
            if handler != signal.SIG_IGN:  # as under nohup
                signal.signal(number, _Forwarder(connection))
        content = json.dumps(told).encode()
        try:
            header = len(content).to_bytes(4, "big")
            socket.send_fds(connection, [header], [0, 1, 2])
            connection.sendall(content)
            answer = connection.recv(1)
        except OSError:
            answer = b""
        if answer == ACCEPTED:
            _end_as(connection.recv(4, socket.MSG_WAITALL))
    for number, handler in before.items():
        signal.signal(number, handler)


def imported_with(environment: dict[str, str]) -> dict[str, str]:
    """The variables that libraries read when they are imported."""
    return {key: value for key, value in environment.items() if key.startswith(IMPORTED_WITH)}


def imported_by() -> list[str]:
    """The Python that libraries are imported by, and the folders that it looks for them in."""
    return [sys.executable, *sys.path]


def _connected(folder: str) -> socket.socket | None:
    """A connection to the server of a folder, which is started if this is the second command."""
    path = os.path.join(folder, SOCKET)
    if len(os.fsencode(path)) > LONGEST_PATH or _is_new(folder):
        return None
    about = os.lstat(folder)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        return None  # not made by us
    found = _connect(path)
    if found is None and _is_new(os.path.join(folder, "starting")):
        return _start(folder, path)
    return found


def _is_new(folder: str) -> bool:
    """Make a folder; of several processes one does."""
    try:
        os.mkdir(folder, 0o700)
    except OSError:
        return False
    return True


def _connect(path: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection


def _start(folder: str, path: str) -> socket.socket | None:
    """Start the server and wait for it; it outlives this process, not the run.

    It imports from the folders that this process imports from.
    """
    program = f"import sys; sys.path[:] = {sys.path!r}; from mclr.forks.server import main; main()"
    with open(os.path.join(folder, LOG), "ab") as log:
        server = subprocess.Popen(
            (sys.executable, "-P", "-c", program, folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        if (connection := _connect(path)) is not None:
            server.returncode = 0  # not to be waited for
            return connection
        time.sleep(0.02)
    return None


class _Forwarder:
    """A signal to this process is one to the fork that runs its command."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def __call__(self, number: int, frame: FrameType | None) -> None:
        with suppress(OSError):
            self.connection.send(bytes([number]))


def _end_as(status: bytes) -> NoReturn:
    """End with the exit status, or by the signal, of the fork."""
    if len(status) < 4:
        sys.exit("mclr: error: the fork server has ended; run the same command again")
    code = os.waitstatus_to_exitcode(int.from_bytes(status, "big"))
    if code < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(abs(code))

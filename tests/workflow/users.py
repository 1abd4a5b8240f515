"""Commands run as other users of this machine, by number: nothing is added to its user database."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

GROUP = 54300  # common to all users of a test

# Where the interpreter lies in a closed folder (root's home), the command sees that folder empty
# but for the interpreter, in a view of the filesystem of its own.
OPEN = """
set -e
mount --bind "$2" "$3"
mount -t tmpfs -o mode=755 none "$1"
mkdir -p "$2"
mount --bind "$3" "$2"
shift 3
exec "$@"
"""


class User(NamedTuple):
    """A user and their home, below ``base``; ``umask`` is the mode that their files lack."""

    base: Path
    uid: int
    umask: str

    @property
    def home(self) -> Path:
        return self.base / str(self.uid)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in the user's home; output and errors together in ``stdout``."""
        ids = (f"--reuid={self.uid}", f"--regid={self.uid}", f"--groups={GROUP}")
        start = ("sh", "-c", f'umask {self.umask}; exec "$@"', "sh", "setpriv", *ids, *command)
        return subprocess.Popen(
            (*self._opened(), *start),
            cwd=self.home,
            env={
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(self.home),
                "USER": str(self.uid),
                "DVC_SITE_CACHE_DIR": str(self.home / "dvc"),
            },
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    def _opened(self) -> tuple[str, ...]:
        """Words before a command that let a user run the interpreter of the tests."""
        interpreter = Path(sys.base_prefix)
        folders = [*reversed(interpreter.parents), interpreter]
        closed = next((folder for folder in folders if not folder.stat().st_mode & 1), None)
        if closed is None:
            return ()
        place = self.base / "interpreter"
        place.mkdir(exist_ok=True)
        return (
            "unshare",
            "--mount",
            "sh",
            "-c",
            OPEN,
            "sh",
            *map(str, (closed, interpreter, place)),
        )


def new_users(base: Path, umasks: tuple[str, ...]) -> list[User]:
    """Users with a home below ``base``; skips the test where commands cannot run as them."""
    if os.geteuid() != 0:
        pytest.skip("only root can run commands as other users")
    if not all(map(shutil.which, ("setpriv", "unshare"))):
        pytest.skip("setpriv and unshare are not installed: apt-get install util-linux")
    users = [User(base, GROUP + number, umask) for number, umask in enumerate(umasks, 1)]
    for user in users:
        user.home.mkdir()
        os.chown(user.home, user.uid, user.uid)
    probe = users[0].start("python", "-c", "import os, dvc, mclr; os.stat(os.sys.base_prefix)")
    said = probe.communicate()[0]
    if probe.returncode:
        pytest.skip(f"other users cannot run {sys.executable}: {said[-300:]}")
    return users

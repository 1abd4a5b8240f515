"""Run a command on a terminal of its own."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

COLOUR = re.compile(r"\x1b\[[\d;]*m")


def written_to_a_terminal(*command: str, cwd: Path | None = None, **environment: str) -> str:
    """All that a command writes to its terminal, with ``environment`` added to ours."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, cwd=cwd, env={**os.environ, **environment}, stdin=theirs, stdout=theirs,
        stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        written = b""
        while True:
            try:
                written += os.read(ours, 4096)
            except OSError:  # the other side has been closed
                break
        process.wait()
    os.close(ours)
    return written.decode().replace("\r\n", "\n")

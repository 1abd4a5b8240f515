"""A command ends at once, and all the same in order."""

from __future__ import annotations

import subprocess
import sys

import pytest

FINALIZED = """
class Last:
    def __del__(self): print("taken apart", flush=True)
last = Last()
"""


def ended(program: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """A process that ends with the body of a function."""
    body = "\n".join(f"    {line}" for line in program.splitlines())
    code = f"{before}\nfrom mclr.forks.ending import end_with\ndef run():\n{body}\nend_with(run)"
    return subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("program", "status", "output", "errors"),
    [
        ("pass", 0, "", ""),
        ("print('said', end='')", 0, "said", ""),
        ("import sys; sys.exit(2)", 2, "", ""),
        ("import sys; sys.exit()", 0, "", ""),
        ("import sys; sys.exit('reason')", 1, "", "reason\n"),
        ("import atexit; atexit.register(print, 'last')", 0, "last\n", ""),
        (
            "import threading, time\n"
            "threading.Thread(target=lambda: (time.sleep(0.3), print('thread'))).start()",
            0,
            "thread\n",
            "",
        ),
    ],
)
def test_what_programs_rely_on_is_done(program: str, status: int, output: str, errors: str) -> None:
    done = ended(program)
    assert (done.returncode, done.stdout, done.stderr) == (status, output, errors)


def test_nothing_is_taken_apart() -> None:
    plain = subprocess.run((sys.executable, "-c", FINALIZED), capture_output=True, text=True)
    assert plain.stdout == "taken apart\n"
    assert ended("pass", before=FINALIZED).stdout == ""


def test_an_error_is_shown_as_ever() -> None:
    done = ended("raise RuntimeError('why')")
    assert done.returncode == 1 and done.stderr.endswith("RuntimeError: why\n")


def test_output_that_nobody_reads_is_no_success() -> None:
    code = "from mclr.forks.ending import end_with\nend_with(lambda: print('x' * 10**6))"
    with subprocess.Popen(
        (sys.executable, "-c", code), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
    assert process.returncode != 0

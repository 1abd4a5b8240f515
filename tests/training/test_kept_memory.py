"""A job's memory stays with it from step to step."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from mclr import device

FREES = """
import sys, torch
from pathlib import Path
from mclr.device import set_up

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

if sys.argv[1] == "set up":
    set_up(1, "cpu")
tensor = torch.ones(24 * 2**18)
held = resident()
del tensor
print(held - resident())
"""


def given_back(how: str) -> float:
    """How much of a freed tensor of 24 MiB a process gives back to the system."""
    command = [sys.executable, "-c", FREES, how]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_a_step_frees_the_next_one_finds() -> None:
    assert given_back("plain") > 20
    assert given_back("set up") < 4


def test_other_systems_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not device.keep_memory()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("mclr.device.ctypes.CDLL", lambda name: object())  # musl has no mallopt
    assert not device.keep_memory()

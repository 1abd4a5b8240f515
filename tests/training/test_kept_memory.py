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

if sys.argv[1] == "set up":
    set_up(1, "cpu")
for _ in range(2):
    tensors = [torch.ones(2**21) for _ in range(16)]  # 8 MiB each
    del tensors
lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
kilobytes = {line[0]: int(line[1]) for line in lines if line[0] in ("VmHWM:", "VmRSS:")}
print((kilobytes["VmHWM:"] - kilobytes["VmRSS:"]) / 1024)
"""


def given_back(how: str) -> float:
    """How much of 128 MiB of freed tensors a process gives back to the system."""
    command = [sys.executable, "-c", FREES, how]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_a_step_frees_the_next_one_finds() -> None:
    assert given_back("plain") > 60
    assert given_back("set up") < 20


def test_other_systems_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not device.keep_memory()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("mclr.device.ctypes.CDLL", lambda name: object())  # musl has no mallopt
    assert not device.keep_memory()

"""What people see while a command computes: a line on a terminal, nothing elsewhere."""

from __future__ import annotations

import gc
import io
import sys

import pytest

from mclr.planning.collection import no_collection
from mclr.terminal import waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with pytest.raises(KeyError), waiting("mclr track") as tell:
        tell("1 of 2")
        tell("2 of 2")
        raise KeyError
    lines = terminal.getvalue().split("\r\x1b[2K")
    assert lines == ["", "mclr track: 1 of 2 …", "mclr track: 2 of 2 …", ""]


def test_elsewhere_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting("mclr track") as tell:
        tell("1 of 2")
    assert capsys.readouterr() == ("", "")


def test_objects_are_collected_again_after_a_mistake() -> None:
    assert gc.isenabled()
    with pytest.raises(KeyError), no_collection():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    with no_collection():
        pass
    was_on = gc.isenabled()
    gc.enable()
    assert not was_on

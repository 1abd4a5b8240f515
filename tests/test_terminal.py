"""What stands on a terminal: lines that are redrawn, and others that never stand behind them."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

import pytest
from ptys import COLOUR, written_to_a_terminal

CLEAR = "\r\x1b[2K"


def on_a_terminal(program: str) -> str:
    """All that a program in Python, with our progress at hand, writes to a terminal."""
    code = "import sys\nfrom mclr.events import *\nfrom mclr.terminal import waiting\n"
    return written_to_a_terminal(sys.executable, "-c", code + textwrap.dedent(program))


def seen(written: str) -> list[str]:
    """The lines that people see at the end; what stands after the last newline is one, too."""
    return [line.rpartition(CLEAR)[2] for line in written.split("\n")]


PROGRESS = """
    set_up_logging({log})
    progress = Progress("base", 3, 8)
    progress.interval = min(progress.interval, 0.0 if {log} is None else 10.0)
"""


def test_an_ordinary_line_never_stands_behind_progress() -> None:
    written = on_a_terminal(
        PROGRESS.format(log=None)
        + """
    progress.update(1); progress.update(2)
    LOG.warning("a warning")
    LOG.info("and another line")
    progress.update(3)
    print("the answer")
    """
    )
    first, warning, other, last, answer, end = seen(written)
    assert re.fullmatch(r"base: 2/3, \d+ images/s, ETA 0:00", first)
    assert (warning, other, answer, end) == ("a warning", "and another line", "the answer", "")
    assert last.startswith("base: 3/3, ")
    assert written.count(CLEAR) == 3


def test_an_ordinary_line_takes_the_place_of_one_that_waits() -> None:
    written = on_a_terminal(
        """
    set_up_logging(None)
    with waiting("mclr plan") as tell:
        tell("1 of 2")
        LOG.warning("a warning")
        tell("2 of 2")
    print("the answer")
    """
    )
    assert "mclr plan: 1 of 2 …" in written and "mclr plan: 2 of 2 …" in written
    assert seen(written) == ["a warning", "the answer", ""]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ('UserError("no such key")', "mclr: error: no such key"),
        ('click.ClickException("no such option")', "Error: no such option"),
        ('KeyError("a mistake")', "Traceback (most recent call last):"),
        ("click.exceptions.Exit(0)", ""),
    ],
)
def test_a_command_leaves_a_clean_line(error: str, said: str) -> None:
    written = on_a_terminal(
        f"""
    import click
    from mclr import cli
    from mclr.errors import UserError

    @cli.cli.command()
    def stops():
        progress = Progress("base", 3, 8)
        progress.interval = 0.0
        progress.update(1)
        raise {error}

    sys.argv[1:] = ["stops"]
    cli.main()
    """
    )
    first, second, *_ = seen(written)
    assert first.startswith("base: 1/3, ") and second == said
    assert written.endswith("\n")


def test_jobs_share_a_terminal_so_nothing_is_redrawn(tmp_path: Path) -> None:
    """Snakemake and other jobs write there, too: each line of progress is a whole one."""
    written = on_a_terminal(
        PROGRESS.format(log=f'Path("{tmp_path}/job.log")')
        + """
    progress.update(1)
    progress.last -= 20
    progress.update(2)
    progress.update(3)
    """
    )
    assert CLEAR not in written
    assert [line[:9] for line in written.split("\n")] == ["base: 2/3", "base: 3/3", ""]


@pytest.mark.parametrize("arguments", ["--help", "nonsense", "show --config absent.yaml"])
def test_nothing_is_coloured(arguments: str) -> None:
    command = (sys.executable, "-m", "mclr", *arguments.split())
    assert not COLOUR.search(written_to_a_terminal(*command, NO_COLOR="1"))

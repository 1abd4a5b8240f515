"""Events survive crashes and resumes; progress tells speed and time left."""

from __future__ import annotations

import errno
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from mclr.errors import UserError
from mclr.events import LOG, EventLog, Progress, read_events, set_up_logging


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run" / "events.jsonl"


def test_write_and_read(file: Path) -> None:
    log = EventLog(file)
    log.write("start", step=0)
    log.write("train", step=10, loss=0.5)
    first, second = read_events(file)
    assert first["event"] == "start" and second == {
        "time": second["time"], "event": "train", "step": 10, "loss": 0.5,
    }  # fmt: skip
    assert 1.7e9 < first["time"] <= second["time"]


def test_no_file_no_events(file: Path) -> None:
    assert read_events(file) == []


def test_half_written_last_line_is_left_out(file: Path) -> None:
    log = EventLog(file)
    log.write("train", step=1)
    with file.open("a") as stream:
        stream.write('{"time": 1, "event": "tra')
    assert [event["step"] for event in read_events(file)] == [1]
    log.rewind(1)
    log.write("resume", step=1)
    assert [event["event"] for event in read_events(file)] == ["train", "resume"]


@pytest.mark.parametrize(
    "tail",
    [
        b"\0" * 512,
        b"\0" * 512 + b"\n",
        b'{"time": 2, "ev\n',
        b"\xff\xfe\n",
        b"[]\n",
        b"[" * 99_999 + b"\n",
    ],
    ids=["zeros", "a line of zeros", "cut", "no UTF-8", "no event", "deep"],
)
def test_a_damaged_tail_is_left_out_and_said(
    tail: bytes, file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power cut; a run that goes on has whole lines again."""
    monkeypatch.setattr(LOG, "propagate", True)
    log = EventLog(file)
    log.write("train", step=1)
    with file.open("ab") as stream:
        stream.write(tail)
    assert [event["step"] for event in read_events(file)] == [1]
    assert "events.jsonl: damaged from line 2 on; what follows is left out" in caplog.text
    log.rewind(1)
    log.write("resume", step=1)
    assert [event["event"] for event in read_events(file)] == ["train", "resume"]


@pytest.mark.parametrize("line", [b"\0\0", b"\xff", b"{", b"{}", b'{"time": 1, "event": "train"}'])
def test_a_file_that_is_damaged_before_its_end_is_named(line: bytes, file: Path) -> None:
    log = EventLog(file)
    log.write("start", step=0)
    with file.open("ab") as stream:
        stream.write(line + b"\n")
    log.write("train", step=1)
    for read in (lambda: read_events(file), lambda: log.rewind(1)):
        with pytest.raises(UserError, match=r"events\.jsonl: line 2 is no event.*`dvc checkout"):
            read()
    log.rewind(0)  # begins anew, whatever was there
    assert read_events(file) == []


def test_what_a_resumed_run_needs_is_on_the_disk(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("mclr.events.os.fsync", synced.append)
    log = EventLog(file)
    log.sync()  # before there is a file
    log.write("train", step=1)
    assert len(synced) == 0
    log.sync()
    log.write("checkpoint", step=1)
    assert len(synced) == 2


def test_a_full_disk_ends_the_log_with_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOG, "handlers", [])
    set_up_logging(Path("/dev/full"))
    for number in range(20):
        LOG.info("message %d", number)
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if not line.startswith("message ")] == [
        "mclr: /dev/full: the log ends here: No space left on device"
    ]
    assert len(said) == 21


def test_rewind(file: Path) -> None:
    log = EventLog(file)
    log.write("start")
    for step in (1, 2, 3):
        log.write("train", step=step)
    log.rewind(2)
    assert [event.get("step") for event in read_events(file)] == [None, 1, 2]
    log.rewind(0)
    assert read_events(file) == [] and file.read_text() == ""


def test_rewind_is_atomic(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(file)
    log.write("train", step=1)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"events\.jsonl: cannot be written"):
        log.rewind(0)
    assert len(read_events(file)) == 1


def test_full_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match=r"events\.jsonl: cannot be written: No space left"):
        EventLog(file).write("train", step=1)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("mclr.events.time.monotonic", clock)
    return clock


def test_progress(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """40 of 100 units of 8 images were there; 20 more take 10 s: 16 images/s, 20 s left."""
    LOG.propagate = True
    caplog.set_level(logging.INFO, "mclr")
    progress = Progress("edm2-base", 100, 8, done=40)
    clock.now += 1
    progress.update(42)
    assert caplog.messages == []
    clock.now += 9
    progress.update(60, "loss 0.5")
    assert caplog.messages == ["edm2-base: 60/100, 16 images/s, ETA 0:20, loss 0.5"]
    clock.now += 0.1
    progress.update(100)
    assert caplog.messages[1].startswith("edm2-base: 100/100, ")
    assert caplog.messages[1].endswith("ETA 0:00")


def test_long_eta(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    LOG.propagate = True
    caplog.set_level(logging.INFO, "mclr")
    progress = Progress("x", 1000, 1)
    clock.now += 100
    progress.update(100)
    assert caplog.messages == ["x: 100/1000, 1 images/s, ETA 15:00"]


def test_log_file_and_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "logs" / "job.log"
    set_up_logging(file)
    LOG.info("%s: %d/%d, ETA", "x", 1, 2)
    set_up_logging(None)
    LOG.info("only on the terminal")
    assert capsys.readouterr().err == "x: 1/2, ETA\nonly on the terminal\n"
    assert file.read_text().endswith(" x: 1/2, ETA\n") and file.read_text().count("\n") == 1


def test_lines_are_json(file: Path) -> None:
    EventLog(file).write("note", text="line\nbreak")
    assert [json.loads(line)["text"] for line in file.read_text().splitlines()] == ["line\nbreak"]

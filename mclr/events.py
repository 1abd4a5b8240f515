"""What a run did, as it happens: JSON lines on disk, plain lines in a log, a line on a terminal.

Each line of ``events.jsonl`` is an object with ``time`` (seconds since the epoch), ``event`` and
the event's own fields. A resumed run cuts the file back to the step it resumes from.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from mclr.errors import UserError
from mclr.files import write_text
from mclr.terminal import clean_line, redraw

LOG = logging.getLogger("mclr")


class EventLog:
    """Appends events to ``events.jsonl``; every line is flushed, so a reader sees it at once.

    Events other than ``train`` are on the disk when ``write`` returns, and all before them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rewind(self, step: int) -> None:
        """Keep only the events of steps up to ``step``; at step 0 begin anew."""
        events = read_events(self.path) if step else []
        kept = [e for e in events if e.get("step", 0) <= step]
        write_text(self.path, "".join(json.dumps(e) + "\n" for e in kept))

    def sync(self) -> None:
        """Bring all events to the disk: before a state is saved that a run resumes from."""
        with suppress(FileNotFoundError), self.path.open("rb") as stream:
            os.fsync(stream.fileno())

    def write(self, event: str, **fields: Any) -> None:
        """Append one event with the current time."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as stream:
                stream.write(line + "\n")
                stream.flush()
                if event != "train":
                    os.fsync(stream.fileno())
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written: {error.strerror}; free space or fix "
                "permissions, then run the same command again"
            ) from error


def read_events(path: Path) -> list[dict[str, Any]]:
    """All complete events of a file; a line that is still being written is left out.

    A power cut may leave a last line or more that are no events: they are left out with a warning.

    Raises:
        UserError: the file cannot be read, or is damaged before its end.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    found = [_event(line) for line in lines[:-1]]
    whole = next((i for i, event in enumerate(found) if event is None), len(found))
    events = [event for event in found if event is not None]
    if len(events) > whole:
        raise UserError(
            f"{path}: line {whole + 1} is no event: the file is damaged. `dvc checkout --force` "
            "brings it back if it is published; else delete the folder of the run and run "
            "`snakemake` again (a run that is still going on: delete the file, and the curve "
            "begins anew)"
        )
    if whole < len(found) or b"\0" in lines[-1]:
        LOG.warning("%s: damaged from line %d on; what follows is left out", path, whole + 1)
    return events


def ended(events: list[dict[str, Any]]) -> bool:
    """Whether the last event is the end: a run that was prolonged has one further up as well."""
    return bool(events) and bool(events[-1]["event"] == "end")


def _event(line: bytes) -> dict[str, Any] | None:
    """The event of a line; None if it has none."""
    try:
        found = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("event"), str):
        return None
    step = found.get("step", None if found["event"] == "train" else 0)
    return found if isinstance(step, int) and isinstance(found.get("time"), int | float) else None


class Progress:
    """Images per second and time left: a line that is redrawn, or one now and then."""

    def __init__(self, name: str, total: int, unit_images: int, *, done: int = 0) -> None:
        self.name, self.total, self.unit_images = name, total, unit_images
        self.first = done
        self.start = self.last = time.monotonic()
        self.interval = 0.5 if any(map(_redraws, LOG.handlers)) else 10.0

    def update(self, done: int, note: str = "") -> None:
        """Report that ``done`` of ``total`` units are finished."""
        now = time.monotonic()
        if now - self.last < self.interval and done < self.total:
            return
        self.last = now
        rate = (done - self.first) / max(now - self.start, 1e-9)
        seconds = (self.total - done) / rate if rate else 0.0
        LOG.info(
            "%s: %d/%d, %.0f images/s, ETA %d:%02d%s",
            self.name,
            done,
            self.total,
            rate * self.unit_images,
            *divmod(round(seconds), 60),
            f", {note}" if note else "",
            extra={"redrawn": True, "last": done >= self.total},
        )


class _TerminalHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Progress lines overwrite each other, unless others may write to the terminal, too."""

    def __init__(self, *, alone: bool) -> None:
        super().__init__(sys.stderr)
        self.redraws = alone and sys.stderr.isatty()

    def emit(self, record: logging.LogRecord) -> None:
        if self.redraws and getattr(record, "redrawn", False):
            redraw(record.getMessage(), self.stream, stays=True)
            if getattr(record, "last", False):
                clean_line(self.stream)
        else:
            clean_line(self.stream)
            super().emit(record)


def _redraws(handler: logging.Handler) -> bool:
    return isinstance(handler, _TerminalHandler) and handler.redraws


def to_log_file(text: str) -> None:
    """Write to the log file alone, if there is one; people are told in one line."""
    for handler in LOG.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(LOG.makeRecord(LOG.name, logging.ERROR, "", 0, "%s", (text,), None))


class _LogFile(logging.FileHandler):
    """Ends with one line on standard error where the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:
        """In an ``except`` clause: what is raised has ended the log."""
        LOG.removeHandler(self)
        with suppress(OSError):
            self.close()
        reason = getattr(sys.exc_info()[1], "strerror", None) or sys.exc_info()[1]
        LOG.error("mclr: %s: the log ends here: %s", self.baseFilename, reason)


def set_up_logging(log_file: Path | None, *, progress: bool = True) -> None:
    """Send progress and messages to the terminal and, if given, to a log file.

    Without ``progress`` only errors are sent. What has a log file is a job of the workflow: others
    run beside it, so nothing is redrawn.
    """
    LOG.setLevel(logging.INFO if progress else logging.ERROR)
    LOG.handlers.clear()
    LOG.propagate = False
    handlers: list[logging.Handler] = [_TerminalHandler(alone=log_file is None)]
    if log_file:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            file_handler = _LogFile(log_file, mode="w")
        except OSError as error:
            raise UserError(f"{log_file}: log cannot be written: {error.strerror}") from None
        file_handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        handlers.append(file_handler)
    for handler in handlers:
        LOG.addHandler(handler)

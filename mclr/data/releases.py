"""Published files that a tier needs: where each is kept, and how it gets there.

A file is known by its name in ``data/versions.csv``. Whoever has it already, or works where there
is no network, puts it into ``data/raw/released/`` or gives its path in the configuration.
"""

from __future__ import annotations

import csv
import time
import urllib.error
import urllib.request
from pathlib import Path

from mclr.data.raw import VERSIONS
from mclr.errors import UserError
from mclr.events import LOG
from mclr.files import sha256, write_text

FOLDER = Path("data", "raw", "released")
CHUNK = 1 << 20
PATIENCE_S = 60
TELL_S = 10
PAUSES_S = (1, 5, 20, 60, 0)
"""After a connection is lost, before it is tried again; the last is not followed by another."""


def _rows() -> dict[str, dict[str, str]]:
    """The rows of ``data/versions.csv`` by name."""
    with VERSIONS.open(newline="") as stream:
        return {row["name"]: row for row in csv.DictReader(stream)}


def released_row(name: str) -> dict[str, str] | None:
    """The row of ``data/versions.csv`` for a published file; None if there is none."""
    return _rows().get(name)


def licences(name: str) -> list[str]:
    """The licences of a release, which may have several files; empty if it is none."""
    rows = _rows().items()
    return list(
        dict.fromkeys(r["licence"] for key, r in rows if key == name or key.startswith(f"{name}/"))
    )


def released_paths(name: str) -> list[Path]:
    """Where the file (or files) of a release lie: in ``data/raw/released``, or the given path.

    A release of several files has a row ``<name>/<part>`` for each.

    Raises:
        UserError: neither a known name nor a path.
    """
    rows = _rows()
    found = [row["file"] for key, row in rows.items() if key == name or key.startswith(f"{name}/")]
    if found:
        return [FOLDER / file for file in found]
    if "/" in name or Path(name).suffix:
        return [Path(name)]
    raise UserError(
        f"released: {name!r} is neither a name in {VERSIONS.parent.name}/{VERSIONS.name} nor the "
        "path of a file; add a row for it there, or give the path of your copy"
    )


def fetch_released(file: str, output: Path) -> None:
    """Download a published file, by its name on disk, going on where an attempt stopped before.

    Its sha256 is compared with ``data/versions.csv`` where one is known, else with that of the
    first copy that was fetched or used here.

    Raises:
        UserError: no such name, no connection after several attempts, or another content.
    """
    rows = [row for row in _rows().values() if row["file"] == file and row["url"]]
    if not rows:
        raise UserError(f"{output}: no file {file!r} with an address in {VERSIONS}; put it there")
    (row,) = rows
    part = output.with_name(f"{output.name}.part")
    output.parent.mkdir(parents=True, exist_ok=True)
    for pause in PAUSES_S:
        try:
            _download(row["url"], part)
            break
        except (OSError, urllib.error.URLError) as error:
            if not pause or _is_final(error):
                raise UserError(
                    f"{row['url']}: {error}. Get the file another way and put it at {output}; "
                    "what was downloaded so far is kept, and the same command goes on from there"
                ) from None
            LOG.warning("%s: %s; trying again in %d s", row["url"], error, pause)
            time.sleep(pause)
    try:
        _compare(part, output, row)
    except UserError:
        part.unlink()
        raise
    part.replace(output)


def check_released(path: Path) -> None:
    """Compare a published file, or all of a folder, with its sha256, or with what was here first.

    For files that are used, however they came; one's own copies elsewhere are taken as they are.

    Raises:
        UserError: another content.
    """
    for row in _rows().values():
        file = FOLDER / row["file"]
        if file.is_file() and (path == file or path in file.parents):
            _compare(file, file, row)


def _compare(content: Path, output: Path, row: dict[str, str]) -> None:
    """UserError if the content of ``output`` is not what it should be, or what it was at first.

    Where no sha256 is known, the first copy is trusted; ``<file>.sha256`` beside it, which is of
    this machine's user and not under version control, remembers it.
    """
    found, record = sha256(content), output.with_name(f"{output.name}.sha256")
    if row["sha256"] and found != row["sha256"]:
        raise UserError(
            f"{output}: got {found[:12]}…, expected sha256 {row['sha256'][:12]}… "
            f"({VERSIONS.name}, {row['name']}); remove it if it is there, and run the command again"
        )
    first = record.read_text().split()[:1] if record.is_file() else []
    if not row["sha256"] and first and found != first[0]:
        raise UserError(
            f"{output}: got {found[:12]}…, but the first copy here was sha256 {first[0][:12]}… "
            f"({record}). If its publisher has a new version and you want that, remove {record} "
            "and run the command again; results made before are of the first copy"
        )
    if first != [found]:
        if not row["sha256"]:
            LOG.info("%s: no sha256 is published; %s is remembered in %s", output, found, record)
        write_text(record, f"{found}  {output.name}\n")


def _is_final(error: Exception) -> bool:
    """Whether trying again is useless: the server's word, not a lost connection."""
    return isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429


# RFC 9110, 14.2: bytes=n- asks for all from byte n; 206 says that this is what comes.
def _download(url: str, part: Path) -> None:
    """Append to ``part`` what is missing of the content of ``url``."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is missing
            return
        raise
    with answer:
        if answer.status != 206:
            have = 0
        left = int(answer.headers.get("Content-Length") or 0)
        told = time.monotonic()
        with part.open("ab" if have else "wb") as file:
            while block := answer.read(CHUNK):
                file.write(block)
                if time.monotonic() - told > TELL_S:
                    told = time.monotonic()
                    LOG.info(
                        "%s: %.0f of %.0f MB", part.stem, file.tell() / 1e6, (have + left) / 1e6
                    )
            size = file.tell()
    if left and size < have + left:
        raise OSError(f"the connection ended after {size:,} of {have + left:,} bytes")

"""Published files: names, downloads that go on where they broke off, checks."""

from __future__ import annotations

import csv
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from mclr.data import releases as module
from mclr.data.raw import VERSIONS
from mclr.data.releases import FOLDER, check_released, fetch_released, released_paths
from mclr.errors import UserError
from mclr.files import sha256

CONTENT = bytes(range(256)) * 20_000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; the first answer breaks off in the middle."""

    broken = False
    content = CONTENT
    ranges: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        Server.ranges.append(wanted)
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(self.content) - begin))
        self.end_headers()
        body = self.content[begin:]
        if not Server.broken:
            Server.broken, body = True, body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Server.broken, Server.ranges = False, []
    monkeypatch.setattr(module, "PAUSES_S", (0.01, 0))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/x.bin"
        server.shutdown()
        thread.join()


def versions(folder: Path, url: str, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = folder / "versions.csv"
    table.write_text(
        f"name,version,file,url,sha256,bytes,licence\nx,1,x.bin,{url},{digest},,MIT\n"
        "pair/a,1,pair/a,http://nowhere/a,,,MIT\npair/b,1,pair/b,http://nowhere/b,,,MIT\n"
    )
    monkeypatch.setattr(module, "VERSIONS", table)


def test_download_goes_on_where_it_broke_off(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions(tmp_path, address, "", monkeypatch)
    fetch_released("x.bin", tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert Server.ranges == ["", f"bytes={len(CONTENT) // 2}-"]
    digest = sha256(tmp_path / "x.bin")
    assert (tmp_path / "x.bin.sha256").read_text() == f"{digest}  x.bin\n"


def test_other_content_is_thrown_away(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions(tmp_path, address, "0" * 64, monkeypatch)
    with pytest.raises(UserError, match="expected sha256 000000000000"):
        fetch_released("x.bin", tmp_path / "x.bin")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["versions.csv"]


def test_a_first_copy_is_remembered_and_a_later_change_refused(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trust on first use: the record is beside the download and outlives it."""
    versions(tmp_path, address, "", monkeypatch)
    Server.broken = True  # not once more
    file, record = tmp_path / "x.bin", tmp_path / "x.bin.sha256"
    fetch_released("x.bin", file)
    first = record.read_text()
    file.unlink()
    fetch_released("x.bin", file)
    assert file.read_bytes() == CONTENT and record.read_text() == first
    file.unlink()
    monkeypatch.setattr(Server, "content", CONTENT[:-1] + b"x")
    with pytest.raises(UserError, match=r"but the first copy here was .* remove .*x\.bin\.sha"):
        fetch_released("x.bin", file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["versions.csv", "x.bin.sha256"]
    record.unlink()  # as the message says
    fetch_released("x.bin", file)
    assert file.read_bytes()[-1:] == b"x" and record.read_text() != first


def test_files_that_are_used_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they came: with the table, or with what was used here first."""
    versions(tmp_path, "", sha256_of(b"right"), monkeypatch)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    (tmp_path / "pair").mkdir()
    for name, content in (("x.bin", b"right"), ("pair/a", b"a"), ("pair/b", b"b")):
        (tmp_path / name).write_bytes(content)
    check_released(tmp_path / "x.bin")
    check_released(tmp_path / "pair")  # a release of several files is a folder
    check_released(tmp_path / "pair")
    (tmp_path / "pair/b").write_bytes(b"c")
    with pytest.raises(UserError, match=r"pair/b: got .* the first copy here"):
        check_released(tmp_path / "pair")
    (tmp_path / "x.bin").write_bytes(b"wrong")
    with pytest.raises(UserError, match=r"x\.bin: got .*, expected sha256"):
        check_released(tmp_path / "x.bin")
    own = tmp_path / "own.pkl"
    own.write_bytes(b"1")
    check_released(own)
    assert not (tmp_path / "own.pkl.sha256").exists()


def test_a_digest_is_known_or_empty() -> None:
    """Of every file of the table; many publishers give none."""
    with VERSIONS.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    known = [row for row in rows if row["sha256"]]
    assert all(re.fullmatch("[0-9a-f]{64}", row["sha256"]) and row["bytes"] for row in known)
    assert len({row["sha256"] for row in known}) == len(known)
    unknown = {row["name"] for row in rows} - {row["name"] for row in known}
    without = ("edm2-", "ddo-", "cca-", "gft-")
    assert all(name.startswith(without) or name == "var-d24" for name in unknown)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_no_connection_names_the_place_for_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (0.01, 0))
    versions(tmp_path, "http://127.0.0.1:9/x.bin", "", monkeypatch)
    with pytest.raises(UserError, match=r"Get the file another way and put it at .*x\.bin"):
        fetch_released("x.bin", tmp_path / "x.bin")


def test_names_of_released_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions(tmp_path, "http://nowhere", "", monkeypatch)
    assert released_paths("x") == [FOLDER / "x.bin"]
    assert released_paths("pair") == [FOLDER / "pair/a", FOLDER / "pair/b"]
    assert released_paths("/my/own.pkl") == [Path("/my/own.pkl")]
    with pytest.raises(UserError, match=r"'y' is neither a name in .* nor the path of a file"):
        released_paths("y")

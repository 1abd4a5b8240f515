"""Files are whole or absent, whatever goes wrong while they are written."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import resource
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch

from mclr.errors import UserError
from mclr.files import (
    _temporary,
    atomic,
    load_tensors,
    read_json,
    save_tensors,
    sha256,
    write_json,
    write_text,
)
from mclr.files.checksums import note_of


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "new.txt"
    write_text(path, "σ = 1")
    assert path.read_text(encoding="utf-8") == "σ = 1"
    assert names(path.parent) == ["new.txt"]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "old.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text("new, half")
        assert temporary.parent == path.parent
        raise ZeroDivisionError
    assert path.read_text() == "old" and names(tmp_path) == ["old.txt"]


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path: Path) -> None:
    """The new file takes the name of the old one; it is not written over it."""
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with path.open() as reader:
        write_text(path, "new")
        assert (reader.read(), path.read_text()) == ("old", "new")


def test_full_disk_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.json"
    path.write_text("old")

    def full(self: Path, text: str, encoding: str) -> None:
        self.write_bytes(text.encode()[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"old\.json: cannot be written: No space left on device"):
        write_json(path, {"a": 1})
    assert path.read_text() == "old" and names(tmp_path) == ["old.json"]


def test_full_disk_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Safetensors reports a full disk as an exception of its own, which is no OSError."""
    from safetensors import SafetensorError

    path = tmp_path / "net.safetensors"

    def full(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UserError, match=r"net\.safetensors: cannot be written: .*No space left"):
        save_tensors(path, {"a": torch.ones(3)}, {})
    assert names(tmp_path) == []


LIMITED = """
import resource, sys
from pathlib import Path
import pyarrow as pa, torch
from mclr.errors import UserError
from mclr.files import save_tensors, write_text
from mclr.metrics.features import stream_features

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
folder, table = Path(sys.argv[1]), pa.table({"a": list(range(9000))})
for write in (
    lambda: write_text(folder / "big.txt", "x" * 5000),
    lambda: save_tensors(folder / "big.safetensors", {"a": torch.ones(5000)}, {"k": "v"}),
    lambda: stream_features(folder / "big.parquet", [table]),
):
    try:
        write()
    except UserError as error:
        print(error)
write_text(folder / "small.txt", "fits")
"""


def test_real_limit_of_file_size(tmp_path: Path) -> None:
    """The operating system refuses to write on: a UserError for each kind of file."""
    found = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    for line, suffix in zip(lines, ("txt", "safetensors", "parquet"), strict=True):
        assert line.startswith(f"{tmp_path}/big.{suffix}: cannot be written: "), line
        assert "File too large" in line
    assert names(tmp_path) == ["small.txt"]


def test_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"file/new\.txt: cannot be written: File exists"):
        write_text(tmp_path / "file" / "new.txt", "x")


def test_sha256(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256(path) == hashlib.sha256(b"abc").hexdigest()


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": [1, None], "a": 0.1})
    assert path.read_text() == '{\n  "a": 0.1,\n  "b": [\n    1,\n    null\n  ]\n}\n'
    assert read_json(path) == {"a": 0.1, "b": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert read_json(path) == {"a": 0.1, "b": [1, None]}


def test_json_missing_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(UserError, match=r"a\.json: file is missing; run `snakemake`"):
        read_json(path)
    path.write_text('{"a": ')
    with pytest.raises(UserError, match=r"a\.json: not valid JSON .*delete it"):
        read_json(path)


def test_tensors_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    tensors = {
        "a": torch.arange(6.0).view(2, 3).T,
        "b": torch.tensor(3),
        "c": torch.rand(2, dtype=torch.float64, requires_grad=True),
    }
    save_tensors(path, tensors, {"name": 'γ "q" \\ \n', "step": "1"})
    loaded, metadata = load_tensors(path)
    assert metadata == {"name": 'γ "q" \\ \n', "step": "1"}
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor.detach()) and loaded[name].dtype == tensor.dtype


def test_equal_content_equal_bytes(tmp_path: Path) -> None:
    """The library writes metadata in random order; hashes of checkpoints must not depend on it."""
    metadata = {str(i): str(i) for i in range(8)}
    for i in range(5):
        save_tensors(tmp_path / str(i), {"a": torch.ones(2)}, metadata)
    assert len({sha256(tmp_path / str(i)) for i in range(5)}) == 1


def test_no_metadata(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", {"a": torch.ones(2)}, {})
    assert load_tensors(tmp_path / "a")[1] == {}


def test_damaged_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    with pytest.raises(UserError, match=r"net\.safetensors: checkpoint is missing"):
        load_tensors(path)
    save_tensors(path, {"a": torch.ones(100)}, {"step": "1"})
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:40], whole[:4], b"", b"PK\x03\x04" + whole):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"net\.safetensors: checkpoint is truncated or not"):
            load_tensors(path)


# ------------------------------------------------------------------ killed writers


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "figure.pdf"
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from mclr.files import atomic\n"
        "with atomic(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run((sys.executable, "-c", program, path)).returncode == -9
    (left,) = names(tmp_path)
    others = [
        _temporary(path, os.getpid()).name,  # at work
        left.removesuffix(".tmp") + "-other.tmp",  # of another machine
        left.replace("figure", "figures"),  # of another file
    ]
    for name in others[1:]:
        (tmp_path / name).touch()
    with atomic(path) as temporary:
        temporary.write_text("whole")
        assert names(tmp_path) == sorted(others)
    assert names(tmp_path) == sorted([*others[1:], "figure.pdf"])


def test_dvc_and_git_pass_over_what_is_beside_results() -> None:
    """A published folder has results alone."""
    root = Path(__file__).resolve().parents[1]
    path = Path("results", "theory", "figure.pdf")
    for name in (_temporary(path, 1).name, note_of(path).name):
        for ignore in (".dvcignore", ".gitignore"):
            patterns = (root / ignore).read_text().splitlines()
            assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns if pattern), ignore


def test_a_full_disk_that_a_library_hides_is_told(tmp_path: Path) -> None:
    """As Matplotlib does, whose PDF file is closed with an error of zlib."""
    told = r"a\.pdf: cannot be written: No space left on device"
    with pytest.raises(UserError, match=told), atomic(tmp_path / "a.pdf"):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise zlib.error("inconsistent stream state")
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", [".pdf", ".png"])
def test_a_figure_on_a_full_disk(suffix: str, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    from mclr.report.static import save

    figure = Figure()
    figure.subplots().imshow(torch.rand(200, 200).numpy())
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
        with pytest.raises(UserError, match=rf"a\{suffix}: cannot be written"):
            save(figure, tmp_path / f"a{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(tmp_path) == []

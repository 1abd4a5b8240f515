"""Files that are whole or absent: every result is written to a temporary name and renamed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mclr.errors import UserError
from mclr.files.checksums import check, note_of
from mclr.files.checksums import sha256 as sha256

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic(path: Path, *, noted: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it takes the name of ``path``.

    On any error the temporary file is removed and ``path`` is as before. A full disk is reported
    as a UserError that names the file. noted: whether readers are to compare the file with what
    was written, see ``mclr.files.checksums``.
    """
    temporary = _temporary(path, os.getpid())
    note = _temporary(note_of(path), os.getpid())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for name in (path, note_of(path)) if noted else (path,):
            _remove_left(name)
        yield temporary
        _sync(temporary)
        if noted:
            note.write_text(f"{sha256(temporary)}  {path.name}\n")
            _sync(note)
        note_of(path).unlink(missing_ok=True)
        temporary.replace(path)
        if noted:
            note.replace(note_of(path))
    except Exception as error:
        if (cause := _of_the_disk(error)) is None:
            raise
        raise UserError(
            f"{path}: cannot be written: {cause.strerror or cause}; nothing was left half-written. "
            "Free space or fix permissions, then run the same command again"
        ) from error
    finally:
        for left in (temporary, note):
            with suppress(OSError):
                left.unlink()


def _sync(path: Path) -> None:
    """Have the disk write a file before its name stands for it."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _of_the_disk(error: BaseException) -> OSError | None:
    """The OSError that an error is; or a full disk, which a library turned into another error."""
    if isinstance(error, OSError):
        return error
    earlier = None if isinstance(error, UserError) else error.__cause__ or error.__context__
    found = _of_the_disk(earlier) if earlier else None
    return found if found and found.errno in NO_ROOM else None


def _temporary(path: Path, process: int | str) -> Path:
    """Named after the process and its machine: several may share the disk."""
    return path.with_name(f".{path.name}.{process}@{os.uname().nodename}.tmp")


def _remove_left(path: Path) -> None:
    """Remove what killed processes of this machine left of ``path``."""
    start, end = (f"{part}" for part in _temporary(path, "\n").name.split("\n"))
    for name in os.listdir(path.parent):
        process = name.removeprefix(start).removesuffix(end)
        if name == f"{start}{process}{end}" and process.isdigit() and not _runs(int(process)):
            path.with_name(name).unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left of ``atomic`` files; only for who alone writes here."""
    for unfinished in folder.glob(".*.tmp"):
        unfinished.unlink()


def write_text(path: Path, text: str, *, noted: bool = False) -> None:
    """Write a text file whole; noted: see ``atomic``."""
    with atomic(path, noted=noted) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object, *, noted: bool = False) -> None:
    """Write JSON, indented and with a final newline; noted: see ``atomic``."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    write_text(path, text, noted=noted)


def write_yaml(path: Path, content: object) -> None:
    """Write YAML, keys in their own order."""
    import yaml

    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def read_json(path: Path, *keys: str) -> Any:
    """Read JSON; a missing or damaged file is a UserError that names it.

    keys: those of the object that it must be, if any are given.
    """
    check(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if keys and not (isinstance(content, dict) and content.keys() >= set(keys)):
            raise ValueError(f"expected an object with {', '.join(keys)}")
        return content
    except FileNotFoundError:
        raise UserError(f"{path}: file is missing; run `snakemake` to make it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not valid JSON of its kind ({error}); delete it and run `snakemake` again, "
            f"or `dvc checkout --force {path}` if it is published"
        ) from None


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet table; a missing or damaged file is a UserError that names it."""
    import pandas as pd
    import pyarrow as pa

    if not path.is_file():
        raise UserError(f"{path}: no results yet; run `snakemake` or `dvc pull`")
    check(path)
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise UserError(
            f"{path}: not a readable Parquet table ({' '.join(str(error).split())}); delete it and "
            f"run `snakemake` again, or `dvc checkout --force {path}` if it is published"
        ) from None


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, noted: bool = False
) -> None:
    """Write a safetensors file whole; equal content gives equal bytes. noted: see ``atomic``."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with atomic(path, noted=noted) as temporary:
        try:
            save_file(contiguous, temporary, dict(metadata))
        except SafetensorError as error:
            raise OSError(str(error)) from error
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file in order: the library writes it in any order."""
    with path.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        stream.seek(8)
        stream.write(text.ljust(length))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: tensors on the CPU, and its metadata.

    Raises:
        UserError: the file is missing, truncated, not safetensors, or not what was written.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"{path}: checkpoint is missing; run `snakemake` (or `dvc pull`) to get it")
    check(path)
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            return tensors, stored.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: checkpoint is truncated or not safetensors ({error}); "
            "delete it and run `snakemake` again"
        ) from None

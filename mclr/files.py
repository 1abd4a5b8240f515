"""Files that are whole or absent: every result is written to a temporary name and renamed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mclr.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it takes the name of ``path``.

    On any error the temporary file is removed and ``path`` is as before. A full disk is reported
    as a UserError that names the file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror or error}; nothing was left half-written. "
            "Free space or fix permissions, then run the same command again"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left of ``atomic`` files; only for who alone writes here."""
    for unfinished in folder.glob(".*.tmp"):
        unfinished.unlink()


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Write JSON, indented and with a final newline."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_yaml(path: Path, content: object) -> None:
    """Write YAML, keys in their own order."""
    import yaml

    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def read_json(path: Path) -> Any:
    """Read JSON; a missing or damaged file is a UserError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: file is missing; run `snakemake` to make it") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and run again") from None


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whole; equal content gives equal bytes."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
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
        UserError: the file is missing, truncated or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"{path}: checkpoint is missing; run `snakemake` (or `dvc pull`) to get it")
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            return tensors, stored.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: checkpoint is truncated or not safetensors ({error}); "
            "delete it and run `snakemake` again"
        ) from None

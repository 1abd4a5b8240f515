"""Classes of somebody's own, named as ``path/to/file.py:Class``: found, and loaded.

Their code runs, so it is taken only from where a configuration of the user's own says, and never
from below the folders that hold what others made.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import TypeVar

from mclr.errors import UserError

T = TypeVar("T")
OWN = "own_"
"""How the modules that are loaded here are called."""
FROM_OTHERS = ("results", "data")
"""Folders of weights, data and results, which may come from others."""
WORKSPACE = ("Snakefile", "dvc.yaml", ".dvc", ".snakemake")
"""What tells that a folder with one of those is the one in which the workflow runs."""


def source_of(implementation: str) -> Path:
    """The file of ``path/to/file.py:Class``.

    Raises:
        UserError: there is none, or it is where code is not taken from.
    """
    path, _, name = implementation.rpartition(":")
    if not name or not Path(path).is_file():
        raise UserError(
            f"implementation: {implementation!r}: expected path/to/file.py:Class, with a path "
            "from the folder in which Snakemake runs"
        )
    if place := of_others(Path(path)):
        raise UserError(
            f"implementation: {path}: no code is run from {place}, which holds what may come from "
            "others; move the file, if it is yours"
        )
    return Path(path)


def of_others(path: Path) -> str:
    """The folder of weights, data or results that a file lies in, as told to people; else ''.

    Wherever the command runs: below ``results/`` and ``data/`` of this folder or of one further up
    that a workflow runs in, and in a model folder.
    """
    path = path.resolve()
    for folder in path.parents:
        if folder.name in FROM_OTHERS:
            place = folder.parent
            if place == Path.cwd() or any((place / name).exists() for name in WORKSPACE):
                return f"below {folder.name}"
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            return f"the model folder {folder.name}"
    return ""


def _beside(names: set[str]) -> list[str]:
    """Those modules that are neither installed nor of this package."""
    installed = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[1]]
    files = {name: getattr(sys.modules[name], "__file__", None) for name in names}
    return sorted(
        name
        for name, file in files.items()
        if file
        and Path(file).is_absolute()  # torch.classes calls itself a file of no folder
        and not name.startswith(OWN)
        and not any(Path(file).resolve().is_relative_to(p.resolve()) for p in installed)
    )


def raised_in(path: Path, error: BaseException) -> str:
    """An error in a file of the user's, in one line: file, line, kind, words."""
    steps = traceback.extract_tb(error.__traceback__)
    lines = [step.lineno for step in steps if Path(step.filename).resolve() == path.resolve()]
    where = f"{path}:{lines[-1]}" if lines else str(path)
    return f"{where}: {type(error).__name__}: {' '.join(str(error).split())}"


def find_class(implementation: str, base: type[T], place: str) -> type[T]:
    """The class that ``path/to/file.py:Class`` names; its file is run.

    base: what it must be derived from; place: where that is to be imported from.

    Raises:
        UserError: no such file or class, an error in the file, or not derived from ``base``.
    """
    path = source_of(implementation)
    name = implementation.rpartition(":")[2]
    key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"{OWN}{path.stem}_{key}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"implementation: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    known = set(sys.modules)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"implementation: {raised_in(path, error)}") from error
    if beside := _beside(set(sys.modules) - known):
        raise UserError(
            f"implementation: {path} imports {beside[0]}, a file whose edits would not be noticed: "
            "runs depend on this one file. Put the code into it, or install a package"
        )
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"implementation: {path} has no class {name} derived from {place}")
    return found

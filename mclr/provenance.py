"""Where a result comes from: commit, machine and package versions.

These facts vary between machines and moments, so they are kept beside results and in tracking
tags, never inside files that are compared by content.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "torch-fidelity", "numpy", "pandas", "snakemake", "dvc", "mlflow")


def _git(*arguments: str) -> str:
    if shutil.which("git") is None:
        return ""
    result = subprocess.run(("git", *arguments), capture_output=True, text=True, cwd=ROOT)
    return result.stdout.strip() if result.returncode == 0 else ""


def git_commit() -> str:
    """The commit of the code, or an empty string outside a repository."""
    return _git("rev-parse", "HEAD")


def git_dirty() -> bool:
    """Whether code or configuration differ from the commit; results do not count."""
    return bool(_git("status", "--porcelain", "--", "mclr", "workflow", "config", "Snakefile"))


def hardware() -> str:
    """Processor (and accelerator) of this machine, in words."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.machine()
    # Only Linux tells how many cores this process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = f"{cpu}, {cores} cores"
    if shutil.which("nvidia-smi"):
        query = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
        found = subprocess.run(query, capture_output=True, text=True).stdout.strip()
        words += f", {found.replace(chr(10), ', ')}" if found else ""
    return words


def collect(**facts: Any) -> dict[str, Any]:
    """Provenance of one result; ``facts`` (data hash, config hash …) are added as they are."""
    return {
        "git_commit": git_commit(),
        "git_dirty": git_dirty(),
        "hardware": hardware(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        **facts,
    }


def code_digest(*modules: str) -> str:
    """Digest of the given modules and of every ``mclr`` module they import, comments aside.

    Two sources with the same syntax tree (docstrings removed) have the same digest, so that an
    edit of words does not re-run a job, and an edit of code does.
    """
    pending, seen = list(modules), set[str]()
    digest = hashlib.sha256()
    while pending:
        module = pending.pop()
        if module not in seen:
            seen.add(module)
            pending += _imports(module)
    for module in sorted(seen):
        digest.update(module.encode() + b"\n" + _digest(_tree(module)))
    return digest.hexdigest()[:16]


# To write a tree out takes milliseconds, and the Snakefile of a sweep asks for hundreds of rules.
@cache
def _digest(tree: ast.Module) -> bytes:
    return hashlib.sha256(ast.dump(tree).encode()).digest()


def _source(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _tree(module: str) -> ast.Module:
    source = _source(module)
    if source is None:
        raise ModuleNotFoundError(f"{module} is not a module of this project")
    tree = ast.parse(source.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            body.pop(0)
    return tree


def _is_docstring(node: ast.AST) -> bool:
    constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return constant and isinstance(node.value.value, str)  # type: ignore[attr-defined]


@cache
def _imports(module: str) -> list[str]:
    names: list[str] = []
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.startswith("mclr.") and _source(name)]

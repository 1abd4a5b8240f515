"""MLflow stays out of every job: nothing outside ``mclr.tracking`` imports it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "mclr"


def imported(file: Path) -> set[str]:
    """First parts of the names of all modules that a file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


def test_only_tracking_imports_mlflow() -> None:
    users = {
        file.relative_to(PACKAGE).parts[0]
        for file in PACKAGE.rglob("*.py")
        if "mlflow" in imported(file)
    }
    assert users == {"tracking"}


def test_records_know_nothing_of_mlflow() -> None:
    assert "mlflow" not in imported(PACKAGE / "tracking" / "records.py")


def test_importing_tracking_does_not_load_mlflow() -> None:
    code = "import sys, mclr.tracking; sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)

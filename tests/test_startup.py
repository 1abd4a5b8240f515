"""A job loads what it uses and nothing else; the libraries below take from 0.1 s to 4 s each."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mclr.cli import JOBS

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    *("torch", "torch._dynamo", "torch.distributed.fsdp", "torchvision", "torch_fidelity"),
    *("diffusers", "timm", "sklearn", "scipy", "pandas", "matplotlib", "plotly", "jinja2"),
    *("mlflow", "sqlalchemy", "dvc", "snakemake"),
}
TABLE = {"pandas"}
# What the job of each command may have loaded when its work begins.
MAY_LOAD: dict[str, set[str]] = {
    "fetch": set(),
    "prepare": {"pandas", "sklearn", "scipy"},  # the stratified split is scikit-learn's
    "prepare_images": set(),
    "feature_net": {"torch"},
    "tokenizer": {"torch"},
    "encode": {"torch"},
    "base": {"torch"},
    "negatives": {"torch"},
    "finetune": {"torch"},
    "sample": {"torch"},
    "evaluate": {"torch"},
    "floors": {"torch"},
    "select": set(),
    "best": set(),
    "metrics": set(),
    "effective_config": set(),
    "table": TABLE,
    "figures": TABLE,
    "report": TABLE,
    "claims": {"pandas", "scipy"},
    "similarity": {"pandas", "torch", "matplotlib"},
    "separation": {"torch", "pandas"},
    "fetch_released": set(),
    "import_base": {"torch"},
    "import_tokenizer": {"torch"},
    "published_net": {"torch"},
    "theory": {"torch"},
    "theory_page": {"torch"},
}


def imports_of(command: str) -> str:
    """The import statements in the body of a job's command, as a program."""
    (callback,) = [job.callback for job in JOBS if job.name == command.replace("_", "-")]
    body = ast.parse(textwrap.dedent(inspect.getsource(callback)))
    found = [n for n in ast.walk(body) if isinstance(n, ast.Import | ast.ImportFrom)]
    return "\n".join(ast.unparse(node) for node in found)


def loaded_by(program: str) -> set[str]:
    """The heavy modules in memory after a program has run in a fresh interpreter."""
    code = f"import mclr.cli\n{textwrap.dedent(program)}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        (sys.executable, "-c", code), cwd=ROOT, capture_output=True, text=True, check=True
    )
    return HEAVY & set(done.stdout.split())


def test_every_job_of_the_rules_is_listed() -> None:
    rules = "\n".join(file.read_text() for file in (ROOT / "workflow" / "rules").glob("*.smk"))
    for command in MAY_LOAD:
        assert f" {command.replace('_', '-')}" in rules, command
    assert {str(job.name).replace("-", "_") for job in JOBS} == MAY_LOAD.keys()


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """What each job's imports load, found out beside each other."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(loaded_by, map(imports_of, MAY_LOAD))
        return dict(zip(MAY_LOAD, found, strict=True))


@pytest.mark.parametrize("command", MAY_LOAD)
def test_a_job_loads_only_what_it_uses(command: str, loaded: dict[str, set[str]]) -> None:
    assert loaded[command] <= MAY_LOAD[command]


@pytest.mark.parametrize(
    ("module", "libraries"),
    [
        ("mclr", set()),
        ("mclr.report.table", {"pandas"}),
        ("mclr.report.curves", {"pandas"}),
        ("mclr.report.grids", {"pandas", "matplotlib"}),
        ("mclr.report.page", {"pandas", "plotly", "jinja2"}),
        ("mclr.data.load", set()),
        ("mclr.models", set()),
        ("mclr.metrics", set()),
        ("mclr.objectives", set()),
        ("mclr.planning.own", set()),
        ("mclr.forks.server", set()),
        ("mclr.report.names", set()),
    ],
)
def test_each_view_loads_its_own_library(module: str, libraries: set[str]) -> None:
    assert loaded_by(f"import {module}") == libraries


def test_help_answers_at_once() -> None:
    """Half a second is promised on a quiet machine: the best of a few, to be fair to a busy one."""
    times = []
    for _ in range(5):
        start = time.monotonic()
        subprocess.run(
            (sys.executable, "-m", "mclr", "--help"), cwd=ROOT, check=True, capture_output=True
        )
        times.append(time.monotonic() - start)
    assert min(times) < 0.5, times


def test_a_command_that_is_handed_over_imports_next_to_nothing() -> None:
    """Only what `python -m mclr` needs to find its fork server; not even click."""
    code = "import sys; before = {*sys.modules}\nimport mclr.forks.handover\n"
    code += "print(*{m.partition('.')[0] for m in {*sys.modules} - before})"
    done = subprocess.run(
        (sys.executable, "-c", code), cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = {name for name in done.stdout.split() if not name.startswith("_")}
    assert found - sys.stdlib_module_names == {"mclr"}
    assert len(found) < 40, found


def test_what_jobs_import_is_in_the_process_that_they_are_forks_of(
    loaded: dict[str, set[str]],
) -> None:
    """Of the jobs that there are many of: a fork of it imports no heavy library itself."""
    from mclr.forks.server import PRELOADED

    there = loaded_by("\n".join(f"import {module}" for module in PRELOADED))
    for command in ("base", "finetune", "sample", "negatives", "encode", "tokenizer", "evaluate"):
        assert loaded[command] <= there, command

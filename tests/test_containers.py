"""Dockerfile and apptainer.def: what they copy is there and enough; built where a builder works."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DEFINITION = (ROOT / "apptainer.def").read_text()
PAGE = (ROOT / "docs" / "containers.md").read_text()
HOME = "/opt/mclr"


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def copied() -> dict[str, str]:
    """Where the Dockerfile puts each file of the checkout."""
    found: dict[str, str] = {}
    for what, rest in instructions():
        if what == "COPY":
            *sources, target = rest.split()
            for source in sources:
                place = f"{target}{Path(source).name}" if target.endswith("/") else target
                found[source] = f"{HOME}/{place.removeprefix('./')}"
    return found


def sections() -> dict[str, list[str]]:
    """The lines of each section of the definition; those before the first one are in ``''``."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in map(str.strip, DEFINITION.splitlines()):
        if line.startswith("%"):
            found[name := line[1:]] = []
        elif line and not line.startswith("#"):
            found[name].append(line)
    return found


def test_the_dockerfile_is_one() -> None:
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ARG", "ENV", "CMD"}
    names = [what for what, _ in instructions()]
    assert names[0] == "FROM" and set(names) <= known
    assert f"{HOME}/.venv/bin:" in dict(instructions())["ENV"]


def test_what_is_copied_is_in_the_repository() -> None:
    tracked = subprocess.run(
        ("git", "ls-files"), cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for source in copied():
        assert any(path == source or path.startswith(f"{source}/") for path in tracked), source


def test_dockerignore_lets_through_what_is_copied_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    assert rules[0] == "*" and kept == [*copied()]
    assert any(fnmatch.fnmatch("mclr/__pycache__", rule) for rule in rules[1:])


def test_both_are_the_same() -> None:
    found = sections()
    assert dict(line.split() for line in found["files"]) == copied()
    base = dict(line.split(": ") for line in found[""])
    assert base == {"Bootstrap": "docker", "From": dict(instructions())["FROM"]}
    run = " && ".join(rest for what, rest in instructions() if what == "RUN")
    commands = [" ".join(part.split()) for part in run.split("&&")]
    post = [line for line in found["post"] if not line.startswith("cd ")]
    assert [command.removesuffix(" CPU=$CPU") for command in commands] == post
    assert found["environment"] == [f"export PATH={HOME}/.venv/bin:$PATH"]


def test_what_is_copied_is_enough_to_install(tmp_path: Path) -> None:
    """The steps of `make env` find their files; a package built of them reads its own."""
    place = tmp_path / "mclr"
    for source, target in copied().items():
        to = tmp_path / Path(target).relative_to("/opt")
        to.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, to, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / source, to)
    steps = subprocess.run(
        ("make", "--dry-run", "env", f"PYTHON={sys.executable}"),
        cwd=place, capture_output=True, text=True,
    )  # fmt: skip
    assert steps.returncode == 0 and "requirements.lock" in steps.stdout, steps.stderr
    subprocess.run(
        (
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--target", str(tmp_path / "site"), str(place)),
        ),
        check=True,
    )
    program = (
        "from mclr.data.releases import released_row; print(released_row('digits')['licence'])"
    )
    done = subprocess.run(
        (sys.executable, "-P", "-c", program),
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "CC BY 4.0\n", done.stderr


def test_the_page_names_the_commands_of_the_files() -> None:
    for text in (DOCKERFILE, DEFINITION):
        command = re.findall(r"^#   (.*)$", text, re.M)[0]
        assert command in PAGE.splitlines()


def test_the_image_is_that_of_the_workflow(tmp_path: Path) -> None:
    """Jobs have it where it is named, and none otherwise."""
    program = """
import sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings
with SnakemakeApi(OutputSettings()) as api:
    workflow = api.workflow(
        resource_settings=ResourceSettings(cores=1), snakefile=Path(sys.argv[1]),
        workdir=Path(sys.argv[2]), config_settings=ConfigSettings(configfiles=[Path(sys.argv[3])]),
    )._workflow
    print(sorted({str(rule.container_img) for rule in workflow.rules}))
"""
    for image in ("", "/images/mclr.sif"):
        done = subprocess.run(
            (
                *(sys.executable, "-c", program, str(ROOT / "Snakefile")),
                *(str(tmp_path), str(ROOT / "config" / "digits.yaml")),
            ),
            cwd=tmp_path, env=os.environ | {"MCLR_IMAGE": image}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1:] == [str([image or "None"])], done.stderr


def works(*command: str) -> bool:
    """Whether a builder is there, and answers."""
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.mark.skipif(not works("docker", "info"), reason="no Docker daemon answers")
def test_docker_builds_it() -> None:
    build = ("docker", "build", "--quiet", "--build-arg", "CPU=1", ".")
    built = subprocess.run(build, cwd=ROOT, check=True, capture_output=True, text=True)
    run = ("docker", "run", "--rm", built.stdout.strip(), "mclr", "schema")
    assert '"properties"' in subprocess.run(run, capture_output=True, text=True).stdout


@pytest.mark.skipif(not works("apptainer", "--version"), reason="no Apptainer")
def test_apptainer_builds_it(tmp_path: Path) -> None:
    image = str(tmp_path / "mclr.sif")
    subprocess.run(("apptainer", "build", image, "apptainer.def"), cwd=ROOT, check=True)
    run = ("apptainer", "run", image, "schema")
    assert '"properties"' in subprocess.run(run, capture_output=True, text=True).stdout

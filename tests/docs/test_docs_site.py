"""The documentation site: what its pages say of commands, messages and files is so."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
COMMANDS = (
    *("quickstart.md", "tutorial.md", "howto-data.md", "howto-objective.md", "howto-model.md"),
    *("howto-memory.md", "mlflow.md", "remotes.md"),
)


def commands(page: Path) -> list[str]:
    """The lines of a page's bash blocks."""
    blocks = re.findall(r"^( *)```bash\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [line.strip() for _, block in blocks for line in block.splitlines()]


# Run one by one, in ``test_every_command_of_the_first_pages_is_run`` of tests/workflow.
FIRST_PAGES = (ROOT / "README.md", DOCS / "quickstart.md", DOCS / "reproduce.md")
FIRST = {command for page in FIRST_PAGES for command in commands(page)}
# Commands that are not on these pages, and the test that runs them.
RUN_BY = {
    r".*(digit_images|tutorial|my-generator)": (
        "tests/workflow/test_tutorial.py",
        ("test_the_tutorial",),
    ),
    r"snakemake .*micro_batch=16 --dry-run all": (
        "tests/workflow/test_howtos.py",
        ("test_memory",),
    ),
    r"(mclr|snakemake) .*docs/examples/own_objective\.yaml.*": (
        "tests/workflow/test_howtos.py",
        ("test_own_objective_in_the_pipeline",),
    ),
    r"snakemake --configfile docs/examples/own_family\.yaml .*": (
        "tests/workflow/test_pipeline.py",
        ("test_a_family_of_ones_own_joins_the_dag",),
    ),
    r"workflow/mlflow-server.*|export MLFLOW_TRACKING_URI=.*": (
        "tests/tracking/test_team.py",
        ("test_eight_publish_at_once",),
    ),
    r"dvc remote (add|modify) --local .*": (
        "tests/workflow/test_remotes.py",
        ("test_what_one_pushes_another_pulls",),
    ),
    r"mkdir -p ~/\.config/fsspec|echo .*fsspec.*": (
        "tests/workflow/test_trust.py",
        (
            "test_host_keys_are_checked_as_documented",
            "test_the_agent_is_not_lent_as_documented",
        ),
    ),
    r"mkdir .*\.cache.*|dvc config --global core\.site_cache_dir .*": (
        "tests/workflow/test_trust.py",
        ("test_notes_of_dvc_are_the_users_own_as_documented",),
    ),
    r"rm -r .*site_cache_dir.*": (
        "tests/workflow/test_remotes.py",
        ("test_a_list_cut_short_is_dropped",),
    ),
    r"dvc (cache dir|config) --local .*|mkdir .*|chgrp .*|chmod .*|find .*": (
        "tests/workflow/test_cache.py",
        ("test_two_checkouts_share_a_cache", "test_two_users_share_a_cache"),
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_a_how_to_is_run_by_a_test(name: str) -> None:
    found = commands(DOCS / name)
    assert found
    for command in found:
        runs = [tests for pattern, tests in RUN_BY.items() if re.match(pattern, command)]
        assert runs or command in FIRST, command
        for file, tests in runs:
            text = (ROOT / file).read_text()
            assert all(f"def {test}(" in text for test in tests), file


def test_messages_of_the_faults_page_are_in_the_code() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    assert len(messages) > 15
    code = "".join(texts(path) for path in (ROOT / "mclr").rglob("*.py"))
    for message in messages:
        assert message in code + (ROOT / "Makefile").read_text(), message


def texts(path: Path) -> str:
    """All text in a module's strings, adjoining pieces joined."""
    constants = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)]
    return "\n".join(node.value for node in constants if isinstance(node.value, str))


def navigation(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    inner = entry.values() if isinstance(entry, dict) else entry
    return [page for part in inner for page in navigation(part)]


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    listed = navigation(yaml.safe_load(text)["nav"])
    assert sorted(listed) == sorted(str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md"))


def test_every_package_is_in_the_reference() -> None:
    text = "".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    documented = set(re.findall(r"^::: mclr\.(\w+)", text, re.MULTILINE))
    known = {p.stem for p in (ROOT / "mclr").iterdir() if p.suffix == ".py" or is_package(p)}
    assert known - documented == {"__init__", "__main__", "cli", "commands"}  # see commands.md


def is_package(path: Path) -> bool:
    return (path / "__init__.py").is_file()


def test_every_sampler_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "sampling.md").read_text()
    samplers = sorted((ROOT / "mclr" / "models").glob("*/sampler.py"))
    assert len(samplers) == 3
    for path in samplers:
        assert f"::: mclr.models.{path.parent.name}.sampler\n" in page


def test_citation_and_citation_page_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"] and citation["authors"] and citation["title"]
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text()
    page = (DOCS / "cite.md").read_text()
    (paper,) = citation["references"]
    assert paper["identifiers"][0]["value"].removeprefix("arXiv:") in page
    for author in paper["authors"]:
        assert f"{author['family-names']}, {author['given-names']}" in page


INCLUDE = re.compile(r"<!-- include: (\S+)(?: \w+)? -->\n(.*?)\n<!-- end of include -->", re.DOTALL)


def test_readers_of_the_files_see_links_and_the_site_the_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No page shows a marker of inclusion; what stands in its place links to the file itself."""
    monkeypatch.syspath_prepend(ROOT / "workflow")
    hooks = importlib.import_module("site_hooks")
    found = 0
    for page in DOCS.rglob("*.md"):
        text = page.read_text()
        assert "--8<--" not in text, page
        assert text.count("<!-- include: ") == len(INCLUDE.findall(text)), page
        for marker, shown in INCLUDE.findall(text):
            found += 1
            name = marker.split(":")[0]
            (link,) = re.findall(r"^\[`[^`]+`\]\((\S+)\)$", shown)
            assert (page.parent / link).resolve() == ROOT / name and (ROOT / name).is_file()
            made = hooks.on_page_markdown(text)
            assert f'--8<-- "{marker}"' in made and shown not in made
    assert found >= 10

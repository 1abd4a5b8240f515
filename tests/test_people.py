"""Commands for people: they find the checkout, and make no folders that nobody asked for."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from mclr import cli
from mclr.commands.people import InCheckout, Written

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What looks like one, with a folder below and images beside it."""
    folder = tmp_path / "checkout"
    for name in ("config", "docs/deep", "results"):
        (folder / name).mkdir(parents=True)
    (folder / "Snakefile").touch()
    shutil.copy(ROOT / "config" / "digits.yaml", folder / "config")
    (folder / "docs" / "mine.yaml").write_text("tier: mine")
    return folder


@pytest.fixture
def mclr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs ``mclr …`` in a folder: exit status, standard output, standard error."""

    def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["mclr", *arguments])
        try:
            cli.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        else:
            status = 0
        return status, *capsys.readouterr()

    return run


@click.command(cls=InCheckout)
@click.option("--source", type=click.Path())
@click.option("--config", type=click.Path(path_type=Path), default="config/digits.yaml")
@click.option("--output", type=Written(path_type=Path))
def works(**given: Any) -> None:
    click.echo(
        json.dumps({name: str(path) for name, path in given.items()} | {"cwd": str(Path.cwd())})
    )


def worked(*arguments: str) -> dict[str, str]:
    found = CliRunner().invoke(works, arguments, catch_exceptions=False)
    return dict(json.loads(found.stdout))


@pytest.mark.parametrize("below", ["docs", "docs/deep"])
def test_paths_mean_the_same_from_a_folder_below(
    checkout: Path, below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout / below)
    up = "../" * (below.count("/") + 1)
    for config in (
        "config/digits.yaml",
        f"{up}config/digits.yaml",
        str(checkout / "config" / "digits.yaml"),
    ):
        monkeypatch.chdir(checkout / below)
        found = worked("--config", config, "--output", "x.png", "--source", "$PHOTOS/mine")
        assert Path(found["cwd"]) == checkout
        assert (checkout / found["config"]).samefile(checkout / "config" / "digits.yaml")
        assert (found["output"], found["source"]) == (f"{below}/x.png", "$PHOTOS/mine")
    monkeypatch.chdir(checkout / below)
    found = worked("--output", "config/x.yaml", "--source", up)
    assert (found["output"], found["config"], found["source"]) == (
        *("config/x.yaml", "config/digits.yaml", "."),
    )


def test_a_file_of_the_folder_comes_before_one_of_the_checkout(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "mine.yaml").touch()
    monkeypatch.chdir(checkout / "docs")
    assert worked("--config", "mine.yaml")["config"] == "docs/mine.yaml"


@pytest.mark.parametrize("below", [".", "work"])
def test_where_a_workflow_works_nothing_moves(
    checkout: Path, below: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the checkout, and in another working directory of Snakemake, with results of its own."""
    (checkout / "work" / "results").mkdir(parents=True)
    monkeypatch.chdir(checkout / below)
    found = worked("--output", "x.png")
    assert (Path(found["cwd"]), found["output"]) == ((checkout / below).resolve(), "x.png")


def test_outside_of_any_checkout_nothing_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path(worked()["cwd"]) == tmp_path


def test_commands_find_the_checkout(checkout: Path, mclr: Any) -> None:
    status, out, err = mclr(checkout / "docs", "plan", "config/digits.yaml", "--json")
    assert status == 0 and json.loads(out)
    assert err == f"mclr: works in {checkout}, the checkout that this folder is in\n"
    for command in ("show", "track"):
        status, _, err = mclr(checkout / "docs", command)
        assert status == 2 and err.splitlines()[1].startswith("mclr: error: results/digits")
    assert not list(checkout.glob("docs/*/*")) and not list(checkout.glob("results/*"))


def test_where_there_is_no_checkout_it_is_asked_for(tmp_path: Path, mclr: Any) -> None:
    for arguments in (("show",), ("plan", "config/digits.yaml"), ("track",)):
        status, _, err = mclr(tmp_path, *arguments)
        assert status == 2 and "run this in the checkout" in err
    status, _, err = mclr(tmp_path, "new", "mine", "--images", "pictures")
    assert status == 2 and err.startswith(
        "mclr: error: config: no such folder here; run this in the"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        "draw --model m --output no/such/x.png",
        "draw --model m --output x.png --npz no/such/x.npz",
        "export-model --experiment edm2-mclr --output no/such/model",
        "import-weights x.pkl --output no/such/x.safetensors",
        "export-weights x.safetensors --output no/such/x.pth",
        "reconstruct-ema a-1-0.05.safetensors --std 0.1 --output no/such/x.safetensors",
        "new mine --images pictures --output no/such/x.yaml",
    ],
)
def test_no_folder_is_made_that_nobody_asked_for(tmp_path: Path, mclr: Any, arguments: str) -> None:
    status, _, err = mclr(tmp_path, *arguments.split())
    option, path = arguments.split()[-2:]
    assert status == 2 and err == (
        f"mclr: error: {option} {path}: there is no folder no/such; make it first "
        "(`mkdir -p no/such`), or give another path\n"
    )
    assert not list(tmp_path.iterdir())


def test_every_file_that_people_have_written_is_in_a_folder_that_exists() -> None:
    """Their commands declare what they write."""
    for command in cli.FOR_PEOPLE:
        for parameter in command.params:
            if parameter.name in ("output", "npz"):
                assert isinstance(parameter.type, Written), (command.name, parameter.name)

"""The DVC cache: a flipped byte in it is found and mended, and two checkouts can share one."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import Checkout
from test_publication import clone
from test_remotes import check_store, flipped, oid_of

REPORT = "results/digits/report.html"
RUN = "results/digits/runs/var-base"


@pytest.fixture(scope="module")
def pulled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A clone after `dvc pull`."""
    checkout = clone(tmp_path_factory.mktemp("cache") / "mclr")
    checkout.run("dvc", "pull")
    yield checkout
    shutil.rmtree(checkout.folder)


def cached(checkout: Checkout, oid: str) -> Path:
    return checkout.folder / ".dvc" / "cache" / "files" / "md5" / oid[:2] / oid[2:]


def flip_a_byte(checkout: Checkout, oid: str) -> None:
    """Damage an object of the cache; it stays protected, as after a failing disk."""
    path = cached(checkout, oid)
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0o644)
    path.write_bytes(flipped(path.read_bytes()))
    path.chmod(mode)


def test_a_whole_cache_is_whole(pulled: Checkout) -> None:
    status, output = check_store(pulled, "--remote", "embedded")
    assert status == 0
    assert [line.split(", ")[1] for line in output.splitlines()] == [
        "0 damaged",
        "0 damaged or absent",
    ]


def test_a_byte_flipped_in_the_cache_reaches_no_result(pulled: Checkout) -> None:
    """DVC itself takes the damaged file for good; check-store names it and mends both places."""
    oid, good = oid_of(pulled, REPORT), (pulled.folder / REPORT).read_bytes()
    flip_a_byte(pulled, oid)
    (pulled.folder / REPORT).unlink()
    pulled.run("dvc", "checkout", REPORT)
    assert (pulled.folder / REPORT).read_bytes() == flipped(good)
    pulled.run("dvc", "status", "--quiet")  # nothing to see

    status, output = check_store(pulled)
    assert status == 1
    assert f"{oid} damaged: {REPORT}" in output and "--heal" in output
    status, output = check_store(pulled, "--heal")
    assert status == 0 and f"{oid} damaged: {REPORT}: healed" in output
    assert (pulled.folder / REPORT).read_bytes() == good
    assert check_store(pulled)[0] == 0
    pulled.run("dvc", "status", "--quiet")


def test_a_good_working_copy_mends_the_cache_without_a_remote(pulled: Checkout) -> None:
    oid = oid_of(pulled, REPORT)
    flip_a_byte(pulled, oid)
    store = pulled.folder / "data" / "store"
    store.rename(store.with_name("away"))
    try:
        assert check_store(pulled, "--heal")[0] == 0
    finally:
        store.with_name("away").rename(store)
    assert cached(pulled, oid).read_bytes() == (pulled.folder / REPORT).read_bytes()


def test_a_damaged_list_of_a_folder_is_mended(pulled: Checkout) -> None:
    oid = oid_of(pulled, RUN)
    assert oid.endswith(".dir")
    flip_a_byte(pulled, oid)
    status, output = check_store(pulled, "--heal")
    assert status == 0 and f"{oid} damaged: {RUN}: healed" in output
    assert check_store(pulled)[0] == 0


def test_what_has_no_good_copy_is_removed_and_told(pulled: Checkout) -> None:
    oid = oid_of(pulled, REPORT)
    good = (pulled.folder / REPORT).read_bytes()
    flip_a_byte(pulled, oid)
    (pulled.folder / REPORT).unlink()
    stored = pulled.folder / "data" / "store" / "files" / "md5" / oid[:2] / oid[2:]
    content = stored.read_bytes()
    stored.unlink()
    status, output = check_store(pulled, "--heal")
    assert status == 1 and "no good copy here; run `snakemake`" in output
    assert not cached(pulled, oid).exists()
    status, output = check_store(pulled, "--remote", "embedded")
    assert status == 1 and f"{oid} absent: {REPORT}" in output
    stored.write_bytes(content)
    pulled.run("dvc", "pull")
    assert (pulled.folder / REPORT).read_bytes() == good


def test_mistakes_are_one_line(pulled: Checkout, tmp_path: Path) -> None:
    status, output = check_store(pulled, "--remote", "tema")
    assert status == 2
    assert "--remote tema: no such DVC remote; expected one of: embedded" in output


def test_two_checkouts_share_a_cache(tmp_path: Path) -> None:
    """Both pull at once, each makes results of its own, and each gets those of the other."""
    shared = tmp_path / "shared"
    two = [clone(tmp_path / name / "mclr") for name in ("first", "second")]
    for checkout in two:
        checkout.run("dvc", "cache", "dir", "--local", str(shared))
        checkout.run("dvc", "config", "--local", "cache.shared", "group")
    both(two, "dvc", "pull")
    for number, checkout in enumerate(two):
        checkout.edit("config/digits.yaml", "label: EDM2 (8×8 pixels)", f"label: EDM2 of {number}")
    both(two, "dvc", "repro", "report")
    assert check_store(two[0])[0] == 0
    folders = [folder for folder in shared.rglob("*") if folder.is_dir()]
    assert all(folder.stat().st_mode & stat.S_IWGRP for folder in folders)
    assert not (two[0].folder / ".dvc" / "cache" / "files").exists()

    for name in ("dvc.lock", "config/digits.yaml"):
        shutil.copy(two[1].folder / name, two[0].folder / name)
    two[0].run("dvc", "checkout", "--force")
    assert "EDM2 of 1" in (two[0].folder / "results/digits/table1.tex").read_text()
    assert "Nothing to be done" in two[0].run("snakemake", "--cores", "1", "all").stdout


def both(checkouts: list[Checkout], *command: str) -> None:
    """The same command in several checkouts at the same time; all must succeed."""
    processes = [
        subprocess.Popen(
            command,
            cwd=checkout.folder,
            env=checkout.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for checkout in checkouts
    ]
    said = [process.communicate()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), said

"""The DVC cache: a flipped byte is found and mended; checkouts and users can share one."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import Checkout
from test_publication import clone
from test_remotes import check_store, flipped, oid_of
from users import GROUP, User, new_users

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
    succeed(processes)


def succeed(processes: list[subprocess.Popen[str]]) -> None:
    said = [process.communicate()[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), said


@pytest.fixture
def users() -> Iterator[list[User]]:
    """Two users, and a folder for a cache as docs/remotes.md says, in a folder open to both."""
    base = Path(tempfile.mkdtemp(prefix="mclr-users-"))
    try:
        base.chmod(0o755)
        (base / "cache").mkdir()
        os.chown(base / "cache", -1, GROUP if os.geteuid() == 0 else -1)
        (base / "cache").chmod(0o2770)
        yield new_users(base, umasks=("022", "027"))
    finally:
        shutil.rmtree(base)


# A checkout with one stage; some of its results are those of the other user, some are not.
MAKE = """
set -e
git init -q .
mkdir .dvc
printf '[cache]\\ntype = reflink,copy\\nshared = group\\ndir = %s\\n' "$1" > .dvc/config
echo "mkdir -p results
for i in 1 2 3 4 5; do
    echo \\$i > results/common\\$i
    echo $USER \\$i > results/own\\$i
done" > make.sh
echo "stages: {make: {cmd: sh make.sh, deps: [make.sh], outs: [results]}}" > dvc.yaml
dvc repro --quiet
"""


def test_two_users_share_a_cache(users: list[User]) -> None:
    """Both make results at once, take over those of the other, and cannot break or lose any.

    Of equal files added at the same moment DVC sometimes leaves one out (docs/remotes.md): what it
    left out, `dvc repro` puts there when it is run again.
    """
    cache = users[0].base / "cache"
    for process in [user.start("sh", "-c", MAKE, "sh", str(cache)) for user in users]:
        process.communicate()
    for user in users:
        succeed([user.start("dvc", "repro", "--quiet")])
    objects = [path for path in (cache / "files").rglob("*") if path.is_file()]
    assert len(objects) == 5 + 2 * (5 + 1)
    assert {path.stat().st_uid for path in objects} <= {user.uid for user in users}
    assert {path.stat().st_gid for path in cache.rglob("*")} == {GROUP}
    assert {stat.S_IMODE(path.stat().st_mode) for path in objects} == {0o444}
    folders = [path for path in cache.rglob("*") if path.is_dir()]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o2775}

    first, second = users
    theirs = (first.home / "dvc.lock").read_bytes(), (second.home / "dvc.lock").read_bytes()
    for user, lock in zip(users, reversed(theirs), strict=True):
        (user.home / "dvc.lock").write_bytes(lock)
    succeed([user.start("dvc", "checkout", "--force") for user in users])
    assert (first.home / "results" / "own1").read_text() == f"{second.uid} 1\n"
    assert (second.home / "results" / "own1").read_text() == f"{first.uid} 1\n"

    write = first.start("sh", "-c", f"for f in {cache}/files/*/*/*; do echo >> $f; done")
    assert write.communicate()[0].count("Permission denied") == len(objects)
    content = (first.home / "results" / "own1").read_bytes()
    (spoilt,) = (path for path in objects if path.read_bytes() == content)
    assert spoilt.stat().st_uid == second.uid
    spoilt.write_bytes(b"damaged")
    succeed([first.start("mclr", "check-store", "--heal")])
    for path in objects:
        oid = path.parent.name + path.name.removesuffix(".dir")
        assert hashlib.md5(path.read_bytes()).hexdigest() == oid

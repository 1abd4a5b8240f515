"""DVC remotes over SSH and S3: push from one clone, pull into another; kills and flipped bytes."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkout import Checkout
from stores import s3_server, ssh_server
from test_publication import clone

Remote = dict[str, str]
SERVERS = {"ssh": ssh_server, "s3": s3_server}
KILLS = 3
LEFT_OUT = ("benchmarks", "best", "evaluations", "figures", "grids", "runs")
"""Folders of the fashion tier that the clones do without: 1,865 files like those of digits."""

# A DVC command that is SIGKILLed when its list of what to transfer has the first output alone.
CUT_SHORT = """
import os, signal, sys
from dvc.cli import main
from dvc_data.index import DataIndex

def commit(index, real=DataIndex.commit):
    real(index)
    if {"fetch", "push"} & {key[0] for key in index.ls((), detail=False)}:
        os.kill(os.getpid(), signal.SIGKILL)

DataIndex.commit = commit
main(sys.argv[1:])
"""


@pytest.fixture(scope="module", params=SERVERS)
def remote(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Remote]:
    """Settings of a remote on a server that runs for the tests of this module."""
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as settings:
        yield settings


@pytest.fixture(scope="module")
def pushed(remote: Remote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A clone that has pulled from the embedded remote and pushed to the server, killed often."""
    checkout = clone(tmp_path_factory.mktemp("first") / "mclr")
    leave_out(checkout)
    checkout.run("dvc", "pull", "--remote", "embedded")
    use(checkout, remote)
    kill_at_random(checkout, lambda: stored(remote), objects(checkout), "dvc", "push")
    check_store(checkout, "--heal")
    checkout.run("dvc", "push")
    yield checkout
    shutil.rmtree(checkout.folder)


@pytest.fixture
def second(remote: Remote, pushed: Checkout, tmp_path: Path) -> Iterator[Checkout]:
    """Another clone of the same commit, with nothing pulled."""
    checkout = clone(tmp_path / "mclr", pushed.folder)
    use(checkout, remote)
    yield checkout
    shutil.rmtree(checkout.folder)


def leave_out(checkout: Checkout) -> None:
    """Commit a fashion tier of few files: pipelines of two files in one remote, as before."""
    folder = checkout.folder / "workflow" / "fashion"
    for path in (folder / "dvc.yaml", folder / "dvc.lock"):
        content = yaml.safe_load(path.read_text())
        stage = content["stages"]["fashion"]
        places = [Path(out["path"] if "path" in out else next(iter(out))) for out in stage["outs"]]
        stage["outs"] = [
            out
            for out, place in zip(stage["outs"], places, strict=True)
            if place.name not in LEFT_OUT
        ]
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    checkout.run("git", *identity, "commit", "-qam", "fewer files")


def use(checkout: Checkout, settings: Remote) -> None:
    """Add the remote as the README of remotes says, and make it the default of this clone."""
    checkout.run("dvc", "remote", "add", "--local", "--default", "team", settings["url"])
    for name, value in {**settings, "verify": "true"}.items():
        checkout.run("dvc", "remote", "modify", "--local", "team", name, value)


def kill_at_random(
    checkout: Checkout, transferred: Callable[[], int], count: int, *command: str
) -> None:
    """Start a command and SIGKILL it, each time after it has transferred some more of the objects.

    transferred: how many of the ``count`` there are where it brings them.
    """
    shares, ends = random.Random(0), list[int]()
    for share in sorted(shares.uniform(0.05, 0.5) for _ in range(KILLS)):
        process = subprocess.Popen(
            command,
            cwd=checkout.folder,
            env=checkout.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and transferred() < share * count:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        ends.append(process.wait())
    assert -signal.SIGKILL in ends, "every one was done before it could be killed"


def objects(checkout: Checkout) -> int:
    """How many there are in the cache of a clone."""
    folder = checkout.folder / ".dvc" / "cache" / "files"
    return sum(path.is_file() for path in folder.rglob("*"))


def stored(settings: Remote) -> int:
    """How many objects there are in a remote."""
    if settings["url"].startswith("ssh"):
        return sum(path.is_file() for path in folder_of(settings).rglob("*"))
    pages = s3_client(settings).get_paginator("list_objects_v2").paginate(Bucket="results")
    return sum(page["KeyCount"] for page in pages)


def folder_of(settings: Remote) -> Path:
    """Where a remote over SSH lies on this machine."""
    return Path("/", settings["url"].split("/", 3)[3])


def s3_client(settings: Remote) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=settings["endpointurl"],
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


def check_store(checkout: Checkout, *options: str) -> tuple[int, str]:
    done = checkout.run("python", "-m", "mclr", "check-store", *options, check=False)
    return done.returncode, done.stdout


def cut_short(checkout: Checkout, command: str) -> None:
    killed = checkout.run("python", "-c", CUT_SHORT, command, check=False)
    assert killed.returncode == -signal.SIGKILL


def test_a_list_cut_short_is_dropped(tmp_path: Path) -> None:
    """Otherwise the push would end well with half of the objects, and the pull fail."""
    checkout = Checkout(tmp_path / "here")
    outputs = [checkout.folder / name / "file" for name in ("first", "second")]
    for file in outputs:
        file.parent.mkdir(parents=True)
        file.write_text(file.parent.name)
    config = (
        f"[core]\nno_scm = true\nremote = store\n['remote \"store\"']\nurl = {tmp_path}/store\n"
    )
    (checkout.folder / ".dvc").mkdir()
    (checkout.folder / ".dvc" / "config").write_text(config)
    checkout.run("dvc", "add", "--quiet", "first", "second")

    cut_short(checkout, "push")
    assert check_store(checkout, "--heal")[0] == 0
    checkout.run("dvc", "push")
    objects = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(objects) == 4  # two files and two lists of a folder

    for folder in (checkout.folder / ".dvc" / "cache", *(file.parent for file in outputs)):
        shutil.rmtree(folder)
    cut_short(checkout, "pull")
    assert check_store(checkout, "--heal")[0] == 0
    checkout.run("dvc", "pull")
    assert [file.read_text() for file in outputs] == ["first", "second"]


def test_a_killed_push_is_completed_by_the_next(pushed: Checkout) -> None:
    status, output = check_store(pushed, "--remote", "team")
    assert status == 0, output
    assert "remote team: " in output and " 0 damaged or absent" in output
    assert "Everything is up to date" in pushed.run("dvc", "push").stdout


def test_what_one_pushes_another_pulls(pushed: Checkout, second: Checkout) -> None:
    """Pulls are killed too; then nothing is damaged and nothing is left to do."""
    kill_at_random(second, lambda: objects(second), objects(pushed), "dvc", "pull")
    assert check_store(second, "--heal")[0] == 0
    second.run("dvc", "pull")
    assert "Everything is up to date" in second.run("dvc", "pull").stdout
    assert check_store(second)[0] == 0
    assert "Nothing to be done" in second.run("snakemake", "--cores", "1", "all").stdout
    assert "Data and pipelines are up to date" in second.run("dvc", "repro").stdout
    second.run("git", "diff", "--exit-code")


def flip_a_byte(settings: Remote, oid: str) -> None:
    """Damage an object of the remote behind DVC's back."""
    path = f"files/md5/{oid[:2]}/{oid[2:]}"
    if settings["url"].startswith("ssh"):
        file = folder_of(settings) / path
        file.chmod(0o644)
        file.write_bytes(flipped(file.read_bytes()))
        return
    client = s3_client(settings)
    place = {"Bucket": "results", "Key": f"mclr/{path}"}
    content = client.get_object(**place)["Body"].read()
    client.put_object(**place, Body=flipped(content))


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def oid_of(checkout: Checkout, path: str) -> str:
    """md5 under which dvc.lock records an output."""
    lines = (checkout.folder / "dvc.lock").read_text().splitlines()
    place = lines.index(f"    - path: {path}")
    return next(line.split()[-1] for line in lines[place:] if " md5: " in line)


def test_a_byte_flipped_in_the_remote(remote: Remote, pushed: Checkout, second: Checkout) -> None:
    """`dvc pull` refuses it, check-store names it and puts the good copy back."""
    report = "results/digits/report.html"
    oid = oid_of(pushed, report)
    flip_a_byte(remote, oid)
    assert second.run("dvc", "pull", check=False).returncode != 0
    assert not (second.folder / report).exists()

    status, output = check_store(second, "--remote", "team")
    assert status == 1
    assert f"{oid} damaged: {report}" in output
    status, output = check_store(second, "--remote", "team", "--heal")
    assert status == 1 and "not in this cache; heal from a checkout that has it" in output

    status, output = check_store(pushed, "--remote", "team", "--heal")
    assert status == 0 and f"{oid} damaged: {report}: healed" in output
    second.run("dvc", "pull")
    copies = [checkout.folder / report for checkout in (pushed, second)]
    assert copies[0].read_bytes() == copies[1].read_bytes()
    assert check_store(second, "--remote", "team")[0] == 0

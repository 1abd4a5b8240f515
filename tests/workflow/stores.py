"""Servers on loopback that hold a DVC remote: sshd and an S3-compatible one, both real."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from debian import installed

START_TIMEOUT_S = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a server until the end of the block; it must listen on the port soon."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    try:
        for _ in range(START_TIMEOUT_S * 10):
            assert process.poll() is None, log.read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            pytest.fail(f"{command[0]} does not answer: {log.read_text()}")
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def ssh_server(folder: Path, **more: str) -> Iterator[dict[str, str]]:
    """An sshd of our own: host key, user key, port and configuration below ``folder``.

    more: settings of sshd_config. Gives the settings of a DVC remote whose objects lie in
    ``folder/remote``.
    """
    sshd, keygen = installed("sshd", "openssh-server"), installed("ssh-keygen", "openssh-client")
    port = free_port()
    for name in ("host", "user"):
        key = (keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        subprocess.run(key, check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own demand when root runs it
    settings = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PidFile": folder / "pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "yes",
        "Subsystem": "sftp internal-sftp",
        **more,
    }
    config = folder / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    with serving([sshd, "-D", "-e", "-f", str(config)], port, folder / "log"):
        yield {
            "url": f"ssh://{getpass.getuser()}@127.0.0.1:{port}{folder}/remote",
            "keyfile": str(folder / "user"),
        }


@contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """An S3 server with an empty bucket; gives the settings of a DVC remote in it."""
    import boto3

    moto = Path(sys.executable).with_name("moto_server")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with serving([str(moto), "-H", "127.0.0.1", "-p", str(port)], port, folder / "log"):
        secret = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **secret)
        client.create_bucket(Bucket="results")
        yield {
            "url": "s3://results/mclr",
            "endpointurl": endpoint,
            "region": "us-east-1",
            "access_key_id": "key",
            "secret_access_key": "secret",
        }

"""What docs/remotes.md says of whom DVC trusts: host keys, the agent, its own notes on disk."""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT, Checkout
from debian import installed
from stores import ssh_server


@pytest.fixture
def repository(tmp_path: Path) -> Checkout:
    """A DVC repository with one file, and a home without any configuration."""
    checkout = Checkout(tmp_path / "here")
    (checkout.folder / ".dvc").mkdir(parents=True)
    (checkout.folder / ".dvc" / "config").write_text("[core]\nno_scm = true\n")
    (checkout.folder / "file").write_text("content")
    kept = {k: v for k, v in checkout.environment.items() if not k.startswith(("XDG_", "FSSPEC"))}
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    checkout.environment = kept | {"HOME": str(home)}
    checkout.run("dvc", "add", "--quiet", "file")
    return checkout


@pytest.fixture
def server(repository: Checkout, tmp_path: Path) -> Iterator[Path]:
    """The folder of an sshd that says what clients ask for; the repository's default remote."""
    folder = tmp_path / "server"
    folder.mkdir()
    with ssh_server(folder, LogLevel="DEBUG1") as settings:
        repository.run("dvc", "remote", "add", "--local", "--default", "team", settings["url"])
        keyfile = settings["keyfile"]
        repository.run("dvc", "remote", "modify", "--local", "team", "keyfile", keyfile)
        yield folder


@pytest.fixture
def agent(repository: Checkout, tmp_path: Path) -> Iterator[None]:
    """An ssh-agent of the user."""
    program, socket = installed("ssh-agent", "openssh-client"), str(tmp_path / "agent")
    process = subprocess.Popen((program, "-D", "-a", socket), stdout=subprocess.DEVNULL)
    repository.environment["SSH_AUTH_SOCK"] = socket
    yield
    process.terminate()
    process.wait(timeout=30)


def follow(checkout: Checkout, word: str) -> None:
    """Run the block of the page's commands that has a word in it."""
    page = (ROOT / "docs" / "remotes.md").read_text()
    (block,) = (b for b in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) if word in b)
    checkout.run("bash", "-euc", block)


def know(checkout: Checkout, server: Path, key: str) -> None:
    """Let ~/.ssh/known_hosts have this key for the server, hashed as Debian's ssh does it."""
    url = checkout.run("dvc", "remote", "list").stdout
    port = re.findall(r"127\.0\.0\.1:(\d+)", url)[0]
    known = Path(checkout.environment["HOME"], ".ssh", "known_hosts")
    known.write_text(f"[127.0.0.1]:{port} {(server / key).read_text()}")
    checkout.run("ssh-keygen", "-q", "-H", "-f", str(known))


def test_host_keys_are_checked_as_documented(repository: Checkout, server: Path) -> None:
    repository.run("dvc", "push")  # by itself, DVC asks for no key of the host
    follow(repository, "known_hosts")
    refusal = "Host key is not trusted for host 127.0.0.1"
    unknown = repository.run("dvc", "status", "--cloud", check=False)
    assert unknown.returncode != 0 and refusal in unknown.stdout
    know(repository, server, "user.pub")
    false = repository.run("dvc", "status", "--cloud", check=False)
    assert false.returncode != 0 and refusal in false.stdout
    know(repository, server, "host.pub")
    assert "in sync" in repository.run("dvc", "status", "--cloud").stdout


@pytest.mark.usefixtures("agent")
def test_the_agent_is_not_lent_as_documented(repository: Checkout, server: Path) -> None:
    log = server / "log"
    repository.run("dvc", "push")
    assert "auth-agent-req@openssh.com" in log.read_text()
    follow(repository, "known_hosts")
    know(repository, server, "host.pub")
    before = len(log.read_text())
    repository.run("dvc", "status", "--cloud")
    asked = log.read_text()[before:]
    assert "request subsystem" in asked
    assert "auth-agent-req@openssh.com" not in asked


def test_notes_of_dvc_are_the_users_own_as_documented(repository: Checkout) -> None:
    """DVC unpickles them, and by itself keeps them where every user of the machine may write."""
    follow(repository, "site_cache_dir ")
    place = re.findall(r"Repo.site_cache_dir: (.*)", repository.run("dvc", "doctor").stdout)[0]
    folder = Path(repository.environment["HOME"], ".cache", "dvc-site")
    assert folder in Path(place).parents
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    repository.run("dvc", "status")
    assert list(Path(place).rglob("cache.db"))

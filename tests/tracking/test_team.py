"""A server for a team: eight publish at once, it is killed in between, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from debian import installed
from test_server import free_port, wait_until_healthy
from tracking_files import Runs, small_tier, write_all, write_evaluations

from mclr.tracking import publish

ROOT = Path(__file__).resolve().parents[2]
PUBLISHERS = 8
ALL = 12  # runs, points and the report of the small tier
PUBLISH = (
    "import sys; from pathlib import Path; from mclr.tracking import publish;"
    "sys.path.insert(0, 'TESTS'); from tracking_files import small_tier;"
    "print(sum(publish(small_tier(), Path(sys.argv[1]), sys.argv[2]).values()))"
).replace("TESTS", str(Path(__file__).parent))


class Server:
    """`workflow/mlflow-server` in a folder of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options, self.port = folder, options, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
        tools = Path(sys.executable).parent
        environment["PATH"] = f"{tools}{os.pathsep}{environment['PATH']}"
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [ROOT / "workflow" / "mlflow-server", "--port", str(self.port), *self.options],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until_healthy(self.uri, self.process)

    def kill(self) -> None:
        """End the server like a power cut, but leave its database."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        assert self.process.returncode == 0


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, empty_store: Path) -> Iterator[Server]:
    options: tuple[str, ...] = ()
    # Not below pytest's own folder, where the user that PostgreSQL runs as may not go.
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        if request.param == "postgresql":
            installed("initdb", "postgresql")
            options = ("--postgres", str(folder / "postgres"))
        else:
            shutil.copy(empty_store, folder / "mlflow.db")
        server = Server(folder, *options)
        server.start()
        yield server
        server.stop()


def publishers(server: Server, folders: list[Path]) -> list[subprocess.Popen[str]]:
    """Start a process for each folder of results, all at once."""
    return [
        subprocess.Popen(
            (sys.executable, "-c", PUBLISH, str(folder), server.uri),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for folder in folders
    ]


def outcomes(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    said = [process.communicate(timeout=120)[0] for process in processes]
    return [(p.returncode, s) for p, s in zip(processes, said, strict=True)]


def test_eight_publish_at_once(server: Server, tmp_path: Path, runs: Runs) -> None:
    """Four folders differ, four are equal: five times the tier, whole, and none of it twice.

    The experiment does not exist before, so they race to make it as well.
    """
    folders = [tmp_path / str(n) / "small" for n in range(PUBLISHERS)]
    for n, folder in enumerate(folders):
        write_all(small_tier(), folder)
        write_evaluations(small_tier(), folder, shift=float(min(n, PUBLISHERS // 2)))
    first = outcomes(publishers(server, folders))
    assert [status for status, _ in first] == [0] * PUBLISHERS, first
    assert_whole(server, runs)
    for folder in (folders[0], folders[-1]):
        assert publish(small_tier(), folder, server.uri) == Counter(unchanged=ALL)


def assert_whole(server: Server, runs: Runs) -> None:
    """Five variants of the evaluations: 5 × 3 runs with 8 points, and one report for all."""
    tuned = [r for r in runs("run", server.uri) if r.data.params["method"] == "mclr"]
    found = Counter((r.data.tags["mclr.key"], r.data.metrics["best_fd"]) for r in tuned)
    assert found == Counter(
        {
            (f"edm-mclr-seed{seed}", 30.0 + seed + shift): 1
            for seed in (0, 1)
            for shift in range(PUBLISHERS // 2 + 1)
        }
    )
    kinds = Counter(run.data.tags["mclr.kind"] for run in runs(uri=server.uri))
    assert kinds == {"run": 15, "point": 40, "report": 1}


def test_a_server_killed_and_started_again(server: Server, tmp_path: Path, runs: Runs) -> None:
    """Publications fail within seconds or survive; the next ones complete what is there."""
    before = len(runs(uri=server.uri))
    folders = [tmp_path / str(n) / "small" for n in range(2)]
    for n, folder in enumerate(folders):
        write_all(small_tier(), folder)
        write_evaluations(small_tier(), folder, shift=100.0 + n)
    processes = publishers(server, folders)
    wait_for(lambda: len(runs(uri=server.uri)) >= before + 4)
    server.kill()
    start = time.monotonic()
    cut = outcomes(processes)
    assert time.monotonic() - start < 60
    assert all(status and "nothing is lost" in said for status, said in cut), cut
    server.start()
    again = outcomes(publishers(server, folders))
    assert [status for status, _ in again] == [0, 0], again
    assert len(runs(uri=server.uri)) == before + 2 * (ALL - 1)  # the report is there already


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_it_listens_on_loopback_only(server: Server) -> None:
    """The default; `--host` says otherwise."""
    table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    listening = [line.split()[1] for line in table.splitlines() if " 0A " in line]
    hosts = {
        address.split(":")[0]
        for address in listening
        if int(address.split(":")[1], 16) == server.port
    }
    assert hosts == {"0100007F"}

"""A real MLflow server: publish to it, read back through the client, look with a browser."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracking_files import Runs, append, finish, small_tier, train, write_all, write_evaluations

from mclr.tracking import how_to_look, publish
from mclr.tracking.store import open_store

START_TIMEOUT_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(uri: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(START_TIMEOUT_S * 5):
        assert process.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=1)
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"no server after {START_TIMEOUT_S} s")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[str]:
    """Address of an MLflow server that runs for the tests of this module."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "mlflow.db")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--backend-store-uri", "sqlite:///mlflow.db"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            **{k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"},
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        start_new_session=True,
    )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def published(server: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The server and the folder of a tier that went there in three parts: live, trained, done."""
    tier, results = small_tier(), tmp_path_factory.mktemp("results") / "small"
    folder = results / "runs" / "edm-mclr-seed0"
    append(folder, "start", 0)
    train(folder, 5, 10)
    assert publish(tier, results, server) == Counter(created=1)
    train(folder, 15, 20)
    finish(folder, 20)
    assert publish(tier, results, server) == Counter(resumed=1)
    shutil.rmtree(results)
    write_all(tier, results)
    counts = publish(tier, results, server)
    assert counts == Counter(created=11, replaced=1)  # config.yaml came after the end
    return server, results


def test_it_reads_back(published: tuple[str, Path], runs: Runs) -> None:
    server, results = published
    assert publish(small_tier(), results, server) == Counter(unchanged=12)
    assert len(runs(uri=server)) == 12
    (run,) = [r for r in runs("run", server) if r.data.tags["mclr.key"] == "edm-mclr-seed0"]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["best_fd"] == 30.0
    (report,) = runs("report", server)
    with open_store(server) as client:
        losses = client.get_metric_history(run.info.run_id, "train/loss")
        assert [value.step for value in losses] == [40, 80, 120, 160]
        figure = client.download_artifacts(report.info.run_id, "figures/precision-recall.png")
    assert Path(figure).read_text() == "<p>red</p>"


def test_the_links_open_the_charts(
    published: tuple[str, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed (apt-get install chromium): charts were not opened")
    server, _ = published
    address, ((_, _, points), (_, _, training)) = how_to_look(small_tier(), server)
    assert address == server
    page = open_in(browser, points, tmp_path)
    assert "Trade-offs" in page
    assert "<strong>8</strong> matching runs" in page  # the points, and not their parents
    assert "edm-mclr-seed0 step 10" in page
    assert page.count('<path class="point"') >= 16  # 8 points in each of 2 scatters
    page = open_in(browser, training, tmp_path)
    assert "Against images seen" in page
    assert page.count('class="js-line"') >= 3


def open_in(browser: str, link: str, folder: Path) -> str:
    """The page's HTML after its scripts have run."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1700,1400"]
    profile = f"--user-data-dir={folder}/profile"
    command = [browser, *options, profile, "--virtual-time-budget=60000", "--dump-dom", link]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return result.stdout


def test_a_changed_evaluation_replaces(
    published: tuple[str, Path], runs: Runs, capfd: pytest.CaptureFixture[str]
) -> None:
    server, results = published
    write_evaluations(small_tier(), results, shift=1.0)
    publish(small_tier(), results, server)
    assert capfd.readouterr() == ("", "")
    assert len(runs(uri=server)) == 12
    assert sorted(run.data.metrics["best_fd"] for run in runs("run", server)) == [21.5, 31.0, 32.0]

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
from browser import Browser, chromium
from tracking_files import Runs, append, finish, small_tier, train, write_all, write_evaluations

from mclr.config.reading import parse_tier
from mclr.report.methods import methods_for
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


def test_the_links_open_the_charts(published: tuple[str, Path], tmp_path: Path) -> None:
    server, _ = published
    address, ((_, _, points), (_, _, sweep), (_, _, training)) = how_to_look(small_tier(), server)
    assert address == server
    with chromium(tmp_path / "profile") as browser:
        browser.open(points, 1700, 1400)
        # one seed of each path, all of Table 1: two of the base model, of CFG, of the fine-tuned
        waited_for(browser, "path.point", 2 * 7)
        page = text_of(browser)
        assert "FD ↓, IS ↑" in page and "Recall ↑, precision ↑" in page
        assert "7 matching runs" in page and "edm-mclr-seed0 step 10" in page
        browser.open("about:blank", 1700, 1400)
        browser.open(sweep, 1700, 1400)
        waited_for(browser, "path.point", 2 * 8)
        assert "8 matching runs" in text_of(browser)  # the points, and not their parents
        browser.open("about:blank", 1700, 1400)
        browser.open(training, 1700, 1400)
        waited_for(browser, ".js-line", 3)
        assert "Against images seen" in text_of(browser)


def test_the_first_view_shows_every_method_of_table_1(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its colour, FD on x and IS on y, recall on x and precision on y, in full width."""
    monkeypatch.chdir(tmp_path)
    content = small_tier().model_dump(mode="json", by_alias=True) | {"tier": "many"}
    run = content["runs"]["edm-mclr"]
    settings = {"mclr": {}, "ccdpo": {"beta": 0.1}, "cca": {"beta": 0.1, "lambda": 1}}
    content["runs"] = {
        f"edm-{name}": {**run, "objective": {"name": name, **more}}
        for name, more in settings.items()
    }
    tier, results = parse_tier(content, "many"), tmp_path / "results" / "many"
    write_all(tier, results)
    publish(tier, results, server)
    points = how_to_look(tier, server).links[0][2]
    with chromium(tmp_path / "profile") as browser:
        browser.open(points, 1400, 1400)
        waited_for(browser, "path.point", 2 * (2 + 2 + 3 * 3))
        found = browser.run("[...document.querySelectorAll('path.point')].map(p => p.style.fill)")
        browser.screenshot(tmp_path / "points.png")
        titles = browser.run(
            "[...document.querySelectorAll('.xtitle, .ytitle')].map(t => t.textContent)"
        )
        width = browser.run("document.querySelector('.js-plotly-plot').clientWidth")
        chosen = browser.run("document.body.textContent.includes('Overview')")
    methods = methods_for(tier, "edm")
    for name in ("base", "cfg", *settings):
        red, green, blue = (int(methods[name].colour[i : i + 2], 16) for i in (1, 3, 5))
        assert f"rgb({red}, {green}, {blue})" in found, name
    assert len(set(found)) == 2 + len(settings)
    assert sorted(titles) == ["fd", "is", "precision", "recall"]
    assert width > 400 and not chosen  # the view of traces has an overview


def waited_for(browser: Browser, selector: str, least: int) -> None:
    """Until so many elements are drawn."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        found = browser.run(f"document.querySelectorAll('{selector}').length")
        if found >= least:
            return
        time.sleep(0.3)
    pytest.fail(f"{found} of {selector}, expected {least}")


def text_of(browser: Browser) -> str:
    text: str = browser.run("document.body.textContent")
    return text


def test_a_changed_evaluation_replaces(
    published: tuple[str, Path], runs: Runs, capfd: pytest.CaptureFixture[str]
) -> None:
    server, results = published
    write_evaluations(small_tier(), results, shift=1.0)
    publish(small_tier(), results, server)
    assert capfd.readouterr() == ("", "")
    assert len(runs(uri=server)) == 12
    assert sorted(run.data.metrics["best_fd"] for run in runs("run", server)) == [21.5, 31.0, 32.0]

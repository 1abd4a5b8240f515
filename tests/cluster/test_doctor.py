"""`mclr doctor`: what it finds where there is no Slurm, and on the virtual cluster."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from checkout import Checkout, copy_tree
from click.testing import CliRunner

from mclr.commands.doctor import doctor
from mclr.operations import doctor as checks
from mclr.operations.doctor import examine, filesystem_of
from mclr.operations.doctor_slurm import SiteError, _gpus, _minutes, check_class
from mclr.operations.site import JobClass

GOOD = """
account: ml
partition: gpu
train: {nodes: 2, gpus: 4, cpus: 8, memory_mb: 4000, minutes: 30}
evaluate: {partition: cpu}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with a DVC remote that is a folder, and nothing else."""
    monkeypatch.delenv("MCLR_SITE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    remote = here\n['remote \"here\"']\n    url = ../store\n"
    )
    return tmp_path


def found(here: Path, jobs: bool = False) -> dict[str, checks.Finding]:
    return {finding.name: finding for finding in examine(here, jobs=jobs, wait=60)}


def test_without_slurm(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    findings = found(here)
    assert list(findings) == ["site", "Slurm", "MLflow store", "DVC remote"]
    assert "Slurm is not installed on this machine" in findings["Slurm"].what
    assert "login node" in findings["Slurm"].advice
    assert findings["site"].ok and findings["MLflow store"].ok


def test_the_command_prints_a_line_per_check_and_its_status(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = CliRunner().invoke(doctor, [])
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == "ok       site: no config/site.yaml; all values are defaults"
    assert lines[1].startswith("problem  Slurm: scontrol: no such command")
    assert lines[2].startswith("         to do: run this on a login node")


def test_a_bad_site_file_is_the_first_thing_to_mend(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "site.yaml").write_text("trian: {}")
    monkeypatch.setenv("MCLR_SITE", "site.yaml")
    (finding,) = found(here).values()
    assert not finding.ok and "trian: unknown key" in finding.what


def test_mlflow_server_that_is_not_there(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv(
            "MLFLOW_TRACKING_URI", f"http://u:secret@127.0.0.1:{probe.getsockname()[1]}"
        )
        finding = found(here)["MLflow store"]
    assert not finding.ok and "does not answer" in finding.what
    assert "secret" not in finding.what


def test_sqlite_on_a_network_filesystem(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "filesystem_of", lambda folder: "nfs4")
    finding = found(here)["MLflow store"]
    assert not finding.ok and "SQLite on nfs4" in finding.what
    assert "MLflow server" in finding.advice


def test_filesystem_of_the_deepest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"a / ext4 rw 0 0\nb {tmp_path} nfs4 rw 0 0\nc /other lustre rw 0 0\n")
    assert filesystem_of(tmp_path / "deep", mounts) == "nfs4"
    assert filesystem_of(Path("/etc"), mounts) == "ext4"
    assert filesystem_of(tmp_path, tmp_path / "none") == "unknown"


def test_dvc_remote(here: Path) -> None:
    assert found(here)["DVC remote"].what == str(here / "store")
    (here / "store").rmdir()
    finding = found(here)["DVC remote"]
    assert not finding.ok and "no such place" in finding.what


@pytest.mark.parametrize(
    ("gres", "model", "count"),
    [
        ("gpu:h100:4(S:0-1)", None, 4),
        ("gpu:h100:4(S:0-1)", "h100", 4),
        ("gpu:h100:4,gpu:a100:2", "a100", 2),
        ("gpu:4", None, 4),
        ("gpu:4", "h100", 0),
        ("(null)", None, 0),
    ],
)
def test_gpus_of_sinfo(gres: str, model: str | None, count: int) -> None:
    assert _gpus(gres, model) == count


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [("30:00", 30), ("2:00:00", 120), ("1-12:00:00", 2160), ("infinite", float("inf"))],
)
def test_minutes_of_sinfo(limit: str, minutes: float) -> None:
    assert _minutes(limit) == minutes


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("job", "what", "advice"),
    [
        (JobClass(partition="gp"), "no partition 'gp'", "cpu, gpu"),
        (JobClass(gpus=5), "asked for 5 × gpu", "ask for less"),
        (JobClass(gpus=1, gpu_model="h100"), "asked for 1 × h100", "gpu_model"),
        (JobClass(memory_mb=9000), "memory is 8000 MB", "ask for less"),
        (JobClass(cpus=9), "CPUs are 8", "ask for less"),
        (JobClass(minutes=121), "the time limit is 2:00:00", "ask for less"),
        (JobClass(nodes=3), "2 nodes fit, 3 are asked for", "lower `nodes`"),
    ],
)
def test_what_the_cluster_lacks(job: JobClass, what: str, advice: str) -> None:
    with pytest.raises(SiteError) as caught:
        check_class(job)
    assert what in caught.value.what
    assert advice in caught.value.advice


@pytest.mark.usefixtures("cluster")
def test_on_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout: Checkout = copy_tree(tmp_path / "checkout")
    (checkout.folder / "config" / "site.yaml").write_text(GOOD)
    monkeypatch.delenv("MCLR_SITE", raising=False)
    monkeypatch.chdir(checkout.folder)
    findings = found(checkout.folder, jobs=True)
    assert findings["Slurm"].what.endswith(", cluster toy")
    assert findings["accounting"].what == "account ml"
    assert findings["train jobs"].what.startswith("partition gpu, 2 of 2 nodes, 4 × any GPU")
    # The GPUs of this cluster are pretended.
    assert findings["train job"].what == "torch sees 0 of 4 GPUs"
    assert findings["evaluate job"].what.startswith("ran, shares ")
    assert not list(checkout.folder.glob(".mclr-doctor*"))


@pytest.mark.usefixtures("cluster")
def test_an_account_that_is_not_mine(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "site.yaml").write_text("account: other")
    monkeypatch.setenv("MCLR_SITE", "site.yaml")
    finding = found(here)["accounting"]
    assert "may not use account other" in finding.what
    assert finding.advice.endswith("one of: ml, root")

"""The site file: what a class of jobs asks for, and what sbatch is then told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string
from snakemake_executor_plugin_slurm.validation import validate_slurm_extra

from mclr.errors import UserError
from mclr.operations.site import JobClass, Site, load_site

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "config" / "site.example.yaml"


class Resources(dict[str, Any]):
    """Snakemake's resources: values by key and by attribute."""

    __getattr__ = dict.__getitem__


def submitted(site: Site, name: str, attempt: int = 1) -> str:
    """The sbatch command of the real plugin for a job of a class."""
    given = site.resources(name)
    values = {key: v(None, attempt) if callable(v) else v for key, v in given.items()}
    job = SimpleNamespace(resources=Resources(values), threads=site.job(name).cpus)
    validate_slurm_extra(SimpleNamespace(resources=SimpleNamespace(**values)))
    parameters = {
        "run_uuid": "id",
        "slurm_logfile": "log",
        "comment_str": "rule",
        "account": f"-A {values.get('slurm_account')}",
        "partition": f"-p {values.get('slurm_partition')}",
        "workdir": "/tmp",
    }
    return get_submit_command(job, parameters) + set_gres_string(job)


def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    monkeypatch.setenv("MCLR_SITE", str(path))
    return path


def test_without_a_file_everything_is_a_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MCLR_SITE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert load_site() == Site()
    assert Site().train == JobClass(nodes=1, gpus=0, cpus=1)
    assert Site().train.size == 1


def test_the_example_is_valid_and_documents_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCLR_SITE", str(EXAMPLE))
    assert load_site().train.size == 4
    text = EXAMPLE.read_text()
    missing = [key for key in (*Site.model_fields, *JobClass.model_fields) if key not in text]
    assert missing == ["processes"]


def test_config_site_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MCLR_SITE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "site.yaml").write_text("account: ml\nsample: {account: other}")
    assert load_site().job("train").account == "ml"
    assert load_site().job("sample").account == "other"


def test_sampling_takes_a_process_per_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, monkeypatch, "sample: {gpus: 4}")
    assert load_site().sample.size == 4
    write(tmp_path, monkeypatch, "sample: {processes: 2}")
    assert load_site().sample.size == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian: {}", "trian: unknown key; valid keys: account, partition, warning_seconds, train"),
        ("train: {gpu: 1}", "train.gpu: unknown key; valid keys: partition, account, nodes, gpus"),
        ("train: {nodes: 0}", "train.nodes: input should be greater than or equal to 1, got 0"),
        ("sample: {nodes: 2}", "sample: these jobs are of one node; remove nodes"),
        ("evaluate: {processes: 2}", "evaluate: these jobs are one process"),
        ("sample: {checkpointing: true}", "checkpointing is for training; write it under train"),
        ("evaluate: {compile: true}", "compile is for training and sampling; write it under those"),
        ("train: {gpu_model: h100}", "train: gpu_model without gpus"),
        ("train: {minutes: 60, max_minutes: 30}", "max_minutes 30 is below minutes 60"),
        ("train: [", "cannot be read as YAML"),
        ("account: 'ml; rm'", "account: string should match pattern"),
    ],
)
def test_mistakes_are_named(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, monkeypatch, text)
    with pytest.raises(UserError) as caught:
        load_site()
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_a_file_that_is_named_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCLR_SITE", "/no/such.yaml")
    with pytest.raises(UserError, match=r"/no/such.yaml: cannot be read"):
        load_site()


def test_one_node_with_gpus_starts_its_command_once() -> None:
    """``gpu`` without ``tasks``: else Slurm starts a copy of the job for each GPU."""
    site = Site(account="ml", partition="gpu", train=JobClass(gpus=4, gpu_model="h100", cpus=8))
    command = submitted(site, "train")
    assert "--gpus=h100:4" in command and "--nodes=1" in command
    assert "--cpus-per-task=8" in command
    assert "--ntasks" not in command
    assert "-A ml" in command and "-p gpu" in command
    assert "--signal=TERM@120" in command


def test_several_nodes_have_one_task_each() -> None:
    site = Site(train=JobClass(nodes=2, gpus=4, gpu_model="h100"), warning_seconds=0)
    command = submitted(site, "train")
    assert "--nodes=2" in command and "--ntasks=2" in command
    assert "--gres=gpu:h100:4" in command
    assert "--ntasks-per-gpu" not in command and "--gpus=" not in command
    assert "--signal" not in command


def test_memory_and_time_grow_with_the_attempt_up_to_a_limit() -> None:
    job = JobClass(memory_mb=1000, minutes=60, max_minutes=100)
    commands = [submitted(Site(evaluate=job), "evaluate", attempt) for attempt in (1, 2, 3)]
    assert ["--mem 1000" in c and "-t 60" in c for c in commands] == [True, False, False]
    assert "--mem 2000" in commands[1] and "-t 100" in commands[1]
    assert "--mem 3000" in commands[2] and "-t 100" in commands[2]


def test_profile_and_code_agree() -> None:
    from mclr.operations.slurm import PREFIX

    profile = yaml.safe_load((ROOT / "slurm" / "config.yaml").read_text())
    assert f"{profile['slurm-jobname-prefix']}_" == PREFIX
    assert "cores" not in profile
    default = yaml.safe_load((ROOT / "profiles" / "default" / "config.yaml").read_text())
    # The default profile is applied after this one and would win.
    assert not set(profile) & set(default)

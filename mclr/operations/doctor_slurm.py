"""What `mclr doctor` asks of Slurm: that it answers, and that a site file fits it."""

from __future__ import annotations

import getpass
import json
import shutil
import sys
import uuid
from pathlib import Path

from mclr.errors import UserError
from mclr.operations.site import JobClass
from mclr.operations.slurm import ask

LONGEST_POLL_S = 180
"""The longest time between two looks of Snakemake's plugin at its jobs."""

PROBE = """
import json, pathlib, sys, torch
token = pathlib.Path(sys.argv[1])
seen = token.is_file()
token.with_suffix(".answer").write_text("seen") if seen else None
print(json.dumps({"seen": seen, "gpus": torch.cuda.device_count()}))
"""


class SiteError(Exception):
    """Something that will stop the workflow, and what to do about it."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.what, self.advice = what, advice


def check_slurm() -> str:
    """Slurm answers, and will tell when a job ends; SiteError otherwise."""
    try:
        settings = _settings()
        version = ask("sinfo", "--version", seconds=20).strip()
    except UserError as error:
        raise SiteError(
            str(error), "run this on a login node of the cluster, or run the workflow with --cores"
        ) from None
    age = int(settings.get("MinJobAge", "0 sec").split()[0])
    if age <= LONGEST_POLL_S and not shutil.which("sacct"):
        raise SiteError(
            f"MinJobAge is {age} s and there is no sacct: ends of jobs will be missed",
            f"ask the administrators for accounting, or MinJobAge above {LONGEST_POLL_S}",
        )
    return f"{version}, cluster {settings.get('ClusterName', 'unknown')}"


def _settings() -> dict[str, str]:
    lines = ask("scontrol", "show", "config", seconds=20).splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def check_account(classes: list[JobClass]) -> str:
    """The user may use every account that the site file names."""
    user = getpass.getuser()
    wanted = {job.account for job in classes if job.account}
    try:
        listed = ask("sacctmgr", "-nP", "list", "user", user, "withassoc", "format=account")
    except UserError as error:
        if wanted:
            raise SiteError(str(error), "ask the administrators for Slurm accounting") from None
        return "none, and no account is asked for"
    accounts = sorted(set(listed.split()))
    unknown = sorted(wanted - set(accounts))
    if unknown:
        raise SiteError(
            f"{user} may not use account {', '.join(unknown)}",
            f"set `account` in your site file to one of: {', '.join(accounts) or 'none is yours'}",
        )
    return f"account {', '.join(sorted(wanted)) or 'of Slurm’s choice'}"


def check_class(job: JobClass) -> str:
    """Partition and GPUs exist, and a node has what the first attempt asks for."""
    listed = ask("sinfo", "--noheader", "--responding", "--exact", "-o%P|%G|%m|%c|%l|%D|%a")
    rows = [line.split("|") for line in listed.split()]
    names = [row[0].rstrip("*") for row in rows]
    chosen = job.partition or next((row[0][:-1] for row in rows if row[0].endswith("*")), None)
    if chosen not in names:
        raise SiteError(
            f"no partition {chosen!r}" if chosen else "there is no default partition",
            f"set `partition` in your site file to one of: {', '.join(sorted(set(names)))}",
        )
    offers = [
        row for row, name in zip(rows, names, strict=True) if (name, row[6]) == (chosen, "up")
    ]
    fitting = [row for row in offers if _lacks(job, row) is None]
    if not fitting:
        lacks = sorted({str(_lacks(job, row)) for row in offers}) or ["it is down"]
        raise SiteError(
            f"no node of partition {chosen} fits: {'; '.join(lacks)}",
            "ask for less in your site file, or name another partition or gpu_model",
        )
    nodes = sum(int(row[5]) for row in fitting)
    if nodes < job.nodes:
        raise SiteError(f"{nodes} nodes fit, {job.nodes} are asked for", "lower `nodes`")
    gpus = f"{job.gpus} × {job.gpu_model or 'any GPU'}, " if job.gpus else ""
    return (
        f"partition {chosen}, {job.nodes} of {nodes} nodes, {gpus}"
        f"{job.cpus} CPUs, {job.memory_mb} MB, {job.minutes} min"
    )


def _lacks(job: JobClass, row: list[str]) -> str | None:
    """What nodes of one line of sinfo lack for a job, in words."""
    _, gres, memory, cpus, limit = row[:5]
    if job.gpus and _gpus(gres, job.gpu_model) < job.gpus:
        return f"GPUs are {gres}, asked for {job.gpus} × {job.gpu_model or 'gpu'}"
    if int(memory.rstrip("+")) < job.memory_mb:
        return f"memory is {memory} MB, asked for {job.memory_mb}"
    if int(cpus.rstrip("+")) < job.cpus:
        return f"CPUs are {cpus}, asked for {job.cpus}"
    if job.minutes > _minutes(limit):
        return f"the time limit is {limit}, asked for {job.minutes} min"
    return None


def _gpus(gres: str, model: str | None) -> int:
    """GPUs of a model in sinfo's list, such as ``gpu:h100:4(S:0-1),nvme:1``."""
    total = 0
    for item in gres.split(","):
        name, *rest = item.split("(")[0].split(":")
        if name == "gpu" and rest and (model is None or rest[0] == model):
            total += int(rest[-1])
    return total


def _minutes(limit: str) -> float:
    """sinfo's ``[days-][hours:]minutes:seconds`` in minutes."""
    if limit in ("infinite", "n/a"):
        return float("inf")
    days, _, clock = limit.rpartition("-")
    hours, minutes, seconds = ([0, 0, 0] + [int(part) for part in clock.split(":")])[-3:]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def run_probe(job: JobClass, folder: Path, wait: int) -> str:
    """A real job: it sees this folder, this folder sees it, and torch sees the GPUs."""
    token = folder / f".mclr-doctor-{uuid.uuid4().hex}.token"
    answer = token.with_suffix(".answer")
    token.write_text("doctor")
    try:
        found = json.loads(_run(_srun(job), token, wait).splitlines()[-1])
        if not (found["seen"] and answer.exists()):
            raise SiteError(
                f"compute nodes do not share {folder}",
                "clone the repository on a filesystem that all nodes mount",
            )
    finally:
        token.unlink(missing_ok=True)
        answer.unlink(missing_ok=True)
    if found["gpus"] < job.gpus:
        raise SiteError(
            f"torch sees {found['gpus']} of {job.gpus} GPUs",
            "check the driver on the nodes, and that torch is built for it: "
            "python -c 'import torch; print(torch.version.cuda)'",
        )
    return f"ran, shares {folder}, torch sees {found['gpus']} GPUs"


def _srun(job: JobClass) -> list[str]:
    options = {
        "partition": job.partition,
        "account": job.account,
        "gres": ":".join(filter(None, ("gpu", job.gpu_model, str(job.gpus)))) if job.gpus else None,
        "mem": "2000",
        "time": "5",
        "nodes": "1",
        "ntasks": "1",
    }
    return ["srun", "--quiet", *(f"--{key}={value}" for key, value in options.items() if value)]


def _run(srun: list[str], token: Path, wait: int) -> str:
    command = [*srun, sys.executable, "-c", PROBE, str(token)]
    try:
        return ask(*command, seconds=wait)
    except UserError as error:
        raise SiteError(
            str(error), f"see `sinfo`; if the cluster is full, allow more time: --wait {2 * wait}"
        ) from None

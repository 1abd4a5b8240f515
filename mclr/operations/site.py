"""A computing site: what each class of jobs asks of Slurm, told by one small file of the user.

The file is ``$MCLR_SITE``, else ``config/site.yaml``, else nothing and every value is a default.
It describes machines, never the experiment: no result depends on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from mclr.errors import UserError
from mclr.settings.bounded import bounded_yaml
from mclr.settings.section import Count, Section

DEFAULT_PATH = Path("config/site.yaml")
Growing = Callable[[Any, int], int]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.,-]+$")]


class JobClass(Section):
    """What one job of a class asks for; numbers are per node."""

    partition: Word | None = None
    account: Word | None = None
    nodes: Count = 1
    gpus: Annotated[int, Field(ge=0)] = 0
    gpu_model: Word | None = None
    processes: Count | None = None
    cpus: Count = 1
    memory_mb: Count = 2000
    max_memory_mb: Count | None = None
    minutes: Count = 60
    max_minutes: Count | None = None
    checkpointing: bool = False
    """Whether diffusion models keep few activations while training and compute them again."""
    compile: bool = False
    """Whether networks pass through torch.compile: a slow start, then faster passes."""

    @property
    def size(self) -> int:
        """Processes on each node, of jobs that can have several: one per GPU if not told."""
        return self.processes or max(self.gpus, 1)

    @model_validator(mode="after")
    def _limits(self) -> JobClass:
        for name in ("memory_mb", "minutes"):
            limit = getattr(self, f"max_{name}")
            if limit is not None and limit < getattr(self, name):
                raise ValueError(f"max_{name} {limit} is below {name} {getattr(self, name)}")
        if self.gpu_model and not self.gpus:
            raise ValueError("gpu_model without gpus; say how many GPUs a job gets")
        return self


class Site(Section):
    """The classes of jobs of the workflow, and what holds for all of them."""

    account: Word | None = None
    partition: Word | None = None
    warning_seconds: Annotated[int, Field(ge=0, le=3600)] = 120
    """How long before the time limit Slurm asks a job to save its state; 0: at the limit."""
    train: JobClass = JobClass()
    sample: JobClass = JobClass()
    evaluate: JobClass = JobClass()

    @model_validator(mode="after")
    def _few_processes(self) -> Site:
        if self.sample.nodes != 1:
            raise ValueError("sample: these jobs are of one node; remove nodes")
        if (self.evaluate.nodes, self.evaluate.processes or 1) != (1, 1):
            raise ValueError("evaluate: these jobs are one process; remove nodes and processes")
        if self.sample.checkpointing or self.evaluate.checkpointing:
            raise ValueError("checkpointing is for training; write it under train")
        if self.evaluate.compile:
            raise ValueError("compile is for training and sampling; write it under those")
        return self

    def job(self, name: str) -> JobClass:
        """The class ``name`` with the site's account and partition filled in."""
        given: JobClass = getattr(self, name)
        shared = {
            key: getattr(given, key) or getattr(self, key) for key in ("account", "partition")
        }
        return given.model_copy(update=shared)

    def resources(self, name: str) -> dict[str, int | str | Growing]:
        """Snakemake resources of the jobs of class ``name``; memory and time grow with attempts.

        They are no rerun trigger: another site makes no finished job run again.
        """
        job, warning = self.job(name), self.warning_seconds
        asked: dict[str, int | str | Growing | None] = {
            "slurm_partition": job.partition,
            "slurm_account": job.account,
            "nodes": job.nodes,
            "mem_mb": _growing(job.memory_mb, job.max_memory_mb),
            "runtime": _growing(job.minutes, job.max_minutes),
            # To the job steps, not to the batch shell: the training process saves its state.
            "slurm_extra": f"--signal=TERM@{warning}" if warning else None,
            **_accelerators(job),
        }
        return {key: value for key, value in asked.items() if value is not None}


def _growing(value: int, limit: int | None) -> Growing:
    return lambda wildcards, attempt: min(value * attempt, limit or value * attempt)


def _accelerators(job: JobClass) -> dict[str, int | str | None]:
    """GPUs, so that Slurm starts the command once: torchrun is what starts a process per GPU."""
    if job.nodes == 1:
        # Without `tasks`, which would become --ntasks-per-gpu and start the job once per GPU.
        return {"gpu": job.gpus or None, "gpu_model": job.gpu_model}
    words = ["gpu", job.gpu_model, str(job.gpus)]
    return {
        "mpi": "srun",  # the command itself calls srun, over all nodes
        "tasks": job.nodes,
        "tasks_per_gpu": 0,
        "gres": ":".join(filter(None, words)) if job.gpus else None,
    }


def load_site() -> Site:
    """The site of this machine.

    Raises:
        UserError: the file is missing although $MCLR_SITE names it, or is not valid.
    """
    path = site_path()
    if path is None:
        return Site()
    try:
        content = bounded_yaml(path.read_text(encoding="utf-8")) or {}
        return Site.model_validate(content)
    except ValidationError as error:
        lines = [_describe(path, item) for item in error.errors()]
        raise UserError("\n".join(lines)) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"{path}: cannot be read as YAML: {' '.join(str(error).split())}; "
            "see config/site.example.yaml"
        ) from None


def site_path() -> Path | None:
    """The user's file, if there is one."""
    named = os.environ.get("MCLR_SITE")
    if named:
        return Path(named)
    return DEFAULT_PATH if DEFAULT_PATH.exists() else None


def _describe(path: Path, item: Any) -> str:
    """One line for one mistake: file, key, what was expected."""
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        kind = JobClass if len(item["loc"]) > 1 else Site
        return f"{path}: {where}: unknown key; valid keys: {', '.join(kind.model_fields)}"
    if item["type"] == "value_error":
        return f"{path}: " + ": ".join(filter(None, (where, str(item["ctx"]["error"]))))
    return f"{path}: {where}: {item['msg'].lower()}, got {item['input']!r}"

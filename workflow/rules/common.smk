# Configuration, names and helpers shared by all rules.

import atexit
import json
import os
import signal
import sys
import threading
from pathlib import Path
from shlex import quote

from snakemake.logging import logger
from snakemake.persistence.file import FilePersistence

sys.path.insert(0, workflow.basedir)

from mclr.settings.section import canonical
from mclr.config.reading import parse_tier, read_yaml
from mclr.errors import UserError
from mclr.planning.job import NET_FILES
from mclr.planning.jobs import Jobs
from mclr.planning.own import check_own
from mclr.planning.plan import Plan
from mclr.provenance import other_packages
from mclr.forks.server import offer, withdraw
from mclr.operations.record_reading import read_once
from mclr.operations.records import restore
from mclr.report.names import KINDS, figures_of, stem, views_of
from mclr.operations.site import load_site
from mclr.operations.slurm import cancel_left_overs
from mclr.versions.check import moved_since, warning
from mclr.versions.record import load_versions
from mclr.operations.checkout import single_run, use_checkout, without_colours

use_checkout(workflow.basedir)
without_colours(logger.handlers)
read_once(FilePersistence)

# With --sdm apptainer, the image that jobs run in.
if image := os.environ.get("MCLR_IMAGE"):

    container: image


DEFAULT_CONFIG = "config/digits.yaml"
given_configs = [str(path) for path in workflow.config_settings.configfiles or []]

if not given_configs:

    configfile: DEFAULT_CONFIG


try:
    for path in given_configs or [DEFAULT_CONFIG]:
        read_yaml(Path(path))  # Snakemake takes the later one of two equal keys
    TIER = parse_tier(config, ", ".join(given_configs) or DEFAULT_CONFIG)
    PLAN = Plan(TIER)
    JOBS = Jobs(PLAN, views_of(TIER))
    JOBS.require_released()
    SITE = load_site()
    VERSIONS = load_versions(Path(workflow.basedir))
    VERSIONS.require()
    if workflow.is_main_process:
        check_own(PLAN, *map(Path, given_configs))
        restore(TIER.tier)
        restore("theory")
        if found := moved_since(
            Path(workflow.basedir), VERSIONS, Path(".snakemake/mclr-versions.json")
        ):
            print(warning(found), file=sys.stderr)
        if packages := other_packages():
            print(f"mclr: results made now may differ: {packages}", file=sys.stderr)
    if workflow.is_main_process and not workflow.dryrun:
        LOCK = single_run(Path(".snakemake"))
        if workflow.non_local_exec or Path(".snakemake/slurm_logs").exists():
            cancel_left_overs(Path.cwd())
except UserError as error:
    sys.exit(f"mclr: error: {error}")


# Jobs that run on this machine, beside this process, share the time that it takes to import torch;
# not in an image, whose jobs are no forks of a process outside it.
is_beside = not workflow.dryrun and not workflow.non_local_exec and not image
if is_beside and (FORKS := offer()):
    from mclr.forks.benchmarks import see_forks

    see_forks(FORKS)
    atexit.register(withdraw, FORKS)


# Shorthands for the places of a tier's files.
NAME, FILES, RESULTS = TIER.tier, PLAN.files, PLAN.files.results
FINALS = [run.run_id for run in PLAN.runs.values() if run.is_final and run.settings]


wildcard_constraints:
    model="|".join(TIER.models),
    experiment="|".join(PLAN.experiments),
    start="|".join([*TIER.models, *TIER.runs, *PLAN.runs]),
    evaluation="|".join(PLAN.evaluations),
    run="|".join(PLAN.runs),
    final="|".join(FINALS) or "none",
    net="|".join(PLAN.nets),
    resolution=r"\d+",
    shard=r"\d{3}",
    point=r"[^/]+/[^/]+/.+/seed-\d+",


# Input functions and parameters: of a job (``JOBS.sample``) and the wildcards that it is for.


def inputs_of(job, *names):
    """The files that the job reads."""
    return lambda wildcards: job(*(getattr(wildcards, name) for name in names)).inputs


def as_it_is(text):
    """A parameter with text of the user's: braces in a plain one are wildcards to Snakemake."""
    return lambda wildcards: text


def spec_of(job, *names):
    """What the job is told: JSON text."""
    return lambda wildcards: canonical(
        job(*(getattr(wildcards, name) for name in names)).spec
    )


def version_of(job, *names):
    """The version of its results, which changes when they do (workflow/versions.yaml)."""
    return lambda wildcards: VERSIONS.of(
        job(*(getattr(wildcards, name) for name in names)).kind
    )


def nets_made_by(rule):
    """The feature nets that are trained, or taken over, as a constraint of wildcards."""
    made = [folder for folder in PLAN.nets if JOBS.net(folder).rule == rule]
    return "|".join(made) or "none"


# Command-line flags.


def flag_of(name, flag=None):
    """A flag for an input that not every job of a rule has."""
    flag = flag or name
    return lambda wildcards, input: (
        f"--{flag} {quote(str(found))}" if (found := getattr(input, name, "")) else ""
    )


def source_flag(wildcards, input):
    """A published file, or the folder of several."""
    files = [Path(file) for file in input.source]
    return f"--source {quote(str(files[0] if len(files) == 1 else files[0].parent))}"


def net_flags(model):
    return " ".join(
        f"--features {name}={RESULTS}/feature-nets/{folder}"
        for name, folder in JOBS.nets_of(model).items()
    )


def model_of(point):
    return JOBS.points[point].run.model


def evaluated_model(evaluation):
    return PLAN.evaluations[evaluation][0].run.model


def threads_each(wildcards, threads):
    """CPU threads of each of a sampling job's processes."""
    return max(1, threads // SITE.sample.size)


# What `snakemake --report` shows, in the categories Table 1, Figures, Claims and Report page.


PICTURES = {
    FILES.figure(f"{stem(model, kind, net)}.png"): (model, kind, net)
    for model in TIER.models
    for kind, net in figures_of(TIER, model)
}


def shown_figure(path):
    """A figure in Snakemake's report, below its model, if it is a PNG.

    Braces in its label are no wildcards with an invisible sign in them.
    """
    if path not in PICTURES:
        return path
    model, kind, net = PICTURES[path]
    return report(
        path,
        caption="../report/figure.rst",
        category="Figures",
        subcategory=TIER.models[model].label.replace("{", "{\N{WORD JOINER}"),
        labels={
            "figure": KINDS[kind].title,
            "features": net or TIER.report.features,
        },
    )


def shown_table(path):
    """A version of Table 1 in Snakemake's report, if it is a CSV file."""
    if not path.endswith(".csv"):
        return path
    return report(
        path,
        caption="../report/table1.rst",
        category="Table 1",
        labels={"table": Path(path).stem},
    )


def drop_default_rate_limit(workflow):
    """Free the scheduler of Snakemake's own limit of 100 jobs a second; others are kept.

    With a limit, every finished job adds a timer that wakes the scheduler once per timespan until
    the end (Snakemake 9.27; see github.com/snakemake/snakemake/issues/3804): after 500 jobs of
    seconds it took a core of its own.
    """
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def finish_on_interrupt(workflow):
    """Let the first SIGINT end a local run as SIGTERM does: jobs that still run are recorded.

    Snakemake's own way waits for them, too, but then forgets that they ended (9.27: the scheduler
    leaves its loop), so they would be made again. Ctrl-C reaches the jobs themselves, which stop.
    A second one is Snakemake's own. Jobs of Slurm are cancelled as ever.
    """
    if workflow.non_local_exec:
        return

    def gracefully(number, frame):
        signal.signal(number, signal.default_int_handler)
        # Its lock may be held by the very thread that the signal interrupts.
        threading.Thread(target=workflow.scheduler.exit_gracefully).start()

    signal.signal(signal.SIGINT, gracefully)

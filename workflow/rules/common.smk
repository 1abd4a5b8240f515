# Configuration, names and helpers shared by all rules.

import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from mclr.config import canonical
from mclr.read_config import parse_tier
from mclr.errors import UserError
from mclr.plan import Plan, checkpoint_path
from mclr.provenance import code_digest
from mclr.report.names import figure_files
from mclr.site import load_site
from mclr.slurm import cancel_left_overs
from mclr.workflow import single_run, use_checkout

use_checkout(workflow.basedir)

DEFAULT_CONFIG = "config/digits.yaml"
given_configs = [str(path) for path in workflow.config_settings.configfiles or []]

if not given_configs:

    configfile: DEFAULT_CONFIG


try:
    TIER = parse_tier(config, ", ".join(given_configs) or DEFAULT_CONFIG)
    PLAN = Plan(TIER)
    SITE = load_site()
    if workflow.is_main_process and not workflow.dryrun:
        LOCK = single_run(Path(".snakemake"))
        if workflow.non_local_exec or Path(".snakemake/slurm_logs").exists():
            cancel_left_overs(Path.cwd())
except UserError as error:
    sys.exit(f"mclr: error: {error}")


# Shorthands for the places of a tier's files.
NAME = TIER.tier
RESULTS = f"results/{NAME}"
PREPARED = f"data/prepared/{NAME}"
POINTS = {point.path: point for e in PLAN.experiments for point in PLAN.points(e)}
SHARDS = [f"{shard:03d}" for shard in range(TIER.evaluation.shards)]
FINE_TUNED = [e for e in PLAN.experiments if not PLAN.of(e)[0].is_base]
NETS = {name: f"{RESULTS}/feature-nets/{name}" for name in TIER.features}


wildcard_constraints:
    model="|".join(TIER.models),
    experiment="|".join(PLAN.experiments),
    run="|".join(PLAN.runs),
    net="|".join(TIER.features),
    shard=r"\d{3}",


# Input functions and command-line flags of the rules.


def tokenizer_of(model):
    """The tokenizer a model's jobs need: a list that is empty for models of pixels."""
    has_tokenizer = hasattr(TIER.models[model], "tokenizer")
    return [f"{RESULTS}/tokenizers/{model}.safetensors"] if has_tokenizer else []


def base_checkpoint(model):
    """Weights of the trained base model."""
    run = PLAN.runs[f"{model}-base"]
    return checkpoint_path(NAME, run.run_id, run.checkpoints[-1])


def negatives_of(run):
    """DDO contrasts with samples of the frozen base model; the other objectives need none."""
    is_ddo = run.settings.objective.name == "ddo"
    return [f"{RESULTS}/negatives/{run.model}.safetensors"] if is_ddo else []


def tokenizer_flag(wildcards, input):
    return f"--tokenizer {input.tokenizer}" if input.tokenizer else ""


def negatives_flag(wildcards, input):
    return f"--negatives {input.negatives}" if input.negatives else ""


def weights_of(wildcards):
    """The checkpoint that a point samples."""
    point = POINTS[wildcards.point]
    return checkpoint_path(NAME, point.run.run_id, point.step)


def feature_files(wildcards):
    """Every shard of every point of an experiment."""
    return [
        f"{RESULTS}/features/{point.path}/shard-{shard}.parquet"
        for point in PLAN.points(wildcards.experiment)
        for shard in SHARDS
    ]


def checkpoints_of(wildcards):
    """Every checkpoint of an experiment."""
    return [
        checkpoint_path(NAME, run.run_id, step)
        for run in PLAN.of(wildcards.experiment)
        for step in run.checkpoints
    ]

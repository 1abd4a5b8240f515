# Configuration, names and helpers shared by all rules.

import json
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from mclr.config.base import canonical
from mclr.config.features import PublishedFeatures
from mclr.config.models import released_files
from mclr.config.reading import parse_tier
from mclr.data.released import released_paths
from mclr.errors import UserError
from mclr.planning.objectives import check_objectives
from mclr.planning.plan import Plan
from mclr.planning.points import PIXELS, best_path, checkpoint_path, net_folder
from mclr.provenance import other_packages
from mclr.operations.records import restore
from mclr.report.names import (
    KINDS,
    figure_files,
    figures_of,
    similarity_files,
    stem,
    table_files,
)
from mclr.operations.site import load_site
from mclr.operations.slurm import cancel_left_overs
from mclr.versions import kinds
from mclr.versions.check import moved_since, warning
from mclr.versions.stored import load_versions
from mclr.operations.checkout import single_run, use_checkout

use_checkout(workflow.basedir)

DEFAULT_CONFIG = "config/digits.yaml"
given_configs = [str(path) for path in workflow.config_settings.configfiles or []]

if not given_configs:

    configfile: DEFAULT_CONFIG


try:
    TIER = parse_tier(config, ", ".join(given_configs) or DEFAULT_CONFIG)
    PLAN = Plan(TIER)
    SITE = load_site()
    VERSIONS = load_versions(Path(workflow.basedir))
    VERSIONS.require()
    if workflow.is_main_process:
        check_objectives(PLAN)
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


# Shorthands for the places of a tier's files.
NAME = TIER.tier
RESULTS = f"results/{NAME}"
PREPARED = f"data/prepared/{NAME}"
OWN_IMAGES = TIER.data.source == "images"
POINTS = {p.path: p for points in PLAN.evaluations.values() for p in points}
FINALS = [run.run_id for run in PLAN.runs.values() if run.is_final]
SHARDS = [f"{shard:03d}" for shard in range(TIER.evaluation.shards)]
# Experiments with a row in Table 1: `all` keeps their best checkpoints. Of an ablation it is made on demand.
TABULATED = [name for name, experiment in TIER.runs.items() if experiment.final]


wildcard_constraints:
    model="|".join(TIER.models),
    experiment="|".join(PLAN.experiments),
    start="|".join([*TIER.models, *TIER.runs]),
    evaluation="|".join(PLAN.evaluations),
    run="|".join(PLAN.runs),
    final="|".join(FINALS) or "none",
    net="|".join(PLAN.nets),
    resolution=r"\d+",
    shard=r"\d{3}",
    point=r"[^/]+/[^/]+/.+/seed-\d+",


# Input functions and command-line flags of the rules.


def data_at(resolution):
    """The prepared data of one resolution, as the inputs of a job."""
    folder = f"{PREPARED}/{resolution}px" if resolution else PREPARED
    files = {name: f"{folder}/{name}.parquet" for name in ("train", "reference")}
    return files | {"manifest": f"{folder}/manifest.json"}


def data_of(model):
    """The prepared data that a model is trained on and compared with."""
    return data_at(TIER.models[model].resolution)


def manifest_of(model):
    return data_of(model)["manifest"]


def nets_of(model):
    """Folder of each feature net at a model's resolution."""
    resolution = TIER.models[model].resolution
    return {
        net: f"{RESULTS}/feature-nets/{net_folder(net, resolution)}"
        for net in TIER.features
    }


def published_net(net):
    """The settings of a feature net that is taken over as published; None of another."""
    settings = TIER.features[PLAN.nets[net][0]]
    return settings if isinstance(settings, PublishedFeatures) else None


def net_weights(net):
    return [str(path) for path in released_paths(published_net(net).released)]


def net_statistics(net):
    """Published statistics for the side of the images that this net sees, if there are some."""
    side = PLAN.nets[net][1] or getattr(TIER.data, "resolution", None)
    name = published_net(net).statistics.get(side)
    return [str(path) for path in released_paths(name)] if name else []


def net_files(model, file):
    return [f"{folder}/{file}" for folder in nets_of(model).values()]


def net_flags(model):
    return " ".join(
        f"--features {name}={folder}" for name, folder in nets_of(model).items()
    )


# The version of a job's results, which changes when they do (workflow/versions.yaml).


def model_version(command, model):
    return VERSIONS.of(kinds.of_model(command, TIER.models[model]))


def net_version(command, net):
    return VERSIONS.of(kinds.of_net(command, TIER.features[PLAN.nets[net][0]]))


def run_version(run):
    kind = kinds.of_finetuning(TIER.models[run.model], run.settings.objective)
    return VERSIONS.of(kind)


def negatives_version(start):
    return VERSIONS.of(kinds.of_negatives(TIER.models[PLAN.model_of(start)]))


def model_of(point):
    return POINTS[point].run.model


def evaluated_model(evaluation):
    return PLAN.evaluations[evaluation][0].run.model


def tokenizer_of(model):
    """The tokenizer (or autoencoder) a model's jobs need: no file for models of pixels."""
    settings = TIER.models[model]
    has_tokenizer = any(
        getattr(settings, name, None) for name in ("tokenizer", "autoencoder")
    )
    return [f"{RESULTS}/tokenizers/{model}.safetensors"] if has_tokenizer else []


def encoded_of(model):
    """The training images as the model's tokenizer encodes them, or one's own images as pixels.

    Models of pixels of other sources have none: their prepared data are pixels.
    """
    if tokenizer_of(model):
        return [f"{RESULTS}/encoded/{model}.safetensors"]
    if not OWN_IMAGES:
        return []
    side = TIER.models[model].resolution or TIER.data.resolution
    return [f"{RESULTS}/encoded/pixels/{side}px.safetensors"]


def pixels_side(resolution):
    """Where the data of one resolution are: None for the tier's own."""
    return None if int(resolution) == TIER.data.resolution else resolution


def released_of(model, role):
    """The published files of a model's base, guide or tokenizer; none if it is trained here."""
    found = released_files(TIER.models[model]).get(role)
    return [str(path) for path in released_paths(found.released)] if found else []


def source_flag(wildcards, input):
    """A published file, or the folder of several."""
    files = [Path(file) for file in input.source]
    return f"--source {files[0] if len(files) == 1 else files[0].parent}"


def base_checkpoint(model):
    """Weights of the trained base model."""
    run = PLAN.runs[f"{model}-base"]
    return checkpoint_path(NAME, run.run_id, run.checkpoints[-1])


def network_checkpoint(role, model):
    """Weights of a model's base, or of the network that guides it."""
    return base_checkpoint(model) if role == "base" else PLAN.guide_checkpoint(model)


def network_spec(role, model):
    return PLAN.base_spec(model) if role == "base" else PLAN.guide_spec(model)


def negatives_of(run):
    """Samples of the model that a run starts from, where its objective contrasts with them."""
    needed = run.settings.objective.needs.negatives > 0
    return [f"{RESULTS}/negatives/{run.start}.safetensors"] if needed else []


def tokenizer_flag(wildcards, input):
    return f"--tokenizer {input.tokenizer}" if input.tokenizer else ""


def encoded_flag(wildcards, input):
    return f"--encoded {input.encoded}" if input.encoded else ""


def negatives_flag(wildcards, input):
    return f"--negatives {input.negatives}" if input.negatives else ""


def weights_of(wildcards):
    """The checkpoint that a point samples."""
    return PLAN.weights(POINTS[wildcards.point])


def guide_of(wildcards):
    """The network that takes part in the sampling of other weights: the base, or a guide."""
    point = POINTS[wildcards.point]
    if PLAN.guide(point) == "net":
        return PLAN.guide_checkpoint(point.run.model)
    return base_checkpoint(point.run.model) if point.needs_base else []


def guide_flag(wildcards, input):
    return f"--base {input.guide}" if input.guide else ""


def selection_file(experiment):
    return f"{RESULTS}/selections/{experiment}.json"


def selection_of_point(wildcards):
    """The selected guidance, for points that take it."""
    point = POINTS[wildcards.point]
    return selection_file(point.run.experiment) if point.guidance is None else []


def selection_of_evaluation(wildcards):
    """The selected point of the experiment, for evaluations that go on from it."""
    points = PLAN.evaluations[wildcards.evaluation]
    return selection_file(points[0].run.experiment) if points[0].stage != "grid" else []


def selection_flag(wildcards, input):
    return f"--selection {input.selection}" if input.selection else ""


def feature_files(wildcards):
    """Every shard of every point of an evaluation."""
    return [
        f"{RESULTS}/features/{point.path}/shard-{shard}.parquet"
        for point in PLAN.evaluations[wildcards.evaluation]
        for shard in SHARDS
    ]


def checkpoints_of(wildcards):
    """Every checkpoint of an experiment."""
    return [
        checkpoint_path(NAME, run.run_id, step)
        for run in PLAN.of(wildcards.experiment)
        for step in run.checkpoints
    ]


def threads_each(wildcards, threads):
    """CPU threads of each of a sampling job's processes."""
    return max(1, threads // SITE.sample.size)


def tuned_of(wildcards):
    """The best checkpoint that MCLR made of a model, if MCLR was run on it."""
    experiments = PLAN.tuned_by_mclr(wildcards.model)
    return [best_path(NAME, experiments[0])] if experiments else []


def compared_features(wildcards):
    """Features of the base models along γ, and of MCLR along its checkpoints."""
    experiments = [e for model in TIER.models for e in PLAN.tuned_by_mclr(model)]
    bases = [f"{model}-base" for model in TIER.models]
    return [
        f"{RESULTS}/features/{point.path}/shard-{shard}.parquet"
        for experiment in [*bases, *experiments]
        for point in PLAN.points(experiment)
        for shard in SHARDS
    ]


# What `snakemake --report` shows, in the categories Table 1, Figures, Claims and Report page.


PICTURES = {
    f"{RESULTS}/figures/{stem(model, kind, net)}.png": (model, kind, net)
    for model in TIER.models
    for kind, net in figures_of(TIER, model)
}


def shown_figure(path):
    """A figure in Snakemake's report, below its model, if it is a PNG."""
    if path not in PICTURES:
        return path
    model, kind, net = PICTURES[path]
    return report(
        path,
        caption="../report/figure.rst",
        category="Figures",
        subcategory=TIER.models[model].label,
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

# Configuration, names and helpers shared by all rules.

import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from mclr.config import canonical, parse_tier
from mclr.errors import UserError
from mclr.plan import Plan, checkpoint_path
from mclr.provenance import code_digest
from mclr.report.names import figure_files
from mclr.workflow import single_run

DEFAULT_CONFIG = "config/digits.yaml"
given_configs = [str(path) for path in workflow.config_settings.configfiles or []]

if not given_configs:

    configfile: DEFAULT_CONFIG


try:
    TIER = parse_tier(config, ", ".join(given_configs) or DEFAULT_CONFIG)
    PLAN = Plan(TIER)
    if workflow.is_main_process and not workflow.dryrun:
        LOCK = single_run(Path(".snakemake"))
except UserError as error:
    sys.exit(f"mclr: error: {error}")


# Shorthands for the places of a tier's files.
NAME = TIER.tier
RESULTS = f"results/{NAME}"
PREPARED = f"data/prepared/{NAME}"
NETS = {name: f"{RESULTS}/feature-nets/{name}" for name in TIER.features}


wildcard_constraints:
    model="|".join(TIER.models),
    experiment="|".join(PLAN.experiments),
    run="|".join(PLAN.runs),
    net="|".join(TIER.features),
    shard=r"\d{3}",

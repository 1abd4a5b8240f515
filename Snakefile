# The reproducibility pipeline of the MCLR paper: one DAG for every tier.
#
#   snakemake --cores 2 all                                     the digits tier
#   snakemake --configfile config/<tier>.yaml --cores 2 all     any other tier
#
# A tier is a configuration file; the rules below never ask which tier they run.

from snakemake.utils import min_version

min_version("9.0")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/base.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/claims.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/track.smk"
include: "workflow/rules/theory.smk"


if JOBS.is_own:

    include: "workflow/rules/images.smk"


localrules:
    all,


# Other targets: table1, figures, claims, report, track, theory, and any file.
rule all:
    default_target: True
    input:
        rules.table1.output,
        rules.figures.output,
        rules.claims.output,
        rules.report.output,
        rules.track.output,
        [FILES.best(experiment) for experiment in JOBS.kept],


onstart:
    drop_default_rate_limit(workflow)
    finish_on_interrupt(workflow)

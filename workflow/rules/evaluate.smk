# Metrics of every point, and the best checkpoint of every fine-tuning experiment.


FINE_TUNED = [e for e in PLAN.experiments if not PLAN.of(e)[0].is_base]


def feature_files(wildcards):
    return [
        f"{RESULTS}/features/{point.path}/shard-{shard}.parquet"
        for point in PLAN.points(wildcards.experiment)
        for shard in SHARDS
    ]


def checkpoints_of(wildcards):
    return [
        checkpoint_path(NAME, run.run_id, step)
        for run in PLAN.of(wildcards.experiment)
        for step in run.checkpoints
    ]


rule evaluate:
    input:
        manifest=rules.prepare.output.manifest,
        nets=[f"{folder}/net.safetensors" for folder in NETS.values()],
        reference=[f"{folder}/reference.parquet" for folder in NETS.values()],
        features=feature_files,
    output:
        f"{RESULTS}/evaluations/{{experiment}}.json",
    params:
        spec=lambda wildcards: canonical(PLAN.evaluate_spec(wildcards.experiment)),
        nets=" ".join(f"--features {name}={folder}" for name, folder in NETS.items()),
        samples=f"{RESULTS}/features",
        code=code_digest("mclr.jobs.evaluation", "mclr.metrics.scores"),
    log:
        f"{RESULTS}/logs/evaluate/{{experiment}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{experiment}}.tsv"
    shell:
        "mclr --log {log} evaluate --spec {params.spec:q} --manifest {input.manifest}"
        " {params.nets} --samples {params.samples} --output {output}"


rule best:
    input:
        evaluation=f"{RESULTS}/evaluations/{{experiment}}.json",
        checkpoints=checkpoints_of,
    output:
        f"{RESULTS}/best/{{experiment}}.safetensors",
    params:
        features=TIER.report.features,
        code=code_digest("mclr.jobs.evaluation"),
    log:
        f"{RESULTS}/logs/best/{{experiment}}.log",
    shell:
        "mclr --log {log} best --evaluation {input.evaluation} --by {params.features}"
        " --output {output}"


rule metrics:
    input:
        evaluations=expand(f"{RESULTS}/evaluations/{{e}}.json", e=PLAN.experiments),
        provenance=expand(f"{RESULTS}/runs/{{run}}/provenance.json", run=PLAN.runs),
    output:
        metrics=f"{RESULTS}/metrics.parquet",
        protocols=f"{RESULTS}/protocols.json",
    params:
        runs=f"{RESULTS}/runs",
        code=code_digest("mclr.jobs.evaluation"),
    log:
        f"{RESULTS}/logs/metrics.log",
    shell:
        "mclr --log {log} metrics --runs {params.runs} --output {output.metrics}"
        " --protocols {output.protocols} {input.evaluations}"

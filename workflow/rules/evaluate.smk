# Metrics of every point, and the best checkpoint of every fine-tuning experiment.


localrules:
    best,
    metrics,


rule evaluate:
    input:
        manifest=rules.prepare.output.manifest,
        nets=[f"{folder}/net.safetensors" for folder in NETS.values()],
        reference=[f"{folder}/reference.parquet" for folder in NETS.values()],
        features=feature_files,
    output:
        f"{RESULTS}/evaluations/{{experiment}}.json",
    log:
        f"{RESULTS}/logs/evaluate/{{experiment}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{experiment}}.tsv"
    conda:
        "../../environment.yml"
    threads: SITE.evaluate.cpus
    resources:
        **SITE.resources("evaluate"),
    params:
        spec=lambda wildcards: canonical(PLAN.evaluate_spec(wildcards.experiment)),
        nets=" ".join(f"--features {name}={folder}" for name, folder in NETS.items()),
        samples=f"{RESULTS}/features",
        code=code_digest("mclr.jobs.evaluation", "mclr.metrics.scores"),
    shell:
        "python -m mclr --threads {threads} --log {log} evaluate"
        " --spec {params.spec:q} --manifest {input.manifest}"
        " {params.nets} --samples {params.samples} --output {output}"


rule best:
    input:
        evaluation=f"{RESULTS}/evaluations/{{experiment}}.json",
        checkpoints=checkpoints_of,
    output:
        f"{RESULTS}/best/{{experiment}}.safetensors",
    log:
        f"{RESULTS}/logs/best/{{experiment}}.log",
    conda:
        "../../environment.yml"
    params:
        features=TIER.report.features,
        code=code_digest("mclr.jobs.selection"),
    shell:
        "python -m mclr --log {log} best --evaluation {input.evaluation} --by {params.features}"
        " --output {output}"


rule metrics:
    input:
        evaluations=expand(f"{RESULTS}/evaluations/{{e}}.json", e=PLAN.experiments),
        provenance=expand(f"{RESULTS}/runs/{{run}}/provenance.json", run=PLAN.runs),
    output:
        metrics=f"{RESULTS}/metrics.parquet",
        protocols=f"{RESULTS}/protocols.json",
    log:
        f"{RESULTS}/logs/metrics.log",
    conda:
        "../../environment.yml"
    params:
        runs=lambda wildcards: f"{RESULTS}/runs",
        code=code_digest("mclr.jobs.selection"),
    shell:
        "python -m mclr --log {log} metrics --runs {params.runs} --output {output.metrics}"
        " --protocols {output.protocols} {input.evaluations}"

# Metrics of every point, and the best checkpoint of every fine-tuning experiment.


localrules:
    select,
    best,
    metrics,


rule evaluate:
    input:
        manifest=lambda wildcards: manifest_of(evaluated_model(wildcards.evaluation)),
        nets=lambda wildcards: net_files(
            evaluated_model(wildcards.evaluation), "net.safetensors"
        ),
        reference=lambda wildcards: net_files(
            evaluated_model(wildcards.evaluation), "reference.parquet"
        ),
        selection=selection_of_evaluation,
        features=feature_files,
    output:
        f"{RESULTS}/evaluations/{{evaluation}}.json",
    log:
        f"{RESULTS}/logs/evaluate/{{evaluation}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/evaluate/{{evaluation}}.tsv"
    conda:
        "../../environment.yml"
    threads: SITE.evaluate.cpus
    resources:
        **SITE.resources("evaluate"),
    params:
        spec=lambda wildcards: canonical(PLAN.evaluate_spec(wildcards.evaluation)),
        nets=lambda wildcards: net_flags(evaluated_model(wildcards.evaluation)),
        selection=selection_flag,
        samples=f"{RESULTS}/features",
        version=VERSIONS.of("evaluate"),
    shell:
        "python -m mclr --threads {threads} --log {log} evaluate"
        " --spec {params.spec:q} --manifest {input.manifest}"
        " {params.nets} --samples {params.samples} {params.selection} --output {output}"


rule select:
    input:
        f"{RESULTS}/evaluations/{{experiment}}.json",
    output:
        f"{RESULTS}/selections/{{experiment}}.json",
    log:
        f"{RESULTS}/logs/select/{{experiment}}.log",
    conda:
        "../../environment.yml"
    params:
        features=TIER.report.nets[0],
        version=VERSIONS.of("select"),
    shell:
        "python -m mclr --log {log} select --evaluation {input} --by {params.features}"
        " --output {output}"


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
        features=TIER.report.nets[0],
        version=VERSIONS.of("best"),
    shell:
        "python -m mclr --log {log} best --evaluation {input.evaluation} --by {params.features}"
        " --output {output}"


rule metrics:
    input:
        evaluations=expand(f"{RESULTS}/evaluations/{{e}}.json", e=PLAN.evaluations),
        floors=expand(f"{RESULTS}/evaluations/{{model}}-real.json", model=TIER.models),
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
        version=VERSIONS.of("metrics"),
    shell:
        "python -m mclr --log {log} metrics --runs {params.runs} --output {output.metrics}"
        " --protocols {output.protocols} {input.evaluations} {input.floors}"

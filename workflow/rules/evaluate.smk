# Metrics of every point, and the best checkpoint of every fine-tuning experiment.


localrules:
    select,
    best,
    metrics,


rule evaluate:
    input:
        unpack(inputs_of(JOBS.evaluate, "evaluation")),
    output:
        FILES.evaluation("{evaluation}"),
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
        spec=spec_of(JOBS.evaluate, "evaluation"),
        nets=lambda wildcards: net_flags(evaluated_model(wildcards.evaluation)),
        selection=flag_of("selection"),
        samples=f"{RESULTS}/features",
        version=VERSIONS.of("evaluate"),
    shell:
        "python -m mclr --threads {threads} --log {log} evaluate"
        " --spec {params.spec:q} --manifest {input.manifest}"
        " {params.nets} --samples {params.samples} {params.selection} --output {output}"


rule select:
    input:
        FILES.evaluation("{experiment}"),
    output:
        FILES.selection("{experiment}"),
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
        unpack(inputs_of(JOBS.best, "experiment")),
    output:
        FILES.best("{experiment}"),
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
        **JOBS.metrics().inputs,
    output:
        **JOBS.metrics().outputs,
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
